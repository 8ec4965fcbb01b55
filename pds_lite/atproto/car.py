"""CAR version 1: a header that names the root, then blocks with their CIDs (specs/repository, "CAR files").

The reader is fed chunks of any size and gives blocks as soon as they are complete; it never holds more than one
unfinished block and the last chunk. Every block is hashed and compared with its CID before it is given out. Blocks may
come in any order, twice, or without being asked for; roots after the first are ignored.

This module does no I/O and does not look into blocks.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.varint import decode_varint, encode_varint
from pds_lite.errors import BadCar, BadData

CONTENT_TYPE: Final = "application/vnd.ipld.car"
MAX_BLOCK: Final = 2_097_152
MAX_HEADER: Final = 8_192
MAX_BLOCKS: Final = 10_000_000
MAX_TOTAL: Final = 4 << 30
_MAX_CID: Final = 100
_USUAL_PREFIXES: Final = (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20")


_HEADER_START: Final = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"
_HEADER_END: Final = b"\x67version\x01"
"""What stands around a root of the usual kinds, the only root."""
_HEADER_SIZE: Final = len(_HEADER_START) + 36 + len(_HEADER_END)


def encode_header(root: Cid) -> bytes:
    """The header of a CAR with one root, with its length."""
    if len(root) == 36:
        return b"%c%b%b%b" % (_HEADER_SIZE, _HEADER_START, root, _HEADER_END)
    header = dag_cbor.encode({"version": 1, "roots": [root]})
    return encode_varint(len(header)) + header


def encode_block(cid: Cid, block: bytes) -> bytes:
    """One block with its length and CID, as it stands in a CAR."""
    return b"".join((encode_varint(len(cid) + len(block)), cid, block))


def write_car(root: Cid, blocks: Iterable[tuple[Cid, bytes]]) -> Iterator[bytes]:
    """A whole CAR in pieces: the header, then one piece a block, in the order given."""
    yield encode_header(root)
    for cid, block in blocks:
        yield encode_block(cid, block)


def read_car(data: bytes, *, max_block: int = MAX_BLOCK, max_blocks: int = MAX_BLOCKS) -> tuple[Cid, dict[Cid, bytes]]:
    """(root, blocks by CID) of a whole CAR in memory. Raises BadCar."""
    reader = CarReader(max_block=max_block, max_blocks=max_blocks, max_total=len(data))
    blocks = dict(reader.feed(data))
    return reader.finish(), blocks


class CarReader:
    """A parser to push chunks into. `root` is known once the header has been fed.

    Limits, each raising BadCar: `max_block` and `max_header` bytes, `max_blocks` blocks, `max_total` bytes altogether.
    After an error the reader must not be fed again.
    """

    def __init__(
        self,
        *,
        max_block: int = MAX_BLOCK,
        max_header: int = MAX_HEADER,
        max_blocks: int = MAX_BLOCKS,
        max_total: int = MAX_TOTAL,
    ) -> None:
        self.root: Cid | None = None
        self._max_section = max_block + _MAX_CID
        self._max_block = max_block
        self._max_header = max_header
        self._blocks_left = max_blocks
        self._bytes_left = max_total
        self._buffer: bytes | bytearray = b""
        self._start = 0

    def feed(self, chunk: bytes | bytearray | memoryview) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that `chunk` completes. What the iterator was not asked for stays for the next call."""
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            raise BadCar("CAR is larger than allowed")
        if self._start == len(self._buffer) and type(chunk) is bytes:
            self._buffer = chunk  # a whole CAR, or a chunk at the end of a block: nothing to join
        else:
            if isinstance(self._buffer, bytearray):
                del self._buffer[: self._start]
            else:
                self._buffer = bytearray(self._buffer[self._start :])
            self._buffer += chunk
        self._start = 0
        return self._blocks()

    def finish(self) -> Cid:
        """The root, once all has been fed. Raises BadCar if the CAR is cut short."""
        if self.root is None:
            raise BadCar("CAR ends before its header is complete")
        if self._start != len(self._buffer):
            raise BadCar("CAR ends inside a block")
        return self.root

    def _blocks(self) -> Iterator[tuple[Cid, bytes]]:
        if self.root is None:
            header = self._section(self._max_header)
            if header is None:
                return
            self.root = _read_header(header)
        limit = self._max_section
        while (section := self._section(limit)) is not None:
            self._blocks_left -= 1
            if self._blocks_left < 0:
                raise BadCar("CAR has more blocks than allowed")
            size = 36 if section[:4] in _USUAL_PREFIXES else _cid_size(section)
            block = section[size:]
            if len(section) < size or len(block) > self._max_block:
                raise BadCar("CAR has a block that is cut short or too large")
            cid = Cid(section[:size])
            if sha256(block).digest() != section[size - 32 : size] or section[size - 34 : size - 32] != b"\x12\x20":
                raise BadCar(f"CAR has a block that does not hash to its CID {cid}")
            yield cid, block

    def _section(self, limit: int) -> bytes | None:
        """The next length-prefixed piece, or None while it is incomplete."""
        buffer, start = self._buffer, self._start
        length = shift = 0
        available = len(buffer)
        for byte in buffer[start : start + 10]:
            start += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if length > limit or shift > 63:
                raise BadCar(f"CAR has a piece of over {limit} bytes")
            if byte < 0x80:
                break
        else:
            return None
        if byte == 0:
            raise BadCar("CAR has an empty piece or a length that is not minimal")
        end = start + length
        if end > available:
            return None
        self._start = end
        return bytes(buffer[start:end])


def _read_header(header: bytes) -> Cid:
    if len(header) == _HEADER_SIZE and header.startswith(_HEADER_START) and header.endswith(_HEADER_END):
        root = header[len(_HEADER_START) : -len(_HEADER_END)]
        if root[:4] in _USUAL_PREFIXES:
            return Cid(root)
    try:
        content = dag_cbor.decode(header)
    except BadData as problem:
        raise BadCar(f"CAR header is {problem.message}") from None
    if type(content) is not dict or type(content.get("version")) is not int or content["version"] != 1:
        raise BadCar("CAR is not of version 1")
    roots = content.get("roots")
    if type(roots) is not list or not roots or any(type(root) is not Cid for root in roots):
        raise BadCar("CAR names no root")
    first = roots[0]
    assert type(first) is Cid
    return first


def _cid_size(section: bytes) -> int:
    """The length of the CID that a section begins with, for kinds other than the two usual ones."""
    try:
        version, offset = decode_varint(section, 0)
        _codec, offset = decode_varint(section, offset)
        _hash_function, offset = decode_varint(section, offset)
        digest_size, offset = decode_varint(section, offset)
    except BadData as problem:
        raise BadCar(f"CAR has a block without a CID: {problem.message}") from None
    if version != 1 or offset + digest_size > _MAX_CID:
        raise BadCar("CAR has a block whose CID is not of version 1")
    return offset + digest_size
