"""The server's side of one HTTP connection: uvicorn's httptools protocol with deadlines, limits and refusals of our
own.

Rules that hold here
- Every wait has an end: for the first byte, for a whole head, for the next piece of a body, for a reader that does not
  read. The clock for a body stands still while we ourselves hold the socket back.
- Every buffer has an end: head bytes, URL, number of headers, pipelined requests, connections. At the cap the
  connection that has been idle longest makes room.
- What is refused here gets a real status, the XRPC error shape and CORS headers, and no line in the log: strangers do
  not write our log. Requests before a bad one on the same connection are answered first.
- Nothing here knows of XRPC beyond that shape, nor of who is calling.

    idle -> head -> (body ->) answer -> idle        drain: refused or answered early; the rest is thrown away

Pinned to uvicorn 0.54: the overridden methods are its whole parser interface.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from math import inf
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pds_lite import ujson
from pds_lite.http.cors import ON_EVERY_ANSWER
from pds_lite.http.deadlines import Deadlines
from pds_lite.http.exchange import STATUS_LINES, Exchange
from pds_lite.http.limits import READ_BYTES, ConnectionLimits

__all__ = ["ConnectionLimits", "HttpProtocol"]


class _Phase(Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    DRAIN = "drain"


class _Refused(Exception):
    """Raised in a parser callback to stop httptools; what to answer is in `_refusal`."""


class _Flow(FlowControl):
    """Tells the protocol when the socket is read again, so that a body's clock starts afresh."""

    protocol: HttpProtocol

    def resume_reading(self) -> None:
        if self.read_paused:
            super().resume_reading()
            self.protocol.reading_resumed()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    # Retyped, since an Exchange stands where uvicorn has its RequestResponseCycle.
    cycle: Any
    scope: Any
    pipeline: Any

    limits = ConnectionLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = _Phase.IDLE
        self._deadlines = Deadlines(self.loop, self._input_is_late, self._output_is_late)
        self._active: Exchange | None = None
        """The exchange being answered; `cycle` is the one being received, which may wait in `pipeline`."""
        self._last = False
        """No further request will be answered on this connection."""
        self._deaf = False
        """What comes in is thrown away: the parser is broken or no longer needed."""
        self._progress = False
        self._fed = 0
        """Bytes fed to the parser since the head began, to bound one endless header line; _head_size counts whole
        ones.
        """
        self._head_size = 0
        self._hosts = 0
        self._drained = 0
        self._refusal = (400, "InvalidRequest", "Malformed HTTP request")

    # --- the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.limits.connections:
            self._make_room()
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        self.flow = _Flow(transport)
        self.flow.protocol = self
        if len(self.connections) > self.limits.connections:
            transport.write(_refusal(503, "ServiceUnavailable", "Too many connections"))
            self._close()
            return
        self._deadlines.input_in(self.limits.first_byte_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.cancel()
        for exchange in (self._active, self.cycle, *(queued for queued, _ in self.pipeline)):
            if exchange is not None and not exchange.response_complete:
                exchange.disconnect()
        self.pipeline.clear()
        super().connection_lost(exc)
        self.cycle = self._active = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said everything may still want its answer."""
        self._last = True
        return self._active is not None and not self._active.more_body and not self.transport.is_closing()

    def shutdown(self) -> None:
        """Uvicorn is ending: idle connections go at once, busy ones after their answer."""
        if self._active is None:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
        self._last = True

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._throw_away(len(data))
            return
        self._progress = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError:
            self._refuse(*self._refusal)
            return
        self._set_input_deadline(len(data))

    def _upgrade(self) -> None:
        if self._should_upgrade() and self._active is None:
            self._deadlines.cancel()
            self.handle_websocket_upgrade()
        elif self._active is None:
            self._refuse(400, "InvalidRequest", "Unsupported upgrade")
        else:
            # Another protocol than ours was offered (h2c): the answer goes out as HTTP/1.1, then the connection ends.
            self._last = self._deaf = True

    def _should_upgrade(self) -> bool:
        return self.scope["method"] == "GET" and super()._should_upgrade()

    # --- deadlines

    def _set_input_deadline(self, size: int) -> None:
        if self._phase is _Phase.ANSWER:
            return
        if self._phase is _Phase.HEAD:
            self._fed += size
            if self._fed > self.limits.head_bytes + size and not self._progress:
                self._refuse(431, "InvalidRequest", "The request's head is too large")
            elif self._deadlines.input_by == inf or self._progress:
                self._deadlines.input_in(self.limits.head_s)
        elif self._phase is _Phase.BODY and (self._progress or self._deadlines.input_by == inf):
            self._deadlines.input_in(self.limits.body_idle_s)

    def _input_is_late(self) -> None:
        if self._phase is _Phase.BODY and self.flow.read_paused:
            return  # the application is slow, not the client: reading_resumed starts the clock again
        if self._phase in (_Phase.HEAD, _Phase.BODY):
            self._refuse(408, "RequestTimeout", "The request took too long to arrive")
        else:
            self._close()

    def _output_is_late(self) -> None:
        self.transport.abort()

    def reading_resumed(self) -> None:
        """The application caught up: from now on it is the client who is slow."""
        if self._phase is _Phase.BODY:
            self._deadlines.input_in(self.limits.body_idle_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._deadlines.output_in(self.limits.write_stall_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._deadlines.output_by = inf

    # --- what the parser says

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hosts = 0
        self._head_size = 0
        self._fed = 0
        self._phase = _Phase.HEAD
        self._progress = True
        self._deadlines.input_by = inf

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.url_bytes:
            self._stop(414, "The request's URL is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # a trailer, which must never count as a header
        self._head_size += len(name) + len(value)
        if self._head_size > self.limits.head_bytes or len(self.headers) >= self.limits.headers:
            self._stop(431, "The request's head is too large")
        name = name.lower()
        value = value.rstrip(b" \t")  # the parser leaves what RFC 9110 5.5 does not count
        if name == b"host":
            self._hosts += 1
        elif name == b"expect":
            if value.lower() != b"100-continue":
                self._stop(417, "Only 100-continue may be expected")
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        http_version = self.parser.get_http_version()
        self._begin_scope(http_version)
        if self._hosts != 1 and (self._hosts or http_version == "1.1"):
            self._stop(400, "Exactly one Host header is needed")
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if len(self.pipeline) >= self.limits.pipelined:
            self._stop(503, "Too many pipelined requests")
        self._phase = _Phase.BODY
        self._progress = True
        self.cycle = Exchange(
            self.scope,
            self.transport,
            self.flow,
            self.on_response_complete,
            keep_alive=http_version == "1.1" and self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue and http_version == "1.1",
        )
        if self._active is None:
            self._start(self.cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._progress = True
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if self.cycle.response_complete:
            self._throw_away(len(body))
        else:
            self.cycle.feed(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if self._phase is _Phase.DRAIN:
            self._close()
            return
        self._phase = _Phase.ANSWER
        self._deadlines.input_by = inf
        self.cycle.complete()

    def _begin_scope(self, http_version: str) -> None:
        if self.url.startswith(b"/"):
            raw_path, _, query = self.url.partition(b"#")[0].partition(b"?")
        elif self.url == b"*":
            raw_path, query = b"/", b""
        else:
            parsed = httptools.parse_url(self.url)
            raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": http_version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
        }

    # --- answering

    def _start(self, exchange: Exchange) -> None:
        self._active = exchange
        task = self.loop.create_task(exchange.run(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """The active exchange's answer is written: what comes next on this connection?"""
        self.server_state.total_requests += 1
        ended = self._active
        self._active = None
        if ended is None or self.transport.is_closing():
            return
        if ended.more_body:
            self._drain()
        elif not ended.keep_alive:
            self._close()
        elif self.pipeline:
            self._start(self.pipeline.pop()[0])
        elif self._deaf:
            self._hang_up()
        elif self._last:
            self._close()
        else:
            self.flow.resume_reading()
            if self._phase is _Phase.ANSWER:
                self._phase = _Phase.IDLE
                self._deadlines.input_in(self.limits.keep_alive_s)

    def _stop(self, status: int, message: str) -> None:
        self._refusal = (status, "InvalidRequest", message)
        raise _Refused

    def _refuse(self, status: int, error: str, message: str) -> None:
        """Ends the connection because of what came in, after the answers that earlier requests still wait for."""
        if self._phase is _Phase.DRAIN:
            self._close()
            return
        self._last = self._deaf = True
        broken = self.cycle if self._phase is _Phase.BODY else None
        if broken is not None:
            broken.disconnect()
        if self._active is None or self._active is broken:
            self._active = None
            if broken is not None and broken.response_started:
                self.transport.abort()
                return
            self.transport.write(_refusal(status, error, message))
            self._hang_up()
            return
        if broken is not None:
            self.pipeline.popleft()
        self._phase = _Phase.ANSWER
        self._deadlines.input_by = inf
        self.flow.pause_reading()

    def _drain(self) -> None:
        """Lets the answer arrive: closing with unread data in the socket would reset the connection under it."""
        self._phase = _Phase.DRAIN
        self._deadlines.output_in(self.limits.write_stall_s)
        self._deadlines.input_in(self.limits.drain_s)
        self.flow.resume_reading()

    def _hang_up(self) -> None:
        """_drain for a client that sends nothing we want: it need not wait for the end to know that this was all."""
        self.transport.write_eof()
        self._drain()

    def _throw_away(self, size: int) -> None:
        """Beyond the limit nothing more is read; who is busy sending still has until the deadline to see the answer."""
        self._drained += size
        if self._drained > self.limits.drain_bytes:
            self.flow.pause_reading()

    def _close(self) -> None:
        """Closes once what was written has left; a client that does not read is cut."""
        self._last = self._deaf = True
        self._deadlines.input_by = inf
        self._deadlines.output_in(self.limits.write_stall_s)
        self.transport.close()

    def _make_room(self) -> None:
        idle = [c for c in self.connections if isinstance(c, HttpProtocol) and c.is_idle]
        if idle:
            victim = min(idle, key=lambda connection: connection.idle_until)
            self.connections.discard(victim)
            victim.transport.abort()

    @property
    def is_idle(self) -> bool:
        """No request is under way."""
        return self._phase is _Phase.IDLE and self._active is None

    @property
    def idle_until(self) -> float:
        """Loop time at which this connection would be closed: the smallest has been idle longest."""
        return self._deadlines.input_by


def _refusal(status: int, error: str, message: str) -> bytes:
    body = ujson.dumpb({"error": error, "message": message})
    headers = [
        *ON_EVERY_ANSWER,
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    return b"".join([STATUS_LINES[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body])
