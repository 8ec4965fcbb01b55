"""A server that says exactly what a test tells it to, so that lies can be told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Script = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One connection as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        """(request line, headers, body). Raises EOFError when the client has left."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = dict(entry.split(": ", 1) for entry in rest)
        body = b""
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        return line, headers, body

    def say(self, text: bytes) -> None:
        self.writer.write(text)

    def answer(self, body: bytes = b"", status: int = 200, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers, "", ""]
        self.say("\r\n".join(lines).encode() + body)


class ScriptedServer:
    """Counts connections; every one runs the script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0
        self.visits: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    async def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        visit = asyncio.current_task()
        assert visit is not None
        self.visits.add(visit)
        visit.add_done_callback(self.visits.discard)
        try:
            await self._run(reader, writer)
        finally:
            writer.transport.abort()

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError, asyncio.IncompleteReadError):
            await self.script(Visit(reader, writer))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def scripted(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(script)
    listening = await asyncio.start_server(server.visited, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for visit in server.visits:
            visit.cancel()
        await asyncio.gather(*server.visits, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted transports are gone a turn later


def always(body: bytes = b"hello", status: int = 200, *headers: str) -> Script:
    """Answers every request of a connection alike."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            visit.answer(body, status, *headers)

    return script


def once(raw: bytes, *, then: Any = None) -> Script:
    """Answers the first request with raw bytes, then closes, or awaits `then(visit)` first."""

    async def script(visit: Visit) -> None:
        await visit.request()
        visit.say(raw)
        await visit.writer.drain()
        if then is not None:
            await then(visit)

    return script
