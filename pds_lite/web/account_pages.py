"""The account page: from a request to a section and its forms.

Rules that hold here
- Without a sign-in there is only the sign-in page, which leads back to the section asked for: one of ours, never to
  where a query says.
- A form names what it does in its field `action`; it counts only with the browser's token (web/browser_session). After
  it the browser is sent to the section again, so that a reload repeats nothing; what is shown only once is shown in
  the answer itself.
- A refusal never loses what is on the page: the section comes again, with the sentence on top.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from microdot import Request, Response

from pds_lite.errors import NotFound, PdsError, Unauthorized
from pds_lite.web import account_actions, account_sections, account_sign_in, browser_session
from pds_lite.web.account_visit import SECTIONS, Visit, redirect
from pds_lite.web.pages import render

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services


async def answer(services: Services, request: Request, name: str) -> Response:
    """The answer to a request for /account/<name>."""
    try:
        return await _answer(services, request, name)
    except PdsError as problem:
        lines = [problem.message or problem.error, "Go back and try again."]
        status = problem.status if 400 <= problem.status < 600 else 500
        return render("message.html", request, status=status, title="This did not work", lines=lines)


async def _answer(services: Services, request: Request, name: str) -> Response:
    if services.account.account is None:
        lines = [
            "The account is made on the box itself, by the command pds-lite init,",
            "or by an app that can sign up or move here, with a code from pds-lite account claim-code.",
        ]
        return render("message.html", request, status=404, title="Nobody lives here yet", lines=lines)
    if name == "sign-in":
        return await account_sign_in.answer(services, request)
    if name not in SECTIONS and name not in account_sections.EXTRA:
        raise NotFound("There is no such page.", status=404)
    session = await browser_session.current(services, request)
    if session is None:
        if request.method == "POST":
            raise Unauthorized("You are not signed in any more.")
        return redirect(f"/account/sign-in?next={name}")
    browser = browser_session.browser_id(services, request)
    visit = Visit(services, request, browser, services.account.require(), session)
    if request.method == "POST":
        return await _take_form(visit, name)
    return await account_sections.show(visit, name)


async def _take_form(visit: Visit, name: str) -> Response:
    form = await browser_session.read_form(visit.services, visit.request)
    action = account_actions.ACTIONS.get((name, form.get("action")))
    if action is None:
        raise NotFound("This form is not complete.", status=400)
    try:
        return await action(visit, form)
    except PdsError as problem:
        return await account_sections.show(replace(visit, form=form), name, problem)
