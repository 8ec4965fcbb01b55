"""What the forms of the account page do: one function for each (section, action).

Rules that hold here
- A form that cannot be undone, or that would let somebody else in, asks for the password first (`Visit.prove`).
- What ends the account here is confirmed by typing the handle, once.
- Each ends in a redirect to its section, except where something is shown this once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from microdot import Response

from pds_lite.errors import BadInput
from pds_lite.services.account import MAX_PASSWORD, MIN_PASSWORD
from pds_lite.services.codes import Purpose
from pds_lite.services.handle_change import HandleNotProved
from pds_lite.web import browser_session
from pds_lite.web.account_visit import FieldProblem, Visit, redirect
from pds_lite.web.pages import render

if TYPE_CHECKING:
    from pds_lite.web.browser_session import Form


async def _sign_out(visit: Visit, _form: Form) -> Response:
    response = redirect("/account/sign-in")
    await browser_session.sign_out(visit.services, visit.request, response)
    return response


async def _prove(visit: Visit, form: Form) -> Response:
    await visit.prove_now(form)
    return redirect(visit.request.path)


# -- apps and sessions


async def _revoke_grant(visit: Visit, form: Form) -> Response:
    await visit.services.oauth().grants.revoke(form.get("id"))
    return redirect("/account/apps?done=revoked")


async def _end_session(visit: Visit, form: Form) -> Response:
    await visit.services.sessions.end(form.get("id"))
    return redirect("/account/apps?done=revoked")


async def _end_browser(visit: Visit, form: Form) -> Response:
    await visit.services.browsers.end(form.get("id"))
    return redirect("/account/apps?done=revoked")


async def _make_app_password(visit: Visit, form: Form) -> Response:
    name = form.get("name").strip()
    if not name:
        raise FieldProblem("name", "Give it a name, so that you know it again: the app's, for instance.")
    await visit.prove(form)
    try:
        row, text = await visit.services.account.create_app_password(name, privileged=form.get("privileged") == "yes")
    except BadInput as problem:
        raise FieldProblem("name", problem.message) from None
    return visit.page("apps", "account_secret.html", title="Your new app password", name=row.name, secrets=[text])


async def _revoke_app_password(visit: Visit, form: Form) -> Response:
    await visit.services.account.revoke_app_password(form.get("name"))
    return redirect("/account/apps?done=app-password-gone")


# -- security


async def _change_password(visit: Visit, form: Form) -> Response:
    password = form.get("new-password")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise FieldProblem("new-password", f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")
    await visit.prove_now(form)
    await visit.services.account.set_password(password)
    response = redirect("/account/security?done=password")
    await browser_session.sign_in(visit.services, visit.request, response)
    return response


async def _factor_on(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    try:
        codes = await visit.services.second_factor.switch_on(form.get("code"))
    except BadInput as problem:
        raise FieldProblem("code", problem.message) from None
    return _recovery_codes_page(visit, "The second factor is on", codes)


async def _factor_off(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    await visit.services.second_factor.switch_off()
    return redirect("/account/security?done=factor-off")


async def _new_recovery_codes(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    codes = await visit.services.second_factor.new_recovery_codes()
    return _recovery_codes_page(visit, "Your new recovery codes", codes)


def _recovery_codes_page(visit: Visit, title: str, codes: list[str]) -> Response:
    return visit.page("security", "account_secret.html", title=title, name="", secrets=codes)


async def _add_passkey(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    if not form.get("passkey"):
        raise BadInput("Your browser made no passkey. It needs JavaScript for this, and a screen lock or security key.")
    await visit.services.passkeys().add(visit.browser, form.get("name"), form.get("passkey"))
    return redirect("/account/security?done=passkey")


async def _remove_passkey(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    await visit.services.passkeys().remove(form.get("id"))
    return redirect("/account/security?done=passkey-gone")


# -- address, e-mail


async def _change_handle(visit: Visit, form: Form) -> Response:
    handle = form.get("handle").strip().removeprefix("@")
    await visit.prove(form)
    try:
        await visit.services.handles.update(handle)
    except BadInput as problem:
        told = problem.told if isinstance(problem, HandleNotProved) else problem.message
        raise FieldProblem("handle", told) from None
    return redirect("/account/address?done=handle")


async def _change_email(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    try:
        await visit.services.flows.set_email(form.get("email").strip())
    except BadInput as problem:
        raise FieldProblem("email", problem.message) from None
    return redirect("/account/email?done=email")


async def _confirm_email(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    await visit.services.flows.mark_confirmed()
    return redirect("/account/email?done=confirmed")


# -- codes, leaving


async def _make_plc_code(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    await visit.services.flows.request(Purpose.PLC_OPERATION)
    return redirect("/account/codes")


async def _activate(visit: Visit, form: Form) -> Response:
    await visit.prove(form)
    await visit.services.account.activate()
    visit.services.crawlers.ask_now()
    return redirect("/account/danger?done=active")


async def _deactivate(visit: Visit, form: Form) -> Response:
    _check_handle(visit, form, "deactivate-handle")
    await visit.prove(form)
    await visit.services.account.deactivate()
    return redirect("/account/danger?done=inactive")


async def _delete(visit: Visit, form: Form) -> Response:
    _check_handle(visit, form, "delete-handle")
    await visit.prove_now(form)
    await visit.services.deletion.delete(visit.account.did)
    lines = [
        "Your posts and files are gone from this box, and the network has been told.",
        "Your identity (DID) is still yours: with your recovery key it can live on another host.",
    ]
    return render("message.html", visit.request, title="Your account is deleted", lines=lines)


def _check_handle(visit: Visit, form: Form, field: str) -> None:
    typed = form.get(field).strip().removeprefix("@").lower()
    if typed != visit.account.handle:
        raise FieldProblem(field, f"To go on, type your handle exactly: {visit.account.handle}")


Action = Callable[[Visit, "Form"], Awaitable[Response]]
ACTIONS: dict[tuple[str, str], Action] = {
    ("", "sign-out"): _sign_out,
    ("codes", "prove"): _prove,
    ("authenticator", "prove"): _prove,
    ("passkey", "prove"): _prove,
    ("apps", "revoke-grant"): _revoke_grant,
    ("apps", "end-session"): _end_session,
    ("apps", "end-browser"): _end_browser,
    ("apps", "make-app-password"): _make_app_password,
    ("apps", "revoke-app-password"): _revoke_app_password,
    ("security", "password"): _change_password,
    ("security", "factor-off"): _factor_off,
    ("security", "recovery-codes"): _new_recovery_codes,
    ("security", "remove-passkey"): _remove_passkey,
    ("authenticator", "factor-on"): _factor_on,
    ("passkey", "add-passkey"): _add_passkey,
    ("address", "handle"): _change_handle,
    ("email", "email"): _change_email,
    ("email", "confirm"): _confirm_email,
    ("codes", "plc-code"): _make_plc_code,
    ("danger", "activate"): _activate,
    ("danger", "deactivate"): _deactivate,
    ("danger", "delete"): _delete,
}
"""(section, the form's field `action`) -> what it does."""
