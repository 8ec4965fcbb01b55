"""The authorization page: sign in, say yes or no, go back to the app.

    GET   show the step that is due: sign-in, consent, or straight back to the app. A request that was not pushed but
          comes along in the query is taken in first
    POST  form#sign-in, then form#consent (decisions.md); each ends in a redirect, so that a reload repeats nothing

Rules that hold here
- Nobody is sent on to an app without having signed in or pressed a button, so that no link to this page can be bent to
  lead elsewhere (RFC 9700 4.11.2). Only prompt=none, which must not show a page, is answered at once.
- The owner is asked by name and address of the app, never by what the app calls itself.
- An app that asks for another account than the one that lives here gets none.
- Only the page that is open in this browser can answer (web/browser_session), and only for its own request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from microdot import Request, Response

from pds_lite.errors import OAuthError, PdsError, RateLimited, Unauthorized
from pds_lite.http.client_address import rate_key
from pds_lite.services.rate_limits import EVERYTHING, OAUTH
from pds_lite.services.sign_in import CODE_NEEDED, CODE_WRONG, Caller
from pds_lite.web import browser_session, passkey_form
from pds_lite.web.account_visit import words
from pds_lite.web.oauth import form_parameters, log_refusal
from pds_lite.web.pages import page_headers, render
from pds_lite.web.scope_words import GROUPS, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pds_lite.services.bundle import Services
    from pds_lite.services.oauth.authorize import Answer, Authorization
    from pds_lite.services.oauth.par import Request as Asked
    from pds_lite.storage.account_store import Account
    from pds_lite.web.browser_session import Form

PATH = "/oauth/authorize"
NOTHING_DONE = "Nothing has changed in your account."


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request of the owner's browser to this page."""

    services: Services
    request: Request
    asked: Asked
    account: Account

    @property
    def browser(self) -> str:
        """The id of the browser."""
        return browser_session.browser_id(self.services, self.request)

    def page(self, template: str, **context: Any) -> Response:
        """A page of this request, whose forms may lead back to the app."""
        token = browser_session.csrf_token(self.services, self.browser)
        common = {"client_id": self.asked.client_id, "request_uri": self.asked.uri, "csrf": token}
        response = render(
            template,
            self.request,
            leads_to_app=True,
            client=_shown(self.asked),
            handle=self.account.handle,
            host=urlsplit(self.services.config.public_url).netloc,
            fields={**common, "step": template.removesuffix(".html")},
            refusal={**common, "step": "refuse"},
            **context,
        )
        return browser_session.keep_browser(self.services, self.request, response)

    def back(self, answer: Answer) -> Response:
        """The answer on its way to the app."""
        if answer.mode != "form_post":
            return _redirect(answer.location)
        page = render(
            "form_post.html",
            self.request,
            leads_to_app=True,
            action=answer.redirect_uri,
            client=_shown(self.asked),
            fields=answer.parameters,
        )
        page.headers["Referrer-Policy"] = "no-referrer"
        return page


async def show(services: Services, request: Request) -> Response:
    """The step that is due."""
    if request.headers.get("sec-fetch-dest", "document") != "document":
        return _message(request, "This page cannot be shown inside another", ["Open it in a window of its own."])
    try:
        services.limits.take((EVERYTHING,), rate_key(request.client_addr[0]))
        parameters = form_parameters((request.query_string or "").encode())
        if "client_id" in parameters and "request_uri" not in parameters:
            return await _take_in(services, request, parameters)
        return await _due(_visit(services, request, parameters.get("request_uri", ""), parameters.get("client_id", "")))
    except PdsError as problem:
        return _refused(request, problem)


async def take_form(services: Services, request: Request) -> Response:
    """The owner's answer to a step."""
    try:
        services.limits.take((EVERYTHING,), rate_key(request.client_addr[0]))
        form = await browser_session.read_form(services, request)
        visit = _visit(services, request, form.get("request_uri"), form.get("client_id"))
        if form.get("decision") == "reject":
            error, reason = visit.asked.problem or ("access_denied", "The owner said no")
            return visit.back(_authorization(services).refuse(visit.asked, error, reason))
        if form.get("step") == "sign_in":
            return await _sign_in(visit, form)
        if form.get("step") == "consent" and form.get("decision") == "accept":
            return await _agree(visit, form)
        raise OAuthError("This form is not complete.")
    except PdsError as problem:
        return _refused(request, problem)


async def _take_in(services: Services, request: Request, parameters: Mapping[str, str]) -> Response:
    """Takes a request in that came by browser: its page. Where its forms lead has an address that can be reloaded."""
    account = services.account.require()
    services.limits.take((OAUTH,), rate_key(request.client_addr[0]))
    try:
        asked = await services.oauth().par.bring(parameters, browser_session.browser_id(services, request))
    except OAuthError as problem:
        log_refusal(services, request, parameters["client_id"], problem.error, problem.message)
        lines = ["It did not ask in a way that this server understands, so you were not sent on to it.", NOTHING_DONE]
        return _message(request, "This app cannot sign in", lines, technical=problem.message)
    if asked.problem is not None:
        log_refusal(services, request, asked.client_id, *asked.problem)
    return await _due(_Visit(services, request, asked, account))


def _visit(services: Services, request: Request, request_uri: str, client_id: str) -> _Visit:
    account = services.account.require()
    if not request_uri or not client_id:
        raise OAuthError("This page is for apps that want to sign in: request_uri or client_id is missing.")
    asked = _authorization(services).open(request_uri, client_id, browser_session.browser_id(services, request))
    return _Visit(services, request, asked, account)


