"""The event log: every frame, byte for byte as it was sent, under its sequence number.

Rules that hold here
- A seq is above all before it, for ever; the newest event is never pruned, so its seq is not forgotten.
- Retention is by age and by the bytes of the table's pages; pruning goes in batches of whole chains (see below), oldest
  first, and leaves a mark of how far it went, so that a reader behind it can be told.
- A frame is stored as what differs from those before it, because neighbours share most of their tree nodes: a fifth of
  the bytes, which spares the device a quarter of each commit (37 KiB instead of 48 at 10,000 records), for 35
  microseconds when it is written and 4 when it is read. Up to CHAIN + 1 neighbours make a chain. Its first frame is
  stored whole and is the dictionary of one deflate stream, to which every other adds a piece that ends on a byte. A
  value is one byte, the place in the chain from 0 for a whole frame; then the frame or the piece.
- The stream being written lives in memory (130 KB) and goes on only from the very event that it has seen last: after a
  start, or when a write was taken back, a new chain begins.
What a frame says is the business of those who make and read it.
"""

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from pds_lite.errors import StoreBroken
from pds_lite.storage import failpoints
from pds_lite.storage.keys import META_PRUNED, Table, event_key, event_seq

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

CHAIN = 31
"""Frames that must be read at most before any one of them."""
_WINDOW_BITS = -14
"""Raw deflate that looks 16 KiB back: some five frames."""
_MEMORY_LEVEL = 7
_FLUSHED = b"\0\0\xff\xff"
"""What every flushed piece ends with. It is not stored."""
_SMALL = 1900
"""Bytes up to which a value lies within a leaf page: nothing to gain."""
_LARGE = 16 << 10
"""Batches of writes share little with anything, and the time would show."""
_PAGE = 4096


class Chain:
    """The chain that ends with the newest event, as far as it can be added to."""

    __slots__ = ("_first", "_stream", "key", "place")

    def __init__(self, key: bytes, first: bytes) -> None:
        """A new one: the event at `key` is stored whole."""
        self.key = key
        self.place = 0
        self._first = first
        self._stream: Any = None

    def takes(self, after: bytes, frame: bytes) -> bool:
        """Whether `frame` may follow the event at `after` in this chain."""
        return self.key == after and self.place < CHAIN and _SMALL < len(frame) < _LARGE and len(self._first) < _LARGE

    def add(self, key: bytes, frame: bytes) -> bytes:
        """The value to store at `key`. The chain holds it from now on, whether it is stored or not."""
        if self._stream is None:
            self._stream = zlib.compressobj(
                1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, self._first
            )
            self._first = b""
        self.key, self.place = key, self.place + 1
        piece: bytes = self._stream.compress(frame) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return bytes((self.place,)) + piece.removesuffix(_FLUSHED)


def append(txn: "WriteTxn", seq: int, frame: bytes) -> None:
    """Store the frame of an event. Raises StoreBroken if `seq` is not above the last."""
    newest = txn.last(Table.EVENTS)
    key, chain = event_key(seq), txn.newest_chain
    value = b""
    # What is remembered may have been taken back since: it counts only if it is the newest in the store too.
    if newest is not None and chain is not None and chain.takes(newest[0], frame):
        value = chain.add(key, frame)
    if not 0 < len(value) < len(frame) * 3 // 4:
        chain, value = Chain(key, frame), b"\0" + frame
    txn.put(Table.EVENTS, key, value, append=True)
    # Not megabytes in memory for what nothing follows.
    txn.remember_chain(chain if len(frame) < _LARGE else None)
    failpoints.hit("event.appended")


def last_seq(txn: "Txn") -> int:
    """The newest seq, 0 if there never was an event."""
    entry = txn.last(Table.EVENTS)
    return event_seq(entry[0]) if entry else 0


def oldest_seq(txn: "Txn") -> int:
    """The oldest seq that is kept, 0 if there is no event."""
    entry = txn.first(Table.EVENTS)
    return event_seq(entry[0]) if entry else 0


def pruned_through(txn: "Txn") -> int:
    """The newest seq that was pruned, 0 if none was. A cursor below it has missed events."""
    return event_seq(txn.get(Table.META, META_PRUNED) or b"")


def events(txn: "Txn", after: int = 0) -> Iterator[tuple[int, bytes]]:
    """(seq, frame) of every event after `after`, in order. Raises StoreBroken for one that cannot be read."""
    reader: _ChainReader | None = None
    for key, value in txn.scan(Table.EVENTS, event_key(after + 1)):
        reader = reader or _reader_at(txn, key, value)
        yield event_seq(key), reader.read(value)


def read_after(txn: "Txn", seq: int, max_bytes: int, max_events: int) -> list[tuple[int, bytes]]:
    """(seq, frame) of the events after `seq` in order, within both bounds, but at least one if there is one."""
    found: list[tuple[int, bytes]] = []
    size = 0
    for event in islice(events(txn, seq), max_events):
        size += len(event[1])
        if found and size > max_bytes:
            break
        found.append(event)
    return found


def needs_pruning(txn: "Txn", before_us: int, max_total_bytes: int) -> bool:
    """Whether there is something that `prune` with the same limits would drop, now or when its chain is complete."""
    if txn.count(Table.EVENTS) < 2:
        return False
    return oldest_seq(txn) < before_us or txn.table_bytes(Table.EVENTS) > max_total_bytes


def prune(txn: "WriteTxn", before_us: int, max_total_bytes: int, budget: int) -> int:
    """Drop the oldest events, while older than `before_us` or over the bytes; how many went.

    Whole chains go, so up to CHAIN events stay longer than they must, and as many may go beyond `budget`.
    """
    excess = txn.table_bytes(Table.EVENTS) - max_total_bytes
    seen: list[bytes] = []
    cut = 0
    for key, value in islice(txn.scan(Table.EVENTS), budget + CHAIN + 1):
        if value[0] == 0:
            if cut and len(seen) > budget:
                break
            cut = len(seen)
        if event_seq(key) >= before_us and excess <= 0:
            break
        excess -= _stored_bytes(len(value))
        seen.append(key)
    for key in seen[:cut]:
        txn.delete(Table.EVENTS, key)
    if cut:
        txn.put(Table.META, META_PRUNED, seen[cut - 1])
    failpoints.hit("event.pruned")
    return cut


class _ChainReader:
    """Reads values in their order."""

    __slots__ = ("_first", "_place", "_stream")

    def __init__(self) -> None:
        self._place = CHAIN
        self._first = b""
        self._stream: Any = None

    def read(self, value: bytes) -> bytes:
        """The frame of the next value. Raises StoreBroken if there is none in it."""
        place = value[0]
        if place == 0:
            self._place, self._stream, self._first = 0, None, value[1:]
            return self._first
        self._place += 1
        if place != self._place or place > CHAIN:
            raise StoreBroken("a stored event cannot be read: it is not in its place of a chain")
        if self._stream is None:
            self._stream = zlib.decompressobj(_WINDOW_BITS, self._first)
        try:
            frame: bytes = self._stream.decompress(value[1:] + _FLUSHED)
        except zlib.error as problem:
            raise StoreBroken(f"a stored event cannot be read: {problem}") from None
        if not frame or self._stream.eof:
            raise StoreBroken("a stored event cannot be read: its piece of the stream has no end")
        return frame


def _reader_at(txn: "Txn", key: bytes, value: bytes) -> _ChainReader:
    """A reader that has read what stands in the chain before `key`."""
    reader = _ChainReader()
    if value[0]:
        chain: list[bytes] = []
        for _key, before in txn.scan(Table.EVENTS, stop=key, reverse=True):
            chain.append(before)
            if before[0] == 0:
                break
        for before in reversed(chain):
            reader.read(before)
    return reader


def _stored_bytes(size: int) -> int:
    return size + 16 if size <= _SMALL else -(-(size + 16) // _PAGE) * _PAGE
