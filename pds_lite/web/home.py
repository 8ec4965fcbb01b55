"""The plain pages: a home page that says what this is, and robots.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microdot import Request, Response

from pds_lite.http.asgi import WebApp
from pds_lite.web.well_known import READ, TEXT

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

ROBOTS = "# Everything here is public, and XRPC may be crawled.\nUser-agent: *\nAllow: /\n"


def mount(app: WebApp, services: Services) -> None:
    """Adds the routes."""

    @app.route("/", methods=READ)
    async def home(_request: Request) -> Response:
        return Response(home_text(services), 200, TEXT)

    @app.route("/robots.txt", methods=READ)
    async def robots(_request: Request) -> Response:
        return Response(ROBOTS, 200, TEXT)


def home_text(services: Services) -> str:
    """For a person who opens the host name in a browser."""
    account = services.account.account
    resident = f"@{account.handle} ({account.did})" if account is not None else "nobody yet"
    return (
        "This is pds-lite, an AT Protocol personal data server for one person.\n\n"
        f"  lives here: {resident}\n"
        "  API:        /xrpc/ (https://atproto.com/specs/xrpc)\n"
    )
