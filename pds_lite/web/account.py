"""The account page's routes. What stands behind them is imported when the first page is opened.

/account says how things are, in one sentence. /account/<section> is one of apps, security, address, email, codes, data,
danger and log, each on a URL of its own. Beside them: sign-in, authenticator, passkey and export.car.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microdot import Request, Response

from pds_lite.http.asgi import WebApp
from pds_lite.http.client_address import rate_key
from pds_lite.services.rate_limits import EVERYTHING

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services


def mount(app: WebApp, services: Services) -> None:
    """Adds the routes."""

    async def answer(request: Request, name: str = "") -> Response:
        from pds_lite.web import account_pages

        services.limits.take((EVERYTHING,), rate_key(request.client_addr[0]))
        return await account_pages.answer(services, request, name)

    for pattern in ("/account", "/account/<name>"):
        app.route(pattern, methods=["GET", "HEAD", "POST"])(answer)
