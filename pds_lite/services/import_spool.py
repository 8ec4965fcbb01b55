"""The blocks of an uploaded CAR on disk, findable by CID: a foreign CAR may have them in any order.

The index is packed, 16 bytes a block: 8 bytes of the hash, 40 bits of offset, 24 bits of length, in 256 buckets that
are sorted when they are first looked into. 130,000 blocks take 2 MB where a dict would take 25. Two blocks with the
same 8 bytes are told apart by the CID that is stored before each block.

It checks nothing: the CAR reader has compared every block with its CID before it comes here.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadCar

_ENTRY = 16
_PREFIX = 8
_LENGTH_BITS = 24
_FLUSH = 256 << 10


class _Entries(Sequence[bytes]):
    """A bucket as a sequence of its entries, for bisect."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed) // _ENTRY

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        assert isinstance(index, int)
        return self.packed[index * _ENTRY : index * _ENTRY + _ENTRY]


class ImportSpool:
    """A file that nobody else can open, gone when it is closed."""

    def __init__(self, folder: Path) -> None:
        """`folder` must have room for the whole upload; the file has no name there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by close()
        self._buckets: list[bytearray | _Entries] = [bytearray() for _ in range(256)]
        self._waiting = bytearray()
        self._written = 0
        self.blocks = 0

    def add(self, cid: Cid, block: bytes) -> None:
        """Keeps a block. Raises BadCar for one that is too large to note."""
        section = len(cid) + len(block)
        if section >> _LENGTH_BITS:
            raise BadCar("CAR has a block that is too large")
        offset = self._written + len(self._waiting)
        bucket = self._buckets[cid[-1]]
        assert isinstance(bucket, bytearray)
        bucket += cid[-_PREFIX - 1 : -1] + (offset << _LENGTH_BITS | section).to_bytes(8, "big")
        self._waiting += cid
        self._waiting += block
        self.blocks += 1
        if len(self._waiting) >= _FLUSH:
            self._flush()

    def _flush(self) -> None:
        view = memoryview(self._waiting)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        self._written += len(self._waiting)
        self._waiting = bytearray()

    def seal(self) -> None:
        """Ends adding: from here on blocks can be asked for."""
        self._flush()

    def get(self, cid: Cid) -> bytes | None:
        """The block with this CID, None if it did not come."""
        entries = self._bucket(cid[-1])
        key = cid[-_PREFIX - 1 : -1]
        for index in range(bisect_left(entries, key), len(entries)):
            entry = entries[index]
            if entry[:_PREFIX] != key:
                return None
            place = int.from_bytes(entry[_PREFIX:], "big")
            section = os.pread(self._file.fileno(), place & (1 << _LENGTH_BITS) - 1, place >> _LENGTH_BITS)
            if section.startswith(cid):
                return section[len(cid) :]
        return None

    def _bucket(self, number: int) -> _Entries:
        bucket = self._buckets[number]
        if isinstance(bucket, bytearray):
            entries = sorted(bytes(bucket[start : start + _ENTRY]) for start in range(0, len(bucket), _ENTRY))
            bucket = self._buckets[number] = _Entries(b"".join(entries))
        return bucket

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()
