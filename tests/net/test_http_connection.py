"""Whatever comes over the wire, a connection ends in an answer or in Ended; test_http_client shows the rest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.net.http_connection import HIGH_WATER, Connection, Ended

ANSWER = (
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: u\r\n\r\n"
)


class Transport(asyncio.Transport):
    """Collects what is written; closing tells the connection, as asyncio does."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written = b""
        self.paused = False
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def connected() -> tuple[Connection, Transport]:
    connection = Connection(("http", "a.example.com", 80, False))
    transport = Transport(connection)
    connection.connection_made(transport)
    return connection, transport


async def exchange(pieces: list[bytes], *, end: bool = True) -> bytes:
    """The body of the answer that arrives in these pieces. Raises Ended."""
    connection, transport = connected()
    asked = asyncio.create_task(connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
    if end:
        transport.abort()
    await asked
    body = b""
    while True:
        await connection.wait()
        chunk = connection.take()
        if chunk is None:
            return body
        body += chunk


@settings(deadline=None)
@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=8))
def test_an_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    edges = sorted({0, len(ANSWER), *cuts})
    pieces = [ANSWER[start:stop] for start, stop in itertools.pairwise(edges)]
    assert asyncio.run(exchange(pieces, end=False)) == b"abcde"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(ANSWER) - 1), st.binary(max_size=5), st.integers(0, 5)), min_size=1, max_size=5
    )
)
def test_a_mangled_answer_is_an_answer_or_ended(edits: list[tuple[int, bytes, int]]) -> None:
    data = ANSWER
    for at, inserted, dropped in edits:
        data = data[:at] + inserted + data[at + dropped :]
    with contextlib.suppress(Ended):
        assert len(asyncio.run(exchange([data]))) <= len(data)


def test_nothing_at_all_is_a_silent_end() -> None:
    with pytest.raises(Ended) as caught:
        asyncio.run(exchange([]))
    assert caught.value.silent


def test_the_sender_is_held_back_until_the_body_is_read() -> None:
    async def work() -> None:
        connection, transport = connected()
        asked = asyncio.create_task(connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
        await asked
        while not transport.paused:
            connection.data_received(b"x" * 65536)
        assert connection._waiting <= HIGH_WATER + 65536
        while transport.paused:
            assert connection.take()
        transport.abort()

    asyncio.run(work())


def test_a_word_after_the_answer_ends_the_connection() -> None:
    async def work() -> None:
        connection, transport = connected()
        asked = asyncio.create_task(connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await asked
        assert connection.reusable
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert transport.closed
        assert not connection.reusable

    asyncio.run(work())


def test_each_wait_ends_when_it_is_due_and_not_when_another_was() -> None:
    async def work() -> None:
        connection, _transport = connected()
        now = asyncio.get_running_loop().time
        begun = now()
        asked = asyncio.create_task(connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b"", begun + 0.05))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asked
        with pytest.raises(TimeoutError):
            await connection.wait(begun + 0.2)
        assert now() >= begun + 0.2
        with pytest.raises(TimeoutError):
            await connection.wait(begun + 0.1)
        waiting = asyncio.create_task(connection.wait())
        await asyncio.sleep(0.01)
        connection.data_received(b"ok")
        await waiting
        assert connection.take() == b"ok"

    asyncio.run(work())
