"""com.atproto.moderation.createReport: to the labeler that the caller names, or to the configured report service.

It stands in the table, unlike other methods that are passed on, so that a report is checked before it leaves.
"""

from __future__ import annotations

from pds_lite import ujson
from pds_lite.services.access import HANDLER_ASKS, Access
from pds_lite.services.bundle import Services
from pds_lite.xrpc.proxying import reply_of, send_on
from pds_lite.xrpc.responses import Reply
from pds_lite.xrpc.router import Call, procedure


@procedure("com.atproto.moderation.createReport", access=Access.SESSION, oauth=HANDLER_ASKS)
async def create_report(services: Services, call: Call) -> Reply:
    """Passes the report on, also for a deactivated account."""
    return reply_of(await send_on(services, call, "POST", ujson.dumpb(call.input)))
