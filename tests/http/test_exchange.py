"""The two rules of an exchange that no socket shows: one write an answer, and turns for the others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from pds_lite.http.exchange import TURN_BYTES, Exchange


class Transport:
    """Takes everything at once, as a fast reader's socket does."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def exchange(transport: Any, method: str = "GET") -> Exchange:
    scope = {"method": method, "path": "/", "http_version": "1.1"}
    made = Exchange(scope, transport, FlowControl(transport), lambda: None, keep_alive=True, expects_continue=False)
    made.complete()
    return made


def start(length: int | None) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def test_a_whole_answer_is_one_write() -> None:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(5))
        await send({"type": "http.response.body", "body": b"hello"})

    transport = Transport()
    asyncio.run(exchange(transport).run(application))
    [written] = transport.writes
    head, _, body = written.partition(b"\r\n\r\n")
    status, date, *rest = head.split(b"\r\n")
    assert (status, rest, body) == (b"HTTP/1.1 200 OK", [b"content-length: 5"], b"hello")
    sent = parsedate_to_datetime(date.removeprefix(b"date: ").decode())
    assert abs((datetime.now(UTC) - sent).total_seconds()) < 60


def test_a_fast_reader_of_a_long_answer_does_not_starve_the_others() -> None:
    turns = []

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(None))
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"x" * TURN_BYTES, "more_body": True})
            turns.append("export")

    async def other() -> None:
        while len(turns) < 10:
            turns.append("other")
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(exchange(Transport()).run(application), other())

    asyncio.run(both())
    assert turns.count("other") > 3


def test_too_long_a_body_cuts_the_connection() -> None:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(2))
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})

    transport = Transport()
    asyncio.run(exchange(transport).run(application))
    assert transport.aborted
    assert b"c" not in transport.writes[1:]
