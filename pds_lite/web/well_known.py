"""/.well-known: what others look up to find out who lives here.

`atproto-did` proves the handle and so answers for the account's handle as Host only, and while a new handle is being
proved for that one; for every other name it is a 404, or the box would vouch for names that merely point at it.
`did.json` is the document of did:web:<host>: the service's own, or the account's if that is a did:web of this host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microdot import Request, Response

from pds_lite import ujson
from pds_lite.atproto import did_doc
from pds_lite.http.asgi import WebApp

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        if account is None or not services.handles.answers_for(host.partition(":")[0]):
            return Response("no such handle here\n", 404, TEXT)
        return Response(account.did, 200, TEXT)

    @app.route("/.well-known/did.json", methods=READ)
    async def did_json(_request: Request) -> Response:
        return Response(ujson.dumpb(await host_document(services)), 200, JSON)


async def host_document(services: Services) -> Mapping[str, object]:
    """The DID document of did:web:<this host>."""
    account = services.account.account
    did = services.config.service_did
    if account is not None and account.did == did:
        # Also while it is not active: the identity is served here, whatever becomes of the account.
        return (await services.identity.did_doc(did)).document
    return did_doc.build(did, services=[did_doc.pds_service(services.config.public_url)])
