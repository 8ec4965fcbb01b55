"""A stream goes out; whatever a client does meanwhile, it is answered, bounded and in the end cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from typing import Any

import pytest

from pds_lite.http import websocket
from pds_lite.http.asgi import WebApp
from tests.http.http_server import Connection, RunningServer, running

HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
PING, PONG, CLOSE, TEXT, BINARY = 9, 10, 8, 1, 2


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    mask = os.urandom(4)
    head = bytes([(0x80 if final else 0) | opcode])
    size = len(payload)
    head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def read_frame(client: Connection) -> tuple[int, bytes]:
    first, second = client._take(2)
    size = second & 0x7F
    if size == 126:
        size = struct.unpack(">H", client._take(2))[0]
    elif size == 127:
        size = struct.unpack(">Q", client._take(8))[0]
    return first & 0x0F, client._take(size)


def open_stream(server: RunningServer, extra: bytes = b"") -> Connection:
    client = server.connect()
    answer = client.send(HANDSHAKE + extra + b"\r\n").answer()
    assert answer.status == 101
    client.headers = answer.headers  # type: ignore[attr-defined]
    return client


class Endpoint:
    """Accepts, then sends `message` every `pause` seconds until the client is gone."""

    def __init__(self, message: bytes = b"event", pause: float = 0.05, count: int = 10**9) -> None:
        self.message, self.pause, self.count = message, pause, count
        self.ended = 0
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        await receive()
        await send({"type": "websocket.accept"})
        try:
            for _ in range(self.count):
                await send({"type": "websocket.send", "bytes": self.message})
                await asyncio.sleep(self.pause)
        finally:
            self.ended += 1


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_messages_arrive_and_a_ping_is_answered_while_the_stream_is_busy() -> None:
    with running(WebApp(), websocket=Endpoint(b"x" * 1000, pause=0)) as server, open_stream(server) as client:
        client.send(frame(PING, b"are you there"))
        for _ in range(100_000):
            opcode, payload = read_frame(client)
            if opcode == PONG:
                break
            assert (opcode, payload) == (BINARY, b"x" * 1000)
        assert (opcode, payload) == (PONG, b"are you there")


def test_compression_is_not_negotiated_and_every_origin_is_welcome() -> None:
    extra = b"Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin: https://app.example\r\n"
    with running(WebApp(), websocket=Endpoint()) as server, open_stream(server, extra) as client:
        assert "sec-websocket-extensions" not in client.headers  # type: ignore[attr-defined]
        assert read_frame(client) == (BINARY, b"event")


def test_the_client_address_comes_from_a_trusted_proxy() -> None:
    endpoint = Endpoint()
    with running(WebApp(), websocket=endpoint, trusted=("127.0.0.1",)) as server:
        with open_stream(server, b"X-Forwarded-For: 192.0.2.7\r\n") as client:
            read_frame(client)
        assert endpoint.scope["client"][0] == "192.0.2.7"


def test_what_clients_say_is_dropped_and_pings_go_on_being_answered() -> None:
    with running(WebApp(), websocket=Endpoint(pause=0.2)) as server, open_stream(server) as client:
        client.send(frame(TEXT, b"hello") + frame(TEXT, b"a", final=False) + frame(0, b"b") + frame(PING, b"p"))
        while (got := read_frame(client))[0] != PONG:
            assert got == (BINARY, b"event")


def test_a_client_that_goes_on_talking_is_ended() -> None:
    endpoint = Endpoint(pause=0.2)
    with running(WebApp(), websocket=endpoint) as server, open_stream(server) as client:
        with contextlib.suppress(OSError):
            for _ in range(20):
                client.send(frame(BINARY, b"x" * 30_000))
        with contextlib.suppress(EOFError, OSError):  # the close frame may be lost to a reset
            while (got := read_frame(client))[0] != CLOSE:
                assert got[0] == BINARY
            assert struct.unpack(">H", got[1][:2])[0] == 1008
        wait_for(lambda: endpoint.ended)


def test_a_polite_close_is_answered_and_ends_the_endpoint() -> None:
    endpoint = Endpoint()
    with running(WebApp(), websocket=endpoint) as server, open_stream(server) as client:
        client.send(frame(CLOSE, struct.pack(">H", 1000)))
        while (got := read_frame(client))[0] != CLOSE:
            pass
        assert got[1][:2] == struct.pack(">H", 1000)
        wait_for(lambda: endpoint.ended)


def test_a_client_that_vanishes_ends_the_endpoint() -> None:
    endpoint = Endpoint()
    with running(WebApp(), websocket=endpoint) as server:
        open_stream(server).close()
        wait_for(lambda: endpoint.ended)


def test_a_client_that_does_not_answer_pings_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket.WebSocketProtocol, "start_keepalive", quick_keepalive)
    endpoint = Endpoint(b"x" * 100_000, pause=0)
    with running(WebApp(), websocket=endpoint) as server, open_stream(server):
        wait_for(lambda: endpoint.ended)


def test_the_server_pings_and_keeps_whoever_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket.WebSocketProtocol, "start_keepalive", quick_keepalive)
    endpoint = Endpoint(pause=0.01)
    with running(WebApp(), websocket=endpoint) as server, open_stream(server) as client:
        pings = 0
        while pings < 6:
            opcode, payload = read_frame(client)
            if opcode == PING:
                pings += 1
                client.send(frame(PONG, payload))
        assert not endpoint.ended


def quick_keepalive(self: Any) -> None:
    self.ping_interval, self.ping_timeout = 0.1, 0.5
    self.schedule_ping()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xff" * 100, 1002),
        (b"\x81\x02hi", 1002),  # not masked
        (frame(PING, b"x" * 126), 1002),
        (frame(0, b"no beginning"), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(TEXT, b"\xff"), 1007),
    ],
    ids=["garbage", "unmasked", "long ping", "continuation", "short close", "bad UTF-8"],
)
def test_what_is_no_frame_ends_the_stream_with_the_code_for_it(
    caplog: pytest.LogCaptureFixture, sent: bytes, code: int
) -> None:
    endpoint = Endpoint(pause=0.2)
    with running(WebApp(), websocket=endpoint) as server, open_stream(server) as client:
        client.send(sent)
        while (got := read_frame(client))[0] != CLOSE:
            assert got == (BINARY, b"event")
        assert struct.unpack(">H", got[1][:2])[0] == code
        client.rest()
        wait_for(lambda: endpoint.ended)
    assert caplog.records == []


def test_a_bad_handshake_is_refused_quietly(caplog: pytest.LogCaptureFixture) -> None:
    with running(WebApp(), websocket=Endpoint()) as server:
        for request in (
            HANDSHAKE.replace(b"Version: 13", b"Version: 8") + b"\r\n",
            HANDSHAKE.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"") + b"\r\n",
        ):
            with server.connect() as client:
                assert client.send(request).answer().status in (400, 426)
    assert caplog.records == []


def test_shutdown_ends_streams_also_ones_nobody_reads() -> None:
    endpoint = Endpoint(b"x" * 100_000, pause=0)
    with running(WebApp(), websocket=endpoint) as server:
        reading, stuck = open_stream(server), open_stream(server)
        read_frame(reading)
        began = time.monotonic()
        server.uvicorn.should_exit = True
        reading.rest()
        wait_for(lambda: endpoint.ended == 2)
        assert time.monotonic() - began < 8
        reading.close()
        stuck.close()
