"""The router's way out: a call of a method that is not ours becomes a call of services/proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from microdot import Request

from pds_lite.errors import BadInput
from pds_lite.services.access import Access
from pds_lite.services.rate_limits import EVERYTHING
from pds_lite.xrpc.credentials import credentials_of
from pds_lite.xrpc.responses import Reply

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

WHOLE_BODY = 1_000_000
"""Bytes of a request body that is read before it is passed on; larger ones stream."""


async def pass_on(services: Services, request: Request, nsid: str) -> Reply:
    """Answers for the service that has `nsid`, to sessions of the account only."""
    authorization = credentials_of(request.headers).authorization
    principal = await services.access.authenticate(authorization, Access.SESSION, nsid)
    services.limits.take((EVERYTHING,), principal.did or "")
    if request.method not in ("GET", "HEAD", "POST"):
        raise BadInput(f"Incorrect HTTP method ({request.method})", error="MethodNotAllowed", status=405)
    body: Any = request.stream  # a BodyStream, whatever microdot's stubs say
    if request.method != "POST" or body.empty:
        content: bytes | AsyncIterator[bytes] = b""
    elif body.length is not None and body.length <= WHOLE_BODY and not body.encoded:
        content = await body.read(WHOLE_BODY)
    else:
        content = body
    answer = await services.proxy.call(
        principal,
        nsid,
        verb=request.method,
        query_string=request.query_string or "",
        headers=request.headers,
        body=content,
    )
    headers = dict(answer.headers)
    return Reply(answer.body, headers.pop("content-type", "application/octet-stream"), answer.status, headers)
