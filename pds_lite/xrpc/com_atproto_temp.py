"""com.atproto.temp.*: what the Bluesky app asks before it lets an account in, or lets a handle be chosen."""

from __future__ import annotations

from typing import Any

from pds_lite.atproto.syntax import is_reserved_handle, parse_handle
from pds_lite.services.access import Access
from pds_lite.services.bundle import Services
from pds_lite.xrpc.router import Call, query

_NS = "com.atproto.temp."
_AVAILABILITY = _NS + "checkHandleAvailability"


@query(_NS + "checkSignupQueue", access=Access.OPTIONAL)
async def check_signup_queue(_services: Services, _call: Call) -> dict[str, Any]:
    """Nobody queues at a box for one."""
    return {"activated": True}


@query(_NS + "checkHandleAvailability", access=Access.PUBLIC)
async def check_handle_availability(services: Services, call: Call) -> dict[str, Any]:
    """Whether an account of this handle could be made here: on an empty box, any that may be registered at all."""
    handle = parse_handle(call.params["handle"])
    if services.account.account is not None or is_reserved_handle(handle, services.config.dev):
        return {"handle": handle, "result": {"$type": f"{_AVAILABILITY}#resultUnavailable", "suggestions": []}}
    return {"handle": handle, "result": {"$type": f"{_AVAILABILITY}#resultAvailable"}}
