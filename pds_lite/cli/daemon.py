"""Runs a command in the daemon if one serves the data directory, else in this process with the store opened here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pds_lite.box import control
from pds_lite.errors import ConfigError


def run(
    data_dir: Path,
    command: str,
    parameters: dict[str, Any] | None = None,
    *,
    body: Callable[[], AsyncIterator[bytes]] | None = None,
    receive: Callable[[bytes], None] | None = None,
) -> Any:
    """The result of a command of box/commands. `body` is sent along; `receive` gets what comes besides the result."""
    if not (data_dir / "pds-lite.toml").exists():
        raise ConfigError(f"there is no box in {data_dir}", hint="pds-lite init --hostname NAME")
    return asyncio.run(_run(data_dir, {"command": command, **(parameters or {})}, body, receive))


async def _run(
    data_dir: Path,
    request: dict[str, Any],
    body: Callable[[], AsyncIterator[bytes]] | None,
    receive: Callable[[bytes], None] | None,
) -> Any:
    try:
        return await control.ask(data_dir, request, body() if body else None, receive)
    except ConnectionError:
        pass
    from pds_lite.app import open_box
    from pds_lite.box.commands import COMMANDS

    async def send(piece: bytes) -> None:
        if receive is not None:
            receive(piece)

    async with open_box(data_dir) as services:
        return await COMMANDS[request["command"]](
            services, request, control.Channel(body() if body else _nothing(), send)
        )


async def _nothing() -> AsyncIterator[bytes]:
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece
