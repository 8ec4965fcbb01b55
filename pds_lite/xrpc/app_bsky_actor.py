"""app.bsky.actor.getPreferences and putPreferences: the only app.bsky methods that every PDS answers itself.

An atproto-proxy header that names another service than the configured AppView sends them there.
"""

from __future__ import annotations

from typing import Any

from pds_lite import ujson
from pds_lite.services.access import HANDLER_ASKS, Access, Kind
from pds_lite.services.bundle import Services
from pds_lite.services.proxy import check_allowed
from pds_lite.xrpc.proxying import reply_of, send_on
from pds_lite.xrpc.responses import Reply
from pds_lite.xrpc.router import Call, procedure, query

_GET = "app.bsky.actor.getPreferences"
_PUT = "app.bsky.actor.putPreferences"


@query(_GET, access=Access.SESSION, oauth=HANDLER_ASKS)
async def get_preferences(services: Services, call: Call) -> dict[str, Any] | Reply:
    """The owner's preferences; the birth date only to the owner's own password."""
    if not services.proxy.targets.is_appview(call.headers.get("atproto-proxy")):
        return reply_of(await send_on(services, call, "GET"))
    check_allowed(call.principal, _GET, services.proxy.targets.appview)
    return {"preferences": services.preferences.get(full_access=call.principal.kind is Kind.OWNER)}


@procedure(_PUT, access=Access.SESSION, oauth=HANDLER_ASKS)
async def put_preferences(services: Services, call: Call) -> Reply | None:
    """Replaces them as a whole."""
    if not services.proxy.targets.is_appview(call.headers.get("atproto-proxy")):
        return reply_of(await send_on(services, call, "POST", ujson.dumpb(call.input)))
    check_allowed(call.principal, _PUT, services.proxy.targets.appview)
    services.account.require()
    await services.preferences.put(call.input["preferences"], full_access=call.principal.kind is Kind.OWNER)
    return None