async def _due(visit: _Visit) -> Response:
    asked, authorization = visit.asked, _authorization(visit.services)
    silent = asked.prompt == "none"
    if asked.problem is not None:
        error, reason = asked.problem
        if silent:
            return visit.back(authorization.refuse(asked, error, reason))
        return visit.page("refused.html", reason=reason)
    if not await _hint_is_ours(visit):
        if silent:
            return visit.back(authorization.refuse(asked, "login_required", "Another account lives here"))
        return visit.page("other_account.html", hint=asked.login_hint)
    if not await _is_signed_in(visit):
        if silent:
            return visit.back(authorization.refuse(asked, "login_required", "The owner is not signed in here"))
        return _sign_in_page(visit)
    asked.is_owners = True
    if visit.account.status != "active":
        return visit.back(authorization.refuse(asked, "access_denied", "The account is deactivated on this server"))
    if not authorization.needs_consent(asked):
        return visit.back(authorization.agree(asked, visit.account.did, asked.scopes.texts))
    if silent:
        return visit.back(authorization.refuse(asked, "consent_required", "The owner has to be asked"))
    return await _consent_page(visit)


async def _is_signed_in(visit: _Visit) -> bool:
    """In this browser; for prompt=login, by the password given for this very request."""
    if visit.asked.prompt == "login" and not visit.asked.signed_in:
        return False
    return await browser_session.current(visit.services, visit.request) is not None


async def _hint_is_ours(visit: _Visit) -> bool:
    """Whether the account the app asks for is the one that lives here, under whatever name it is known."""
    hint = visit.asked.login_hint
    if hint is None or hint in (visit.account.handle, visit.account.did.lower()):
        return True
    if hint.startswith("did:"):
        return False
    try:
        return await visit.services.identity.resolve_handle(hint) == visit.account.did
    except PdsError:
        return False


def _sign_in_page(visit: _Visit, problem: str = "", *, username: str | None = None) -> Response:
    return visit.page(
        "sign_in.html",
        problem=problem,
        asks_code=visit.asked.typed is not None,
        passkey="" if visit.asked.typed else passkey_form.request_options(visit.services, visit.browser),
        username=username if username is not None else visit.account.handle,
    )


async def _sign_in(visit: _Visit, form: Form) -> Response:
    """Checks what was typed. The password that only waits for its code is kept with the request, not on the page."""
    asked, services = visit.asked, visit.services
    held, asked.typed = asked.typed, None
    name, password, remember = held or (form.get("username"), form.get("password"), form.get("remember") == "yes")
    caller = Caller("oauth", visit.request.client_addr[0], asked.client_id)
    try:
        if form.get("passkey"):
            await passkey_form.check(services, caller, visit.browser, form.get("passkey"))
        else:
            await services.sign_in.check(caller, name, password, form.get("code") or None)
    except (Unauthorized, RateLimited) as problem:
        if problem.error in (CODE_NEEDED, CODE_WRONG):
            asked.typed = (name, password, remember)
        return _sign_in_page(visit, _why_not(problem), username=name)
    asked.signed_in = True
    response = _redirect(_page_url(asked))
    await browser_session.sign_in(services, visit.request, response, remember=remember)
    return response


def _why_not(problem: PdsError) -> str:
    if problem.error == CODE_NEEDED:
        return ""
    if problem.message == passkey_form.REFUSED:
        return passkey_form.REFUSED
    if problem.error == CODE_WRONG:
        return "The code is not right. Wait for the next one, or use a recovery code."
    if isinstance(problem, RateLimited):
        return words(problem)
    return "The handle or the password is not right. An app password does not work here."


async def _consent_page(visit: _Visit) -> Response:
    scopes = visit.asked.scopes
    sets = await visit.services.oauth().permission_sets.all_of(scopes)
    items = describe(scopes.texts, sets)
    groups = [(group, [item for item in items if item.group == group]) for group in GROUPS]
    return visit.page(
        "consent.html",
        groups=[(group, members) for group, members in groups if members],
        account_page=f"{visit.services.config.public_url}/account",
    )


async def _agree(visit: _Visit, form: Form) -> Response:
    if not await _is_signed_in(visit) or visit.account.status != "active" or not await _hint_is_ours(visit):
        return await _due(visit)
    agreed = form.all("scope")
    return visit.back(_authorization(visit.services).agree(visit.asked, visit.account.did, agreed))


def _authorization(services: Services) -> Authorization:
    return services.oauth().authorization


def _page_url(asked: Asked) -> str:
    return f"{PATH}?{urlencode({'client_id': asked.client_id, 'request_uri': asked.uri})}"


def _shown(asked: Asked) -> dict[str, Any]:
    """How the app is named: by its address, since its own name proves nothing."""
    back = urlsplit(asked.redirect_uri)
    if back.scheme not in ("http", "https"):
        back_to = f"the app on this device that answers to {back.scheme}:"
    else:
        back_to = f"{'a program on this device, ' if back.scheme == 'http' else ''}{back.scheme}://{back.netloc}"
    return {
        "id": asked.client_id,
        "host": "A program on this device" if asked.is_local else urlsplit(asked.client_id).netloc,
        "is_local": asked.is_local,
        "back_to": back_to,
    }


def _redirect(location: str) -> Response:
    headers = page_headers("none")
    headers["Referrer-Policy"] = "no-referrer"
    return Response(b"", 303, {**headers, "Location": location})


def _refused(request: Request, problem: PdsError) -> Response:
    status = problem.status if 400 <= problem.status < 600 else 500
    page = _message(
        request,
        "This sign-in cannot go on",
        [words(problem), "Go back to the app and begin again."],
        status=status,
    )
    if isinstance(problem, RateLimited):
        page.headers["Retry-After"] = str(problem.retry_after)
    return page


def _message(request: Request, title: str, lines: list[str], *, technical: str = "", status: int = 400) -> Response:
    return render("message.html", request, status=status, title=title, lines=lines, technical=technical)
