"""The way out: a call of a method that is not ours becomes a call of another service (services/proxy).

Which service object takes a method is decided here: getFeed, what is completed with own records, push registrations,
and everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from microdot import Request

from pds_lite import ujson
from pds_lite.errors import BadData, BadInput, OAuthError, TooLarge, Unauthorized
from pds_lite.http.client_address import rate_key
from pds_lite.services.access import Access
from pds_lite.services.feed_generators import GET_FEED
from pds_lite.services.proxy import ProxiedCall
from pds_lite.services.rate_limits import EVERYTHING
from pds_lite.services.read_after_write import MERGES
from pds_lite.xrpc.credentials import credentials_of, dpop_request
from pds_lite.xrpc.responses import Reply

if TYPE_CHECKING:
    from pds_lite.services.access import Principal
    from pds_lite.services.bundle import Services
    from pds_lite.services.upstream import Answer
    from pds_lite.xrpc.router import Call

WHOLE_BODY = 256 << 10
"""Bytes of a request body that is read before it is passed on; larger ones stream."""
MAX_BODY = 1 << 30
_PUSH = frozenset({"app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush"})


async def pass_on(services: Services, request: Request, nsid: str) -> Reply:
    """Answers for the service that has `nsid`, to sessions of the account only."""
    authorization = credentials_of(request.headers).authorization
    try:
        principal = await services.access.authenticate(authorization, Access.SESSION, nsid, dpop_request(request))
    except (Unauthorized, OAuthError):
        services.limits.take((EVERYTHING,), rate_key(request.client_addr[0]))
        raise
    services.limits.take((EVERYTHING,), principal.did or "")
    if request.method not in ("GET", "HEAD", "POST"):
        raise BadInput(f"Incorrect HTTP method ({request.method})", error="MethodNotAllowed", status=405)
    return reply_of(await _dispatch(services, principal, await _asked(request, nsid)))


async def send_on(services: Services, call: Call, verb: str, body: bytes = b"") -> Answer:
    """Passes on a call that the router has read already; `body` is its JSON body."""
    headers = {name: text for name, text in call.headers.items() if name != "content-encoding"}
    asked = ProxiedCall(call.nsid, verb, "", headers, body)
    return await services.proxy.call(call.principal, asked)


async def ask_elsewhere(services: Services, call: Call) -> Reply:
    """The AppView's answer to a public query whose subject is not here."""
    params = urlencode(call.params, doseq=True)
    return reply_of(
        await services.proxy.call_public(call.principal, ProxiedCall(call.nsid, "GET", params, call.headers))
    )


def reply_of(answer: Answer) -> Reply:
    """The service's answer as ours."""
    headers = dict(answer.headers)
    content_type = headers.pop("content-type", "application/octet-stream" if answer.body else "")
    return Reply(answer.body, content_type, answer.status, headers)


async def _dispatch(services: Services, principal: Principal, asked: ProxiedCall) -> Answer:
    if asked.nsid == GET_FEED:
        return await services.feed_generators.call(principal, asked)
    if asked.nsid in MERGES:
        return await services.read_after_write.call(principal, asked)
    if asked.nsid in _PUSH and "atproto-proxy" not in asked.headers:
        asked = _to_push_service(services, asked)
    return await services.proxy.call(principal, asked)


async def _asked(request: Request, nsid: str) -> ProxiedCall:
    query_string = request.query_string or ""
    stream: Any = request.stream  # a BodyStream, whatever microdot's stubs say
    if request.method != "POST" or stream.empty:
        return ProxiedCall(nsid, request.method, query_string, request.headers)
    body = stream.keep_encoded()
    if body.length is None or body.length > WHOLE_BODY:
        body.limit = MAX_BODY
        if body.length is not None and body.length > MAX_BODY:
            raise TooLarge(f"At most {MAX_BODY} bytes are passed on")
        return ProxiedCall(nsid, "POST", query_string, request.headers, body, body.length)
    return ProxiedCall(nsid, "POST", query_string, request.headers, await body.read(WHOLE_BODY))


def _to_push_service(services: Services, asked: ProxiedCall) -> ProxiedCall:
    """Older than the header: the body names the service."""
    try:
        given = ujson.loads(asked.body) if isinstance(asked.body, bytes) else None
    except BadData:
        given = None
    did = given.get("serviceDid") if isinstance(given, dict) else None
    if not isinstance(did, str) or did == services.proxy.targets.appview.did:
        return asked
    headers = {**asked.headers, "atproto-proxy": f"{did}#bsky_notif"}
    return ProxiedCall(asked.nsid, asked.verb, asked.query_string, headers, asked.body)
