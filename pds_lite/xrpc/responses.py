"""What an XRPC handler may give back, and the bytes it becomes.

A handler returns a dict (JSON), None (200 and no body) or a Reply. Errors are raised; `error_reply` is the one place
where a PdsError becomes {error, message}. Messages go to strangers: hints, and the messages of faults that may name
local files, do not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pds_lite import ujson
from pds_lite.atproto.data import json_default
from pds_lite.errors import ConfigError, PdsError, RateLimited, StoreBroken, StoreFull

JSON = "application/json; charset=utf-8"
CAR = "application/vnd.ipld.car"

_MAX_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not plain JSON, or that needs headers of its own."""

    body: bytes | AsyncIterator[bytes]
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer; CIDs and bytes in `value` become $link and $bytes."""
    return Reply(ujson.dumpb(value, json_default), JSON, status, headers or {})


def error_reply(problem: PdsError, challenge: str = "Bearer") -> Reply:
    """The XRPC error body of `problem`; with status 401 `challenge` says what would have been accepted."""
    message = problem.message[:_MAX_MESSAGE]
    if isinstance(problem, StoreBroken | ConfigError):
        message = "Internal Server Error"
    elif isinstance(problem, StoreFull):
        message = "No room left on this server's disk"
    headers = {}
    if isinstance(problem, RateLimited):
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = challenge
    body = ujson.dumpb({"error": problem.error, "message": message})
    return Reply(body, JSON, problem.status, headers)
