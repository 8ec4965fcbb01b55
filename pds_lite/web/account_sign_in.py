"""The sign-in page of the account page: password and code, or a passkey where the browser can."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from microdot import Request, Response

from pds_lite.errors import PdsError, RateLimited, Unauthorized
from pds_lite.services.sign_in import CODE_NEEDED, CODE_WRONG
from pds_lite.web import browser_session, passkey_form
from pds_lite.web.account_visit import SECTIONS, caller_of, redirect, words
from pds_lite.web.pages import render

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.web.browser_session import Form


async def answer(services: Services, request: Request) -> Response:
    """Shows the page, or takes its form."""
    if request.method == "POST":
        return await _take_form(services, request)
    section = _section(request.args.get("next", ""))
    if await browser_session.current(services, request) is not None:
        return redirect(_path(section))
    return _page(services, request, section)


async def _take_form(services: Services, request: Request) -> Response:
    form = await browser_session.read_form(services, request)
    section = _section(form.get("next"))
    browser = browser_session.browser_id(services, request)
    try:
        if form.get("passkey"):
            await passkey_form.check(services, caller_of(request), browser, form.get("passkey"))
        else:
            await services.sign_in.check_page(
                caller_of(request), browser, form.get("username"), form.get("password"), form.get("code").strip()
            )
    except (Unauthorized, RateLimited) as problem:
        return _page(services, request, section, problem, form)
    response = redirect(_path(section))
    await browser_session.sign_in(services, request, response, remember=form.get("remember") == "yes")
    return response


def _page(
    services: Services, request: Request, section: str, problem: PdsError | None = None, form: Form | None = None
) -> Response:
    browser = browser_session.browser_id(services, request)
    asks_code = form is not None and services.sign_in.awaits_code(browser)
    sentence = ""
    if problem is not None and problem.error != CODE_NEEDED:
        sentence = _words(problem)
    response = render(
        "account_sign_in.html",
        request,
        status=200 if not sentence else problem.status if problem is not None else 400,
        problem=sentence,
        asks_code=asks_code,
        username=form.get("username") if form is not None else "",
        remember=form is not None and form.get("remember") == "yes",
        host=urlsplit(services.config.public_url).netloc,
        csrf=browser_session.csrf_token(services, browser),
        next=section,
        passkey="" if asks_code else passkey_form.request_options(services, browser),
    )
    if isinstance(problem, RateLimited):
        response.headers["Retry-After"] = str(problem.retry_after)
    return browser_session.keep_browser(services, request, response)


def _words(problem: PdsError) -> str:
    if problem.error == CODE_WRONG:
        return "The code is not right, or was used before. Wait for the next one, or use a recovery code."
    if isinstance(problem, RateLimited):
        return words(problem)
    if problem.message == passkey_form.REFUSED:
        return passkey_form.REFUSED
    return "The handle or the password is not right. An app password does not work here."


def _section(name: str) -> str:
    """A section of ours, whatever the query says."""
    return name if name in SECTIONS else ""


def _path(section: str) -> str:
    return f"/account/{section}" if section else "/account"
