"""/.well-known: what others look up to find out who lives here.

`atproto-did` proves the handle and so answers for the account's handle as Host only; for every other name it is a 404,
or the box would vouch for names that merely point at it. `did.json` is the document of did:web:<host>: the service's
own, or the account's if that is a did:web of this host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microdot import Request, Response

from pds_lite import ujson
from pds_lite.atproto import did_doc
from pds_lite.http.asgi import WebApp

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

TEXT = {"Content-Type": "text/plain; charset=utf-8"}
READ = ["GET", "HEAD"]
JSON = {"Content-Type": "application/json"}


def mount(app: WebApp, services: Services) -> None:
    """Adds the routes."""

    @app.route("/.well-known/atproto-did", methods=READ)
    async def atproto_did(request: Request) -> Response:
        account = services.account.account
        host = request.headers.get("host", "").lower()
        if account is None or host.partition(":")[0] != account.handle:
            return Response("no such handle here\n", 404, TEXT)
        return Response(account.did, 200, TEXT)

    @app.route("/.well-known/did.json", methods=READ)
    async def did_json(_request: Request) -> Response:
        return Response(ujson.dumpb(host_document(services)), 200, JSON)


def host_document(services: Services) -> dict[str, object]:
    """The DID document of did:web:<this host>."""
    account = services.account.account
    did = services.config.service_did
    if account is not None and account.did == did:
        document = services.account.did_document()
        if document is not None:
            return document
    return did_doc.build(did, services=[did_doc.pds_service(services.config.public_url)])
