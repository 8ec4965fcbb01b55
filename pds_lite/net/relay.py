"""What a PDS says to a relay: "crawl me", and "what do you know of me?".

The relay's address is the owner's setting. Policy (when, how often, retries) is services/crawlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pds_lite import ujson
from pds_lite.errors import BadData, UpstreamFailure
from pds_lite.net.http_client import HttpClient, HttpResponse

_SYNC = "/xrpc/com.atproto.sync."
_TIMEOUT_S = 15.0
_MAX_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A relay's view of a PDS (com.atproto.sync.getHostStatus)."""

    status: str
    """active, idle, offline, throttled or banned; "unknown" if the relay has never heard of the host."""
    seq: int | None
    """The last event it has of that host."""
    account_count: int | None


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


async def host_status(http: HttpClient, relay: str, hostname: str) -> HostStatus:
    """What the relay says about `hostname`. Raises UpstreamFailure if it does not answer or does not say."""
    url = f"{relay}{_SYNC}getHostStatus?hostname={quote(hostname, safe='')}"
    answer = await http.request("GET", url, timeout=_TIMEOUT_S, max_bytes=_MAX_ANSWER, configured=True)
    if answer.status == 400 and _field(answer, "error") == "HostNotFound":
        return HostStatus("unknown", None, None)
    if answer.status != 200:
        raise UpstreamFailure(f"{relay}: {_reason(answer)}")
    status, seq, count = (_field(answer, name) for name in ("status", "seq", "accountCount"))
    return HostStatus(
        status if isinstance(status, str) else "unknown",
        seq if isinstance(seq, int) else None,
        count if isinstance(count, int) else None,
    )


def _field(answer: HttpResponse, name: str) -> object:
    try:
        value = ujson.loads(answer.body)
    except BadData:
        return None
    return value.get(name) if isinstance(value, dict) else None


def _reason(answer: HttpResponse) -> str:
    message = _field(answer, "message") or _field(answer, "error")
    return f"{answer.status} {str(message)[:200]}" if message else str(answer.status)
