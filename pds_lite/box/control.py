"""The control socket: how the command line speaks to the running daemon, which alone writes the store.

A unix socket in the data directory, mode 0600: whoever may open it may read the data anyway, so there is no other
authentication. The protocol is frames of one kind byte, four length bytes (big-endian) and a payload:

    J  a JSON object: {"command": name, ...parameters} from the client; {"result": ...} or {"error": name, "message":
    text,
       "hint": text} from the daemon, as the last frame of an answer
    B  a piece of a body (a CAR), either way, at most MAX_PIECE bytes
    E  the end of the client's body

One command per connection. What the commands do is in commands.py; the same functions run without a daemon, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from pds_lite import ujson
from pds_lite.errors import BadInput, PdsError, Unavailable

SOCKET_NAME = "control.sock"
MAX_PIECE = 1 << 20
MAX_MESSAGE = 1 << 20
IDLE_S = 60.0

log = logging.getLogger(__name__)


class Channel:
    """The bodies of one command: what the client sends, and what it gets besides the result."""

    def __init__(self, body: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]]) -> None:
        self.body = body
        self.send = send


Command = Callable[[Mapping[str, Any], Channel], Awaitable[Any]]


class ControlServer:
    """Listens for commands; `commands` maps names to what they do."""

    def __init__(self, data_dir: Path, commands: Mapping[str, Command]) -> None:
        self._data_dir = data_dir
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Opens the socket; one left behind by a crash is replaced (the store's lock says that no daemon lives)."""
        path = self._data_dir / SOCKET_NAME
        path.unlink(missing_ok=True)
        with _short_name(self._data_dir) as name:
            mask = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._serve, name, limit=MAX_MESSAGE)
            finally:
                os.umask(mask)

    async def stop(self) -> None:
        """Closes the socket; a command that runs is cut off."""
        if self._server is not None:
            self._server.close()
            (self._data_dir / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader, writer)
            await _write(writer, b"J", ujson.dumpb(answer))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as problem:
            log.info("a control connection ended early: %s", problem)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
        try:
            kind, payload = await _read(reader)
            request = ujson.loads(payload) if kind == b"J" else None
            if not isinstance(request, dict) or request.get("command") not in self._commands:
                raise BadInput("the daemon does not know this command; is it of another version?")
            channel = Channel(_body(reader), lambda piece: _write(writer, b"B", piece))
            return {"result": await self._commands[request["command"]](request, channel)}
        except PdsError as problem:
            return {"error": problem.error, "message": problem.message, "hint": problem.hint}
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            raise
        except Exception:
            log.exception("fault in a command of the control socket")
            return {"error": "InternalServerError", "message": "the daemon failed; its log says where", "hint": ""}


async def ask(
    data_dir: Path,
    request: Mapping[str, Any],
    body: AsyncIterator[bytes] | None = None,
    receive: Callable[[bytes], None] | None = None,
) -> Any:
    """The result of one command of the daemon that serves `data_dir`.

    Raises ConnectionError when no daemon listens there, PdsError with what the daemon answered otherwise.
    """
    with _short_name(data_dir) as name:
        try:
            reader, writer = await asyncio.open_unix_connection(name, limit=MAX_MESSAGE)
        except OSError as problem:
            raise ConnectionError(f"no daemon answers in {data_dir}: {problem}") from None
    try:
        await _write(writer, b"J", ujson.dumpb(dict(request)))
        sending = asyncio.ensure_future(_send_body(writer, body))
        try:
            return await _receive_answer(reader, receive)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    except (OSError, asyncio.IncompleteReadError):
        raise Unavailable("the daemon ended before it answered", hint="pds-lite status") from None
    finally:
        writer.close()


async def _send_body(writer: asyncio.StreamWriter, body: AsyncIterator[bytes] | None) -> None:
    if body is None:
        return
    try:
        async for piece in body:
            await _write(writer, b"B", piece)
        await _write(writer, b"E", b"")
    except OSError:
        writer.close()  # a file that cannot be read to its end must not be taken for a whole one, nor be waited for
        raise


async def _receive_answer(reader: asyncio.StreamReader, receive: Callable[[bytes], None] | None) -> Any:
    while True:
        kind, payload = await _read(reader, idle_s=None)
        if kind == b"B" and receive is not None:
            receive(payload)
        elif kind == b"J":
            answer = ujson.loads(payload)
            if "result" in answer:
                return answer["result"]
            raise RefusedByDaemon(str(answer["message"]), error=str(answer["error"]), hint=str(answer["hint"]))


class RefusedByDaemon(PdsError):
    """The daemon's own error, passed on with its name, message and hint."""


async def _body(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        kind, payload = await _read(reader)
        if kind == b"E":
            return
        yield payload


async def _read(reader: asyncio.StreamReader, idle_s: float | None = IDLE_S) -> tuple[bytes, bytes]:
    async with asyncio.timeout(idle_s):
        head = await reader.readexactly(5)
        size = int.from_bytes(head[1:], "big")
        if size > MAX_MESSAGE:
            raise BadInput("a frame of the control socket is too long")
        return head[:1], await reader.readexactly(size)


async def _write(writer: asyncio.StreamWriter, kind: bytes, payload: bytes) -> None:
    for start in range(0, max(len(payload), 1), MAX_PIECE):
        piece = payload[start : start + MAX_PIECE]
        writer.write(kind + len(piece).to_bytes(4, "big") + piece)
    await writer.drain()


@contextlib.contextmanager
def _short_name(data_dir: Path) -> Any:
    """A name for the socket within the 107 bytes a unix socket address holds, however deep the data directory is."""
    name = str(data_dir / SOCKET_NAME)
    if len(os.fsencode(name)) <= 100:
        yield name
        return
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)
