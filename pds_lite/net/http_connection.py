"""Connection: one outgoing HTTP/1.1 connection, an asyncio protocol over httptools' response parser.

Rules that hold here
- Bounded: bytes and number of header lines, and body that waits to be read (the socket is paused beyond it).
- An answer ends where its framing says; a connection that ends before that, or says more after it, is no clean end.
- Interim answers (1xx) are skipped, a few of them.
- It knows nothing of names, pools or redirects.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import httptools

MAX_HEAD = 64 * 1024
MAX_HEADERS = 200
MAX_INTERIM = 5
HIGH_WATER = 256 * 1024
"""Bytes of body that may wait to be read."""
_BODYLESS = frozenset({204, 304})


class Ended(Exception):
    """The connection ended, or what came over it was not HTTP. `silent`: before a single byte of answer."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent


class Connection(asyncio.Protocol):
    """One request at a time: `ask`, then `wait` and `take` until None."""

    def __init__(self, key: tuple[str, str, int, bool]) -> None:
        self.key = key
        """What the pool looks it up by."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self.idle_until = 0.0
        """Of the event loop's clock; the pool's to set and to read."""
        self._waiter: asyncio.Future[None] | None = None
        self._due: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._failure: Ended | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._reset("")
        self._done = True

    def _reset(self, method: str) -> None:
        self.status = 0
        self.headers = {}
        self._method = method
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._head_bytes = 0
        self._head_lines = 0
        self._interim = 0
        self._got_anything = False
        self._head_complete = False
        self._done = False
        self._keep_alive = False
        self._paused = False

    # --- for the client

    @property
    def reusable(self) -> bool:
        """True if another request may be sent."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return self._done and self._keep_alive and self._failure is None and open_

    def abort(self) -> None:
        """Ends the connection at once."""
        self._silence_alarm()
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, method: str, head: bytes, body: bytes | AsyncIterator[bytes], due: float | None = None) -> None:
        """Sends a request and waits for the head of its answer until `due` of the event loop's clock.

        Raises Ended, TimeoutError.
        """
        self._reset(method)
        if isinstance(body, bytes):
            self._write(head + body)
        else:
            await self._send_stream(head, body)
        while not self._head_complete:
            await self._change(due)

    @property
    def ready(self) -> bool:
        """True if `take` has something to say at once."""
        return bool(self._chunks) or self._done

    async def wait(self, due: float | None = None) -> None:
        """Until `ready`, or `due`. Raises Ended, TimeoutError."""
        while not self.ready:
            await self._change(due)

    def take(self) -> bytes | None:
        """The next piece of body, once `ready`; None at the end."""
        if not self._chunks:
            return None
        chunk = self._chunks.popleft()
        self._waiting -= len(chunk)
        if self._paused and self._waiting < HIGH_WATER // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    async def _send_stream(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        chunked = b"\r\ntransfer-encoding: chunked\r\n" in head
        self._write(head)
        async for chunk in body:
            if self._head_complete:
                # Answered early: the rest of the body is not wanted, and the connection cannot be used again.
                self._keep_alive = False
                return
            if chunk:
                self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                await self._writable.wait()
        if chunked:
            self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        if self._transport is None or self._transport.is_closing():
            raise Ended("the connection ended", silent=not self._got_anything)
        self._transport.write(data)

    async def _change(self, due: float | None) -> None:
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        self._due = due
        if due is not None and (self._alarm is None or self._alarm.when() > due):
            self._silence_alarm()
            self._alarm = loop.call_at(due, self._ring)
        self._waiter = loop.create_future()
        await self._waiter

    def _ring(self) -> None:
        """One alarm serves many waits: most end long before it, and the next only moves what is due."""
        self._alarm = None
        if self._waiter is None or self._waiter.done() or self._due is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due:
            self._waiter.set_exception(TimeoutError())
        else:
            self._alarm = loop.call_at(self._due, self._ring)

    def _silence_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _tell(self) -> None:
        """Something has changed."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = Ended(reason, silent=not self._got_anything)
        self._writable.set()
        self._tell()
        self.abort()

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done:
            until_end = self._head_complete and not self._framed and exc is None
            if until_end:
                self._done = True
            else:
                self._fail("the connection ended in the middle of an answer" if self._got_anything else "no answer")
        self._keep_alive = False
        self._silence_alarm()
        self._writable.set()
        self._tell()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._done:
            self._keep_alive = False
            self.abort()
            return
        self._got_anything = True
        if not self._head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _TooMuch):
            if not self._done:
                self._fail("the answer is not HTTP this server understands")
            self._keep_alive = False
            return
        if not self._head_complete and self._head_bytes > MAX_HEAD + len(data):
            self._fail("the answer's head is too large")

    # --- httptools

    def on_message_begin(self) -> None:
        if self._done:
            self._keep_alive = False
            raise _TooMuch
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_complete:
            return  # a trailer
        self._head_lines += len(name) + len(value)
        if len(self.headers) >= MAX_HEADERS or self._head_lines > MAX_HEAD:
            raise _TooMuch
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip()
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                raise _TooMuch
            return
        self.status = status
        self._head_complete = True
        self._framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        self._keep_alive = self._parser.should_keep_alive()
        if self._method == "HEAD" or status in _BODYLESS:
            # The parser would wait for the body that a HEAD's Content-Length speaks of: this connection is done.
            self._keep_alive = self._keep_alive and status in _BODYLESS and self._method != "HEAD"
            self._done = True
        self._tell()
        self._writable.set()  # whoever still sends a body is to see that the answer has come

    def on_body(self, body: bytes) -> None:
        if self._method == "HEAD":
            return
        self._chunks.append(body)
        self._waiting += len(body)
        if self._waiting > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._tell()

    def on_message_complete(self) -> None:
        if self._head_complete:
            self._done = True
            self._tell()

    _framed = True


class _TooMuch(Exception):
    """Raised in a parser callback to stop httptools."""
