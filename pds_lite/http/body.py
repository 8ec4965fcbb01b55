"""BodyStream: the body of one request, as it arrives.

Rules that hold here
- A reader gets at most `limit` bytes (decoded ones, when the body was compressed): one more raises TooLarge. A
  declared length over the limit is refused before anything is asked of the client, so `Expect: 100-continue` spares
  the upload.
- A body that stops half-way (the client left, or http/protocol cut it for stalling) raises BadInput: no reader ever
  takes a truncated body for a whole one.
- Nothing is read ahead: a reader that is slow slows the client down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self

from pds_lite.errors import BadInput, TooLarge
from pds_lite.http.compression import Inflate, decoder

Receive = Callable[[], Awaitable[Any]]
"""ASGI's: awaits the next `http.request` or `http.disconnect` message."""


class BodyStream:
    """An async iterator of the body's chunks; iterate it once, or call `read`."""

    def __init__(
        self, receive: Receive, length: int | None, content_encoding: str = "", *, present: bool = True
    ) -> None:
        """`length`: the declared Content-Length in bytes; None when chunked. `present`: whether a body was announced
        at all (an empty one may be: Content-Length: 0).
        """
        self.length = length
        self.present = present
        self.limit = 1 << 62
        """Bytes; lowered by whoever knows the method."""
        self.received = 0
        """Decoded bytes given out so far."""
        self._receive = receive
        self._encoding = content_encoding
        self._raw = 0
        self._begun = False
        self._ended = not present
        self._inflate: Inflate | None = None
        self._pieces: Iterator[bytes] | None = None

    @property
    def empty(self) -> bool:
        """True if the request surely has no bytes of body. A chunked body counts as some until it was read."""
        return not self.present or self.length == 0

    @property
    def encoded(self) -> bool:
        """True if `length` counts compressed bytes, not the ones given out."""
        return self._encoding not in ("", "identity")

    def keep_encoded(self) -> Self:
        """Gives the body out as it comes, compressed if it was, for whoever passes it on. Before the first read."""
        self._encoding = ""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begin()
        while True:
            piece = next(self._pieces, None) if self._pieces is not None else None
            if piece is not None:
                return self._counted(piece)
            if self._ended:
                if self._inflate is not None:
                    self._inflate.finish()
                raise StopAsyncIteration
            chunk = await self._chunk()
            if self._inflate is not None:
                self._pieces = self._inflate.feed(chunk)
            elif chunk:
                return self._counted(chunk)

    async def read(self, limit: int, seconds: float = 60) -> bytes:
        """The whole body. Raises TooLarge over `limit` bytes, BadInput if it goes on for more than `seconds`."""
        self.limit = min(self.limit, limit)
        # The connection's own deadline holds for the first piece, which nearly always is the whole.
        first = await anext(self, b"")
        if self._ended and self._inflate is None:
            return first
        try:
            async with asyncio.timeout(seconds):
                return first + b"".join([chunk async for chunk in self])
        except TimeoutError:
            raise BadInput("The body took too long to arrive", status=408, error="RequestTimeout") from None

    def _begin(self) -> None:
        self._begun = True
        if self._encoding:
            self._inflate = decoder(self._encoding)
        if self.length is not None and self.length > self.limit:
            raise self._too_large()

    async def _chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise BadInput("The connection ended before the whole body had arrived", error="BodyIncomplete")
        self._ended = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        self._raw += len(chunk)
        if self._ended and self.length not in (None, self._raw):
            # A parser that saw an Upgrade header gives no body at all, whatever was declared.
            raise BadInput("The body is not as long as declared", error="BodyIncomplete")
        return chunk

    def _counted(self, chunk: bytes) -> bytes:
        self.received += len(chunk)
        if self.received > self.limit:
            raise self._too_large()
        return chunk

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.limit} bytes this method takes")
