"""com.atproto.identity.*: reading identities. Changing them (handle, PLC operations) is not served yet."""

from __future__ import annotations

from typing import Any

from pds_lite.atproto import plc
from pds_lite.atproto.syntax import is_did, parse_handle
from pds_lite.errors import PdsError
from pds_lite.services.access import Access
from pds_lite.services.bundle import Services
from pds_lite.xrpc.router import Call, query

_NS = "com.atproto.identity."
_INVALID_HANDLE = "handle.invalid"


@query(_NS + "resolveHandle", access=Access.PUBLIC)
async def resolve_handle(services: Services, call: Call) -> dict[str, Any]:
    """The DID of the own handle at once, of any other by DNS and HTTPS."""
    return {"did": await services.identity.resolve_handle(parse_handle(call.params["handle"]))}


@query(_NS + "resolveDid", access=Access.PUBLIC)
async def resolve_did(services: Services, call: Call) -> dict[str, Any]:
    """The DID document, from the cache or its home."""
    document = await services.identity.did_doc(call.params["did"])
    return {"didDoc": document.document}


@query(_NS + "resolveIdentity", access=Access.PUBLIC)
async def resolve_identity(services: Services, call: Call) -> dict[str, Any]:
    """Document and handle of a DID or handle; a handle that does not lead back to the DID is handle.invalid."""
    identifier = call.params["identifier"]
    did = identifier if is_did(identifier) else await services.identity.resolve_handle(parse_handle(identifier))
    document = await services.identity.did_doc(did)
    handle = document.handle or _INVALID_HANDLE
    try:
        proved = document.handle is not None and await services.identity.resolve_handle(handle) == did
    except PdsError:
        proved = False
    return {"did": did, "handle": handle if proved else _INVALID_HANDLE, "didDoc": document.document}


@query(_NS + "getRecommendedDidCredentials", access=Access.SESSION)
async def get_recommended_did_credentials(services: Services, _call: Call) -> dict[str, Any]:
    """What a DID document must say for the account to live here."""
    account = services.account.require()
    operation = plc.genesis(
        [services.keys.rotation.did_key], services.keys.signing.did_key, account.handle, services.config.public_url
    )
    wanted = ("rotationKeys", "alsoKnownAs", "verificationMethods", "services")
    return {name: operation[name] for name in wanted}
