"""HTML pages: rendered on the server, readable without JavaScript, closed against everything that is not theirs.

Rules that hold here
- Jinja2 is imported with the first page, escapes everything, and takes templates from this package only.
- Every page has a strict Content-Security-Policy: nothing but our own stylesheet, scripts only with this answer's
  nonce, no frames around it, forms only to us. The app that opened it in a window has no hold on that window.
- Pages whose forms lead back to an app say nothing of where forms may go: Chromium applies form-action to every
  redirect after a form, and an app may lead on to anywhere, a broker to its app, a website to its mobile app's scheme.
- Pages are never cached and never say where somebody came from.
"""

from __future__ import annotations

import secrets
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microdot import Request, Response

from pds_lite.http.asgi import WebApp

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
STATIC = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
"""Every file that is served, with its type."""


def mount(app: WebApp) -> None:
    """Adds the route of the files that pages need."""

    @app.route("/static/<name>", methods=["GET", "HEAD"])
    async def static(_request: Request, name: str) -> Response:
        if name not in STATIC:
            return Response("not found\n", 404, {"Content-Type": "text/plain; charset=utf-8"})
        headers = {"Content-Type": STATIC[name], "Cache-Control": "public, max-age=86400, immutable"}
        return Response(_static(name), 200, {**headers, "X-Content-Type-Options": "nosniff"})


def render(
    template: str, request: Request, *, status: int = 200, leads_to_app: bool = False, **context: Any
) -> Response:
    """The page `template` with `context`; `leads_to_app` if its forms may end at an app."""
    nonce = secrets.token_urlsafe(16)
    style, icon = static_url("style.css"), static_url("icon.svg")
    html = (
        _environment().get_template(template).render(nonce=nonce, style=style, icon=icon, path=request.path, **context)
    )
    return Response(html.encode(), status, page_headers(nonce, leads_to_app=leads_to_app))


def page_headers(nonce: str, *, leads_to_app: bool = False) -> dict[str, str]:
    """The headers of every page."""
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; script-src 'nonce-{nonce}'"
    )
    if not leads_to_app:
        policy += "; form-action 'self'"
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-store",
    }


def static_url(name: str) -> str:
    """Where a file of STATIC is; the URL changes with its content, so that it may be cached for long."""
    return f"/static/{name}?{_version(name)}"


@cache
def _static(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()


@cache
def _version(name: str) -> str:
    return sha256(_static(name)).hexdigest()[:12]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
