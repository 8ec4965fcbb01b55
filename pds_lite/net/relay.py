"""What a PDS says to a relay: "crawl me" (com.atproto.sync.requestCrawl).

The relay's address is the owner's setting. Policy (when, how often, retries) is services/crawlers.
"""

from __future__ import annotations

from pds_lite import ujson
from pds_lite.errors import BadData, UpstreamFailure
from pds_lite.net.http_client import HttpClient, HttpResponse

_SYNC = "/xrpc/com.atproto.sync."
_TIMEOUT_S = 15.0
_MAX_ANSWER = 64 * 1024


async def request_crawl(http: HttpClient, relay: str, hostname: str) -> None:
    """Asks the relay at the URL `relay` to follow `hostname`. Raises UpstreamFailure with the relay's own reason."""
    body = ujson.dumpb({"hostname": hostname})
    headers = {"content-type": "application/json"}
    answer = await http.request(
        "POST",
        f"{relay}{_SYNC}requestCrawl",
        headers,
        body,
        timeout=_TIMEOUT_S,
        max_bytes=_MAX_ANSWER,
        configured=True,
    )
    if answer.status != 200:
        raise UpstreamFailure(f"{relay} refused to crawl: {_reason(answer)}")


def _field(answer: HttpResponse, name: str) -> object:
    try:
        value = ujson.loads(answer.body)
    except BadData:
        return None
    return value.get(name) if isinstance(value, dict) else None


def _reason(answer: HttpResponse) -> str:
    message = _field(answer, "message") or _field(answer, "error")
    return f"{answer.status} {str(message)[:200]}" if message else str(answer.status)
