"""Exchange: one HTTP request and its answer, as the ASGI application sees them (`receive` and `send`).

Takes the place of uvicorn's RequestResponseCycle, because that one writes head and body with two system calls, goes on
calling a generator whose reader has left, answers HTTP/1.0 in chunks, and closes before an early refusal has arrived.

Rules that hold here
- The head is held back until the first piece of body and both leave in one write.
- `send` raises ClientDisconnected once the client is gone, so that whoever streams stops.
- A body that does not match its Content-Length cuts the connection: a half answer must not look whole.
- The exchange never closes the connection after an answer: `on_end` (http/protocol) decides what follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import ClientDisconnected

from pds_lite.errors import PdsError
from pds_lite.http.cors import ON_EVERY_ANSWER

__all__ = ["ClientDisconnected", "Exchange"]

log = logging.getLogger("pds_lite.http")

Scope = dict[str, Any]
Message = Any
Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@lru_cache(maxsize=1)
def _date(second: int) -> tuple[bytes, bytes]:
    return b"date", formatdate(second, usegmt=True).encode()


TURN_BYTES = 256 * 1024
"""Written by one exchange before the others get a turn."""
STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}
_BODYLESS = frozenset({204, 304})
_SERVER_FAULT = b'{"error":"InternalServerError","message":"Internal Server Error"}'


class Exchange:
    """One request being answered."""

    __slots__ = (
        "_chunked",
        "_chunks",
        "_expects_continue",
        "_flow",
        "_head",
        "_on_end",
        "_owed",
        "_size",
        "_transport",
        "_unbroken",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        on_end: Callable[[], None],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.disconnected = False
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.message_event = asyncio.Event()
        """Set when there is body to read, or when the exchange is over."""
        self._transport = transport
        self._flow = flow
        self._on_end = on_end
        self._expects_continue = expects_continue
        self._chunks: list[bytes] = []
        self._size = 0
        self._head: Message = None
        self._chunked = False
        self._unbroken = 0
        self._owed: int | None = None
        """Bytes of body still to come; None when the connection's end or a chunk says where the body ends."""

    def feed(self, chunk: bytes) -> None:
        """More of the request's body; stops the socket while the application is behind."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self.message_event.set()

    def complete(self) -> None:
        """The whole request has arrived."""
        self.more_body = False
        self.message_event.set()

    def disconnect(self) -> None:
        """The client is gone, or is treated as gone."""
        self.disconnected = True
        self.message_event.set()

    async def run(self, application: Application) -> None:
        """Lets the application answer. A fault of the application is logged once and becomes a 500 or a cut."""
        try:
            await application(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                log.error("no complete answer to %s %r", self.scope["method"], self.scope["path"])
                await self._fail()
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except PdsError as problem:
            # Its answer was chosen before, so this broke off a streamed body: another server or a disk gave out.
            log.warning("cut off the answer to %s %r: %s", self.scope["method"], self.scope["path"], problem.message)
            await self._fail()
        except Exception:
            log.exception("fault while answering %s %r", self.scope["method"], self.scope["path"])
            await self._fail()

    async def receive(self) -> Message:
        """ASGI's receive: the next piece of body, or that the client has left."""
        if self._expects_continue and not self.response_started and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """ASGI's send. Waits while the client reads too slowly; raises ClientDisconnected when it has left."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected or self._transport.is_closing():
            raise ClientDisconnected
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is None or self.response_complete:
            raise RuntimeError(f"{message['type']} out of order")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        pieces = [] if self.response_started else self._begin()
        if self.scope["method"] != "HEAD" and self._head["status"] not in _BODYLESS:
            self._add_body(pieces, body, more)
        if pieces:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            self._unbroken += len(body)
            if self._unbroken >= TURN_BYTES:
                # A fast reader never makes this coroutine wait: others get their turn all the same.
                self._unbroken = 0
                await asyncio.sleep(0)
        if not more:
            self.response_complete = True
            self.message_event.set()
            self._on_end()

    def _begin(self) -> list[bytes]:
        """The head as one piece; decides how the body is delimited."""
        self.response_started = True
        status = self._head["status"]
        lines = [STATUS_LINES[status]]
        headers = [_date(int(time.time())), *self._head["headers"]]
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        if length is not None:
            self._owed = length
        elif status not in _BODYLESS:
            self._chunked = self.scope["http_version"] == "1.1"
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False
        # Answered before the request had arrived: what follows on this connection is not worth keeping.
        self.keep_alive = self.keep_alive and not self.more_body
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            self.response_started = False
            raise ValueError("a header value holds a line break or NUL")
        return [head, b"\r\n"]

    def _add_body(self, pieces: list[bytes], body: bytes, more: bool) -> None:
        if self._chunked:
            if body:
                pieces += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                pieces.append(b"0\r\n\r\n")
            return
        if body:
            pieces.append(body)
        if self._owed is not None:
            self._owed -= len(body)
            if self._owed < 0 or (self._owed and not more):
                raise ValueError("the body does not match its Content-Length")

    async def _fail(self) -> None:
        if self.disconnected:
            return
        if self.response_started:
            self._transport.abort()
            return
        self.keep_alive = False
        length = (b"content-length", str(len(_SERVER_FAULT)).encode())
        headers = [(b"content-type", b"application/json"), length, *ON_EVERY_ANSWER]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": _SERVER_FAULT})
