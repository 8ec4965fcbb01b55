"""The cookies of the pages: which browser this is, who is signed in to it, and the tokens that prove a form is ours.

Two cookies, both HttpOnly and SameSite=Lax: one names the browser (for CSRF tokens and for OAuth requests begun in it),
the other is the sign-in. On https both are Secure and have the __Host- prefix, so that no other host of the domain can
set them. On the home network, without TLS, they have another name and no Secure: the two never mix.

Rules that hold here
- A form counts only with the token of its browser, and only if the request comes from a page of ours (Origin, where
  the browser sends it).
- The cookie of the sign-in is new after every sign-in.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from microdot import Request, Response

from pds_lite.errors import BadInput, Forbidden
from pds_lite.http.asgi import MAX_FIELDS, form_body
from pds_lite.services.browser_sessions import LIFE_US, digest
from pds_lite.storage.browser_session_store import BrowserSession

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

BROWSER_COOKIE = "pds-lite-browser"
SESSION_COOKIE = "pds-lite-session"
CSRF_FIELD = "csrf"


class Form:
    """The fields of a form."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def get(self, name: str) -> str:
        """The first value of a field, "" without one."""
        return next((value for field, value in self._fields if field == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of a field: of checkboxes, those that are ticked."""
        return [value for field, value in self._fields if field == name]


def browser_id(services: Services, request: Request) -> str:
    """The id of this browser; a new one gets its cookie with the answer (`keep_browser`)."""
    return digest(_browser_cookie(services, request))


async def read_form(services: Services, request: Request) -> Form:
    """The form sent, once it is sure that it comes from a page of ours in this browser. Raises Forbidden, BadInput."""
    body = await form_body(request)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadInput("This form is not complete.") from None
    form = Form(fields)
    origin = request.headers.get("origin")
    expected = csrf_token(services, browser_id(services, request))
    if getattr(request.g, "new_browser", False):
        raise Forbidden("The browser did not send this site's cookie, without which nobody can sign in. Allow cookies.")
    own = origin is None or _is_own_origin(services, request, origin)
    if not own or not hmac.compare_digest(expected.encode(), form.get(CSRF_FIELD).encode("utf-8", "replace")):
        raise Forbidden("This form was open for too long, or does not come from this site. Go back and send it again.")
    return form


async def current(services: Services, request: Request) -> BrowserSession | None:
    """Who is signed in to this browser, None if nobody is."""
    cookie = request.cookies.get(_name(services, request, SESSION_COOKIE), "")
    account = services.account.account
    if not cookie or account is None:
        return None
    session = services.browsers.find(cookie)
    return session if session is not None and session.did == account.did else None


async def sign_in(
    services: Services, request: Request, response: Response, *, remember: bool = False
) -> BrowserSession:
    """Signs the owner in to this browser: `response` carries the cookie, which ends with the browser unless `remember`.

    What proves the owner is checked before.
    """
    old = await current(services, request)
    if old is not None:
        await services.browsers.end(old.id)
    account = services.account.require()
    client = request.headers.get("user-agent", "")
    cookie, session = await services.browsers.open(account.did, client, request.client_addr[0])
    _set_cookie(services, request, response, SESSION_COOKIE, cookie, LIFE_US // 1_000_000 if remember else None)
    return session


async def sign_out(services: Services, request: Request, response: Response) -> None:
    """Ends the sign-in of this browser."""
    session = await current(services, request)
    if session is not None:
        await services.browsers.end(session.id)
    _set_cookie(services, request, response, SESSION_COOKIE, "", 0)


def keep_browser(services: Services, request: Request, response: Response, _browser: str = "") -> Response:
    """`response`, with the cookie of a browser that was not here before."""
    if getattr(request.g, "new_browser", False):
        _set_cookie(services, request, response, BROWSER_COOKIE, _browser_cookie(services, request), None)
    return response


def csrf_token(services: Services, browser: str) -> str:
    """The token that every form shown to this browser carries in its field `csrf`."""
    return hmac.digest(services.keys.jwt_secret, f"csrf {browser}".encode(), "sha256").hex()[:40]


def is_secure(services: Services, request: Request) -> bool:
    """Whether the browser came by https: to the public name always, elsewhere as the connection says."""
    public = urlsplit(services.config.public_url)
    if public.scheme == "https" and request.headers.get("host", "").lower() == public.netloc:
        return True
    return request.scheme == "https"


def _is_own_origin(services: Services, request: Request, origin: str) -> bool:
    host = request.headers.get("host", "").lower()
    parts = urlsplit(origin)
    return origin == services.config.public_url or (bool(host) and parts.netloc.lower() == host)


def _browser_cookie(services: Services, request: Request) -> str:
    known: str | None = getattr(request.g, "browser", None)
    if known is None:
        known = request.cookies.get(_name(services, request, BROWSER_COOKIE), "")
        if not 32 <= len(known) <= 64:
            known = secrets.token_urlsafe(32)
            request.g.new_browser = True
        request.g.browser = known
    return known


def _name(services: Services, request: Request, name: str) -> str:
    return f"__Host-{name}" if is_secure(services, request) else name


def _set_cookie(
    services: Services, request: Request, response: Response, name: str, value: str, max_age: int | None
) -> None:
    attributes = "; Path=/; HttpOnly; SameSite=Lax"
    if max_age is not None:
        attributes += f"; Max-Age={max_age}"
    if is_secure(services, request):
        attributes += "; Secure"
    cookies = response.headers.setdefault("Set-Cookie", [])
    cookies.append(f"{_name(services, request, name)}={value}{attributes}")
