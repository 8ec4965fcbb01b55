"""What is said to a relay, and what is made of its answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pds_lite.errors import UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.net.relay import request_crawl
from tests.net.scripted_server import Visit, scripted


def ask(call: Any, body: bytes, status: int = 200) -> tuple[Any, Any]:
    """(what `call` gave, the request the relay saw)."""
    seen: list[Any] = []

    async def script(visit: Visit) -> None:
        seen.append(await visit.request())
        visit.answer(body, status)

    async def work() -> Any:
        client = HttpClient()
        async with scripted(script) as relay:
            try:
                return await call(client, relay.url, "pds.example.com")
            finally:
                await client.close()

    return asyncio.run(work()), seen[0]


def test_a_crawl_is_asked_for_by_host_name() -> None:
    _, (line, headers, body) = ask(request_crawl, b"")
    assert line == "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"hostname": "pds.example.com"}


def test_a_refusal_carries_the_relays_reason() -> None:
    with pytest.raises(UpstreamFailure, match="400 host is banned"):
        ask(request_crawl, b'{"error":"HostBanned","message":"host is banned"}', 400)
