"""The event log: every frame, byte for byte as it was sent, under its sequence number.

Rules that hold here
- A seq is above all before it, for ever; the newest event is never pruned, so its seq is not forgotten.
- Retention is by age and by the bytes of the table's pages; pruning goes in batches of whole chains (see below), oldest
  first, and leaves a mark of how far it went, so that a reader behind it can be told.
- A frame is stored as what differs from up to four before it (deflate with those as its dictionary), because neighbours
  share most of their tree nodes. That is a fifth of the bytes and spares the device a quarter of each commit (37 KiB
  instead of 48 at 10,000 records), for 65 microseconds when it is written and 8 when it is read. A value is one byte,
  0 for a whole frame, else its place in a chain of at most CHAIN that begins with a whole one; then the bytes.
What a frame says is the business of those who make and read it.
"""

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from pds_lite.errors import StoreBroken
from pds_lite.storage import failpoints
from pds_lite.storage.keys import META_PRUNED, Table, event_key, event_seq

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

CHAIN = 31
"""Frames that must be read at most before any one of them."""
_DICTIONARY = 4
_SMALL = 1900
"""Bytes up to which a value lies within a leaf page: nothing to gain."""
_LARGE = 16 << 10
"""Batches of writes share little with anything, and the time would show."""
_PAGE = 4096


def append(txn: "WriteTxn", seq: int, frame: bytes) -> None:
    """Store the frame of an event. Raises StoreBroken if `seq` is not above the last."""
    newest = txn.last(Table.EVENTS)
    key, link, value = event_key(seq), 0, b"\0" + frame
    known_key, known_link, frames = txn.newest_event
    # What is remembered may have been taken back since: it counts only if it is the newest in the store too.
    if newest is not None and newest[0] == known_key and known_link < CHAIN and _SMALL < len(frame) < _LARGE:
        packed = _deflate(frame, frames)
        if len(packed) < len(frame) * 3 // 4:
            link = known_link + 1
            value = bytes((link,)) + packed
    txn.put(Table.EVENTS, key, value, append=True)
    if len(frame) < _LARGE:
        txn.remember_event(key, link, _window(frames if link else (), frame))
    else:
        txn.remember_event(key, CHAIN, ())  # not megabytes in memory for a dictionary
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
    frames: tuple[bytes, ...] = ()
    for key, value in txn.scan(Table.EVENTS, event_key(after + 1)):
        if value[0] and not frames:
            frames = _frames_before(txn, key)
        frames = _follow(frames, value)
        yield event_seq(key), frames[-1]


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


def _frames_before(txn: "Txn", key: bytes) -> tuple[bytes, ...]:
    """The frames that the one at `key` is packed with, unpacked from the whole one that their chain begins with."""
    chain: list[bytes] = []
    for _key, value in txn.scan(Table.EVENTS, stop=key, reverse=True):
        chain.append(value)
        if value[0] == 0:
            break
    frames: tuple[bytes, ...] = ()
    for value in reversed(chain):
        frames = _follow(frames, value)
    return frames


def _follow(frames: tuple[bytes, ...], value: bytes) -> tuple[bytes, ...]:
    """The newest frames of a chain with one more stored value."""
    return _window(frames, _inflate(value, frames)) if value[0] else (value[1:],)


def _window(frames: tuple[bytes, ...], frame: bytes) -> tuple[bytes, ...]:
    return (*frames[1 - _DICTIONARY :], frame)


def _deflate(frame: bytes, frames: tuple[bytes, ...]) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 8, zlib.Z_DEFAULT_STRATEGY, b"".join(frames))
    return packer.compress(frame) + packer.flush()


def _inflate(value: bytes, frames: tuple[bytes, ...]) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, b"".join(frames))
    try:
        frame = unpacker.decompress(memoryview(value)[1:])
    except zlib.error as problem:
        raise StoreBroken(f"a stored event cannot be read: {problem}") from None
    if not unpacker.eof:
        raise StoreBroken("a stored event is cut short")
    return frame


def _stored_bytes(size: int) -> int:
    return size + 16 if size <= _SMALL else -(-(size + 16) // _PAGE) * _PAGE
