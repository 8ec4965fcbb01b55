"""com.atproto.identity.*: reading identities, and changing the account's own.

Handlers only translate; the rules are in services/{identity,handle_change,plc_account,codes}. What changes the identity
takes the owner's own session (or an app that was let in for it), never an app password.
"""

from __future__ import annotations

from typing import Any

from pds_lite.atproto.syntax import is_account_did, is_did, is_reserved_handle, parse_handle
from pds_lite.errors import BadInput, NotFound, PdsError
from pds_lite.services.access import ANY_SCOPE, Access
from pds_lite.services.bundle import Services
from pds_lite.services.codes import Purpose
from pds_lite.xrpc.router import Call, procedure, query

_NS = "com.atproto.identity."
_INVALID_HANDLE = "handle.invalid"


@query(_NS + "resolveHandle", access=Access.PUBLIC)
async def resolve_handle(services: Services, call: Call) -> dict[str, Any]:
    """The DID of the own handle at once, of any other by DNS and HTTPS; if they tell nothing, as the AppView knows it:
    many routers at home answer no TXT questions.
    """
    handle = parse_handle(call.params["handle"])
    try:
        return {"did": await services.identity.resolve_handle(handle)}
    except NotFound as unresolved:
        if is_reserved_handle(handle):
            raise
        did = await _did_at_appview(services, handle)
        if did is None:
            raise unresolved from None
        return {"did": did}


async def _did_at_appview(services: Services, handle: str) -> str | None:
    try:
        answer = await services.proxy.ask_appview(_NS + "resolveHandle", {"handle": handle}, signed=False)
    except PdsError:
        return None
    did = answer.get("did")
    return did if isinstance(did, str) and is_account_did(did, services.config.dev) else None


@query(_NS + "resolveDid", access=Access.PUBLIC)
async def resolve_did(services: Services, call: Call) -> dict[str, Any]:
    """The DID document, from the cache or its home."""
    document = await services.identity.did_doc(call.params["did"])
    return {"didDoc": document.document}


@query(_NS + "resolveIdentity", access=Access.PUBLIC)
async def resolve_identity(services: Services, call: Call) -> dict[str, Any]:
    """Document and handle of a DID or handle; a handle that does not lead back to the DID is handle.invalid."""
    return await _identity(services, call.params["identifier"], refresh=False)


@procedure(_NS + "refreshIdentity", access=Access.PUBLIC)
async def refresh_identity(services: Services, call: Call) -> dict[str, Any]:
    """The same, asked anew; rate limited, since each call makes the server ask others."""
    return await _identity(services, call.input["identifier"], refresh=True)


async def _identity(services: Services, identifier: str, *, refresh: bool) -> dict[str, Any]:
    resolve = services.identity.resolve_handle
    did = identifier if is_did(identifier) else await resolve(parse_handle(identifier), refresh=refresh)
    document = await services.identity.did_doc(did, refresh=refresh)
    handle = document.handle or _INVALID_HANDLE
    try:
        proved = document.handle is not None and await resolve(handle, refresh=refresh) == did
    except PdsError:
        proved = False
    return {"did": did, "handle": handle if proved else _INVALID_HANDLE, "didDoc": document.document}


@procedure(_NS + "updateHandle", access=Access.OWNER, oauth="identity:handle")
async def update_handle(services: Services, call: Call) -> None:
    """Another handle, once it leads to the account."""
    await services.handles.update(call.input["handle"])


@query(_NS + "getRecommendedDidCredentials", access=Access.SESSION, oauth=ANY_SCOPE)
async def get_recommended_did_credentials(services: Services, _call: Call) -> dict[str, Any]:
    """What a DID document must say for the account to live here."""
    return await services.plc.recommended()


@procedure(_NS + "requestPlcOperationSignature", access=Access.OWNER, oauth="identity:*")
async def request_plc_operation_signature(services: Services, _call: Call) -> None:
    """A code for signPlcOperation."""
    await services.flows.request(Purpose.PLC_OPERATION)


@procedure(_NS + "signPlcOperation", access=Access.OWNER, oauth="identity:*")
async def sign_plc_operation(services: Services, call: Call) -> dict[str, Any]:
    """An operation with the fields given, the others as they are; for whoever submits it.

    The code is spent at the end, so that a directory that does not answer does not cost it.
    """
    given, code = call.input, call.input.get("token")
    if not code:
        raise BadInput("email confirmation token required to sign PLC operations")
    await services.codes.check(Purpose.PLC_OPERATION, code)
    operation = await services.plc.sign(given)
    await services.codes.consume(Purpose.PLC_OPERATION, code)
    return {"operation": operation}


@procedure(_NS + "submitPlcOperation", access=Access.OWNER, oauth="identity:*")
async def submit_plc_operation(services: Services, call: Call) -> None:
    """Publishes an operation that leaves the account here."""
    await services.plc.submit(call.input["operation"])
    services.crawlers.ask_now()
