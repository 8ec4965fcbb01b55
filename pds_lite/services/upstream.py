"""Answers of other services, as they are passed on: the XRPC form of their errors, and how they are unpacked.

An error is read only if it is JSON, small and soon there; otherwise its status alone says what happened. Nothing a
service sends as an error reaches a client but a name and a message. Knows nothing of who asked whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.errors import BadInput, UpstreamFailure
from pds_lite.http.compression import decoder

if TYPE_CHECKING:
    from pds_lite.net.http_client import HttpStream

MAX_ERROR = 64 << 10
"""Bytes of an error's body, packed or not."""
ERROR_S = 5.0
_MAX_NAME = 100
_MAX_MESSAGE = 2000
_NAMES = {
    400: ("InvalidRequest", "Invalid Request"),
    401: ("AuthenticationRequired", "Authentication Required"),
    403: ("Forbidden", "Forbidden"),
    404: ("XRPCNotSupported", "XRPC Not Supported"),
    406: ("NotAcceptable", "Not Acceptable"),
    413: ("PayloadTooLarge", "Payload Too Large"),
    415: ("UnsupportedMediaType", "Unsupported Media Type"),
    429: ("RateLimitExceeded", "Rate Limit Exceeded"),
    501: ("MethodNotImplemented", "Method Not Implemented"),
    502: ("UpstreamFailure", "Upstream Failure"),
    503: ("NotEnoughResources", "Not Enough Resources"),
    504: ("UpstreamTimeout", "Upstream Timeout"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes | AsyncIterator[bytes]
    error: str | None = None
    """The name, if it is an error; the body has it too."""


async def error_answer(stream: HttpStream, headers: Mapping[str, str]) -> Answer:
    """The XRPC error that the answer (a status from 400 up) stands for, with `headers`."""
    said = await _error_body(stream)
    status = 502 if stream.status == 500 else stream.status
    name, message = _NAMES.get(status, _NAMES[400] if status < 500 else _NAMES[502])
    error = _text(said.get("error"), _MAX_NAME) or name
    body = ujson.dumpb({"error": error, "message": _text(said.get("message"), _MAX_MESSAGE) or message})
    return Answer(status, {**headers, "content-type": "application/json"}, body, error)


def unpacked(body: bytes, content_encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding. Raises UpstreamFailure if it is no such thing, or over `limit` bytes."""
    pieces, size = [], 0
    try:
        inflate = decoder(content_encoding)
        if inflate is None:
            return body
        for piece in inflate.feed(body):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise UpstreamFailure("the answer is larger than allowed when unpacked")
        inflate.finish()
    except BadInput:
        raise UpstreamFailure("the answer is not packed as it says") from None
    return b"".join(pieces)


async def _error_body(stream: HttpStream) -> dict[str, Any]:
    if "json" not in stream.headers.get("content-type", "json").lower():
        return {}
    packed, size = [], 0
    try:
        async with asyncio.timeout(ERROR_S):
            async for piece in stream:
                packed.append(piece)
                size += len(piece)
                if size > MAX_ERROR:
                    return {}
        value = ujson.loads(unpacked(b"".join(packed), stream.headers.get("content-encoding", ""), MAX_ERROR))
    except (UpstreamFailure, BadInput, TimeoutError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any, longest: int) -> str:
    """`value` as one line of plain text, empty if it is none."""
    return "".join(filter(str.isprintable, value[:longest])) if isinstance(value, str) else ""
