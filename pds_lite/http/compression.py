"""gzip: answers when the client asks and it pays, request bodies when the client says so.

Rules that hold here
- Only text (JSON mostly) over one packet is compressed, at the cheapest level; CARs and blobs never: hashes and images
  do not shrink and the CPU is a small board's.
- What comes in is inflated piece by piece, never more than `_PIECE` bytes at once, so that a bomb meets the byte limit
  of whoever reads (http/body) before it meets the memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from pds_lite.errors import BadInput

MIN_SIZE = 1400
"""Bytes: an answer that fits one packet gains nothing."""
IN_THREAD = 128 * 1024
"""Bytes from which compressing would hold up the event loop noticeably on a small board."""

_PIECE = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
_COMPRESSIBLE = ("application/json", "text/", "application/did+ld+json")


def compressible(content_type: str, size: int) -> bool:
    """True if an answer of this type and size is worth compressing for whoever accepts it."""
    return size >= MIN_SIZE and content_type.startswith(_COMPRESSIBLE)


def accepts_gzip(accept_encoding: str) -> bool:
    """True if Accept-Encoding names gzip (or *) with a weight above zero."""
    accepted = accept_encoding.lower()
    if "gzip" not in accepted and "*" not in accepted:
        return False
    weights: dict[str, bool] = {}
    for part in accepted.split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        weights[coding] = not any(p.replace(" ", "").startswith("q=") and _is_zero(p) for p in parameters)
    return weights.get("gzip", weights.get("*", False))


def _is_zero(parameter: str) -> bool:
    return not parameter.partition("=")[2].strip().strip("0.")


def gzip_bytes(body: bytes) -> bytes:
    """`body` as one gzip member (no file name, no time)."""
    return zlib.compress(body, _LEVEL, _GZIP)


class Inflate:
    """Decodes a gzip (several members allowed) or zlib body. Raises BadInput for anything else or a truncated one."""

    def __init__(self, window_bits: int) -> None:
        self._bits = window_bits
        self._inflate = zlib.decompressobj(window_bits)
        self._inside = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Inflated pieces of at most 64 KiB each, made as they are asked for."""
        piece = b""
        # A full piece means that more may wait inside zlib even when the input is used up.
        while chunk or len(piece) == _PIECE:
            if self._inflate.eof:
                if not chunk:
                    return
                self._inflate = zlib.decompressobj(self._bits)
            try:
                piece = self._inflate.decompress(chunk, _PIECE)
            except zlib.error:
                raise BadInput("The body is not what its Content-Encoding says") from None
            self._inside = not self._inflate.eof
            chunk = self._inflate.unconsumed_tail if self._inside else self._inflate.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        """Raises BadInput if the body ended inside a member."""
        if self._inside:
            raise BadInput("The compressed body is truncated")


def decoder(content_encoding: str) -> Inflate | None:
    """A decoder for a request's Content-Encoding, None if there is nothing to decode. Raises BadInput (415)."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Inflate(_GZIP)
        case "deflate":
            return Inflate(zlib.MAX_WBITS)
    raise BadInput("Unsupported Content-Encoding: use gzip, deflate or none", status=415)
