"""One request to the account page: who it is, how its pages are put together, and how words are found for times.

Rules that hold here
- Every page carries the CSRF token of its browser and the sections; a form that fails shows its section again, with
  what was wrong on top and at the field.
- `prove` stands before everything that cannot be undone: the password, unless it was shown a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from microdot import Request, Response

from pds_lite.errors import BadInput, PdsError, RateLimited, Unauthorized
from pds_lite.services.sign_in import Caller
from pds_lite.web import browser_session
from pds_lite.web.pages import page_headers, render

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.browser_session_store import BrowserSession
    from pds_lite.web.browser_session import Form

SECTIONS = {
    "": "Overview",
    "apps": "Apps and sessions",
    "security": "Security",
    "address": "Address",
    "email": "E-mail",
    "codes": "Codes",
    "data": "Your data",
    "danger": "Leaving",
    "log": "Sign-in log",
}
"""Name in the URL -> in the menu, in the order of the menu."""


class FieldProblem(BadInput):
    """What a person filled in wrong, and in which field (its HTML id)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a browser in which the owner is signed in."""

    services: Services
    request: Request
    browser: str
    account: Account
    session: BrowserSession
    form: Form | None = None
    """What was sent, while it is judged: a form that fails keeps what was typed, but for passwords."""

    @property
    def caller(self) -> Caller:
        """For the sign-in log."""
        return caller_of(self.request)

    @property
    def fresh(self) -> bool:
        """Whether the password was shown a moment ago."""
        return self.services.browsers.is_fresh(self.session)

    def page(self, section: str, template: str, *, problem: PdsError | None = None, **context: Any) -> Response:
        """The page of a section."""
        response = render(
            template,
            self.request,
            status=200 if problem is None else _status(problem),
            sections=SECTIONS,
            section=section,
            handle=self.account.handle,
            did=self.account.did,
            host=urlsplit(self.services.config.public_url).netloc,
            csrf=browser_session.csrf_token(self.services, self.browser),
            fresh=self.fresh,
            time=time_words,
            problem=words(problem) if problem is not None else "",
            problem_field=problem.field if isinstance(problem, FieldProblem) else "",
            typed=self._typed(problem),
            **context,
        )
        if isinstance(problem, RateLimited):
            response.headers["Retry-After"] = str(problem.retry_after)
        return browser_session.keep_browser(self.services, self.request, response)

    def _typed(self, problem: PdsError | None) -> Callable[[str], str]:
        form = self.form
        return form.get if form is not None and problem is not None else lambda _name: ""

    async def prove(self, form: Form) -> None:
        """Asks for the password, unless it was shown a moment ago. Raises FieldProblem, RateLimited."""
        if self.fresh:
            return
        await self.prove_now(form)

    async def prove_now(self, form: Form) -> None:
        """Asks for the password in any case. Raises FieldProblem, RateLimited."""
        password, field = form.get("current-password"), _password_field(form)
        if not password:
            raise FieldProblem(field, "Type your password to confirm this.")
        try:
            await self.services.sign_in.confirm(self.caller, password)
        except Unauthorized:
            raise FieldProblem(field, "The password is not right.") from None
        self.services.browsers.proved(self.session)


def _password_field(form: Form) -> str:
    """The HTML id of the password in this form: a page may have several, one for each thing that it can do."""
    return "-".join(part for part in (form.get("action"), form.get("id"), "password") if part)


def caller_of(request: Request) -> Caller:
    """Who sends this request, for throttle and log."""
    return Caller("page", request.client_addr[0], request.headers.get("user-agent", ""))


def redirect(location: str) -> Response:
    """To another page of ours, after a form: so that a reload repeats nothing."""
    return Response(b"", 303, {**page_headers("none"), "Location": location})


def words(problem: PdsError) -> str:
    """A problem as a sentence for the owner, who may also read its hint."""
    message = (problem.message or problem.error).rstrip(".")
    if isinstance(problem, RateLimited):
        minutes = max(1, round(problem.retry_after / 60))
        return f"{message}. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
    return f"{message[:1].upper()}{message[1:]}."


def time_words(microseconds: int) -> str:
    """A time as people read it: 22 Nov 2026, 16:05 UTC."""
    if microseconds <= 0:
        return "never"
    when = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def _status(problem: PdsError) -> int:
    return problem.status if 400 <= problem.status < 600 else 500
