"""com.atproto.temp.*: the one that the Bluesky app asks before it lets an account in."""

from __future__ import annotations

from typing import Any

from pds_lite.services.access import Access
from pds_lite.services.bundle import Services
from pds_lite.xrpc.router import Call, query


@query("com.atproto.temp.checkSignupQueue", access=Access.OPTIONAL)
async def check_signup_queue(_services: Services, _call: Call) -> dict[str, Any]:
    """Nobody queues at a box for one."""
    return {"activated": True}
