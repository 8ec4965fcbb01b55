"""The event log: every frame as it was sent, under its sequence number.

Rules that hold here
- A seq is above all before it, for ever; the newest event is never pruned, so its seq is not forgotten.
- Retention is by age and by the bytes of the table's pages; pruning goes in batches, oldest first, and leaves a mark of
  how far it went, so that a reader behind it can be told.
What a frame says is the business of those who make and read it.
"""

from itertools import islice
from typing import TYPE_CHECKING

from pds_lite.storage import failpoints
from pds_lite.storage.keys import META_PRUNED, Table, event_key, event_seq

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

_PAGE = 4096
_INLINE = 2000
"""Bytes up to which a value lies within a leaf page; larger ones take whole pages of their own."""


def append(txn: "WriteTxn", seq: int, frame: bytes) -> None:
    """Store the frame of an event. Raises StoreBroken if `seq` is not above the last."""
    txn.put(Table.EVENTS, event_key(seq), frame, append=True)
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


def read_after(txn: "Txn", seq: int, max_bytes: int, max_events: int) -> list[tuple[int, bytes]]:
    """(seq, frame) of the events after `seq` in order, within both bounds, but at least one if there is one."""
    events: list[tuple[int, bytes]] = []
    size = 0
    for key, frame in islice(txn.scan(Table.EVENTS, event_key(seq + 1)), max_events):
        size += len(frame)
        if events and size > max_bytes:
            break
        events.append((event_seq(key), frame))
    return events


def needs_pruning(txn: "Txn", before_us: int, max_total_bytes: int) -> bool:
    """Whether `prune` with the same limits would find anything to drop."""
    if txn.count(Table.EVENTS) < 2:
        return False
    return oldest_seq(txn) < before_us or txn.table_bytes(Table.EVENTS) > max_total_bytes


def prune(txn: "WriteTxn", before_us: int, max_total_bytes: int, budget: int) -> int:
    """Drop up to `budget` of the oldest events, while older than `before_us` or over the bytes; how many went."""
    excess = txn.table_bytes(Table.EVENTS) - max_total_bytes
    droppable = min(budget, txn.count(Table.EVENTS) - 1)
    doomed = []
    for key, frame in islice(txn.scan(Table.EVENTS), max(droppable, 0)):
        if event_seq(key) >= before_us and excess <= 0:
            break
        excess -= _stored_bytes(len(frame))
        doomed.append(key)
    for key in doomed:
        txn.delete(Table.EVENTS, key)
    if doomed:
        txn.put(Table.META, META_PRUNED, doomed[-1])
    failpoints.hit("event.pruned")
    return len(doomed)


def _stored_bytes(size: int) -> int:
    return size + 16 if size <= _INLINE else -(-(size + 16) // _PAGE) * _PAGE
