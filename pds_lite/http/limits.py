"""How much of everything one listening socket gives its clients."""

from __future__ import annotations

from dataclasses import dataclass

READ_BYTES = 64 * 1024
"""Taken from the socket at once, a quarter of asyncio's default: every connection may have it waiting unread."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Seconds, bytes and counts for one listening socket."""

    first_byte_s: float = 10
    head_s: float = 10
    body_idle_s: float = 20
    keep_alive_s: float = 130
    """Longer than a reverse proxy keeps an idle connection (Caddy: 120 s), so that it never sends into a closing
    one.
    """
    write_stall_s: float = 60
    """A reader must take 48 KiB in this time."""
    drain_s: float = 2
    """For a client that is still sending to see that it was refused."""
    drain_bytes: int = 32 << 20
    """What is thrown away meanwhile, about as much as a fast network brings: browsers look at the answer at the end."""
    head_bytes: int = 32 * 1024
    url_bytes: int = 16 * 1024
    headers: int = 100
    pipelined: int = 32
    connections: int = 256
