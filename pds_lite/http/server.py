"""The server that runs the HTTP edge: uvicorn with our protocols, and without its ten looks a second at a flag.

An idle box must sleep: nothing here wakes unless there is something to do. Ending is asked for by `should_exit = True`,
from any thread; idle connections go at once, busy ones get a second, then they are cancelled. Signals are the caller's
business: uvicorn raises one that it caught once more at its end, which would kill the process before the store is
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server as UvicornServer

from pds_lite.http.asgi import HttpEdge
from pds_lite.http.protocol import ConnectionLimits, HttpProtocol


def _nothing() -> None:
    pass


def _websocket_protocol(**arguments: Any) -> asyncio.Protocol:
    """Loads the websocket library for the first client that asks for one: a twentieth of the start, and 1 MB."""
    from pds_lite.http.websocket import WebSocketProtocol

    return WebSocketProtocol(**arguments)


class Server(UvicornServer):
    """`await server.serve()` runs it. `on_ready` is called when it listens, `on_ending` before connections end."""

    def __init__(self, config: Config, on_ready: Callable[[], None], on_ending: Callable[[], None]) -> None:
        self._on_ready = on_ready
        self._on_ending = on_ending
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told_to_end = asyncio.Event()
        super().__init__(config)

    @property
    def should_exit(self) -> bool:
        """Set it to make `serve` return."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        if value and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told_to_end.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        if not self.should_exit:
            await self._told_to_end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_ending()
        await super().shutdown(sockets)

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def build_server(
    edge: HttpEdge,
    *,
    host: str = "127.0.0.1",
    port: int = 2583,
    limits: ConnectionLimits | None = None,
    on_ready: Callable[[], None] = _nothing,
    on_ending: Callable[[], None] = _nothing,
) -> Server:
    """A server of `edge`: on host and port, or on the sockets given to `serve`."""
    http = type("BoundHttpProtocol", (HttpProtocol,), {"limits": limits or ConnectionLimits()})
    config = Config(
        edge,
        host=host,
        port=port,
        loop="asyncio",
        http=http,
        ws=_websocket_protocol,  # type: ignore[arg-type]  # uvicorn only calls it
        ws_max_size=4096,
        ws_ping_interval=20,
        ws_ping_timeout=60,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=256,
        timeout_graceful_shutdown=1,
    )
    return Server(config, on_ready, on_ending)
