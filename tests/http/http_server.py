"""A real uvicorn server with our protocols on a free port, in a thread, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pds_lite.app import listen_at
from pds_lite.http.asgi import HttpEdge, WebApp
from pds_lite.http.client_address import ProxyTrust
from pds_lite.http.protocol import ConnectionLimits
from pds_lite.http.server import build_server

SHORT = ConnectionLimits(
    first_byte_s=0.4,
    head_s=0.4,
    body_idle_s=0.4,
    keep_alive_s=0.6,
    write_stall_s=0.5,
    drain_s=0.3,
    connections=32,
)
"""Deadlines that a test can wait for; the promises are about order and outcome, never about exact times."""
PATIENT = ConnectionLimits(
    first_byte_s=30, head_s=30, body_idle_s=30, keep_alive_s=30, write_stall_s=30, drain_s=0.3, connections=32
)
"""Deadlines that no test meets which does not mean to, however busy the machine is."""


class RunningServer:
    def __init__(self, port: int, server: Any) -> None:
        self.port = port
        self.uvicorn = server

    def connect(self, timeout: float = 60) -> Connection:
        return Connection(socket.create_connection(("127.0.0.1", self.port), timeout=timeout))


class Connection:
    """A raw client socket that reads answers by their framing."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.buffer = b""

    def send(self, data: bytes) -> Connection:
        self.raw.sendall(data)
        return self

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer; interim ones count too."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        top, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = top.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        status = int(status_line.split(" ")[1])
        body = b""
        if head or status in (100, 101, 204, 304):
            pass
        elif "content-length" in headers:
            body = self._take(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._line(), 16):
                body += self._take(size)
                assert self._take(2) == b"\r\n"
            assert self._take(2) == b"\r\n"
        else:
            body = self.rest()
        return Answer(status, headers, body)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.raw.recv(65536):
                self.buffer += data
        taken, self.buffer = self.buffer, b""
        return taken

    def closed(self) -> bool:
        """Waits; True if the server closed without a further byte."""
        return self.rest() == b""

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _more(self) -> None:
        data = self.raw.recv(65536)
        if not data:
            raise EOFError(f"closed after {self.buffer!r}")
        self.buffer += data

    def close(self) -> None:
        self.raw.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def refuse_websocket(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


@contextlib.contextmanager
def running(
    app: WebApp,
    *,
    limits: ConnectionLimits = PATIENT,
    trusted: tuple[str, ...] = (),
    websocket: Any = refuse_websocket,
    unix_socket: Path | None = None,
) -> Iterator[RunningServer]:
    edge = HttpEdge(app, websocket, ProxyTrust(trusted))
    server = build_server(edge, port=0, limits=limits)
    sockets = [listen_at(unix_socket)] if unix_socket else None
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets)), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = 0 if unix_socket else server.servers[0].sockets[0].getsockname()[1]
    try:
        yield RunningServer(port, server)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
