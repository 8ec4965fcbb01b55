"""The repository on disk: its head, and each record inline under its path.

Rules that hold here
- MST nodes are not stored: they are a function of the records, and storing them would cost five times the bytes.
- A row is the rev that wrote it (8 bytes), the CID (its digest where it is of the usual kind, else whole, told by the
  top bit of the rev, which no TID has) and the block.
- There are two generations of all record tables. One is live; an import fills the other and `flip` changes over in one
  transaction with the new head. What is idle then is dropped in steps.
- Long paths live in buckets (keys.py); `scan_records` gives them in their place, so everything comes in MST order.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pds_lite.atproto.cid import CBOR_PREFIX, Cid
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.mst.node import Node, Stub
from pds_lite.atproto.mst.tree import Entry, rebuild
from pds_lite.atproto.repo import CommitPlan, Head
from pds_lite.atproto.tid import int_to_tid
from pds_lite.errors import BadCommit, BadData, StoreBroken, Unavailable
from pds_lite.storage import failpoints
from pds_lite.storage.keys import (
    BACKLINKS,
    LONG_BODIES,
    META_BUCKETS,
    META_GENERATION,
    META_HEAD,
    RECORDS,
    Table,
    bucket_key,
    decode_bucket,
    encode_bucket,
    next_body_id,
    path_after_collection,
    rev_bytes,
)

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

_ODD_CID = 0x80


class Record(NamedTuple):
    """A stored record; `rev_number` is the rev that wrote it as an integer."""

    cid: Cid
    rev_number: int
    block: bytes

    @property
    def rev(self) -> str:
        """The rev that wrote it."""
        return int_to_tid(self.rev_number)


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The last commit; its tree (`data`) is sparse_tree's business."""

    did: str
    rev: str
    commit: Cid
    commit_block: bytes
    data: Cid
    generation: int


# -- head


def read_head(txn: "Txn") -> StoredHead | None:
    """The head, None for a box without a repository. Raises StoreBroken."""
    block = txn.get(Table.META, META_HEAD)
    if block is None:
        return None
    try:
        commit = decode_commit(block)
    except BadCommit as problem:
        raise StoreBroken(f"the stored head is no commit: {problem.message}") from None
    return StoredHead(commit.did, commit.rev, Cid.of_cbor(block), block, commit.data, read_generation(txn))


def read_generation(txn: "Txn") -> int:
    """Which of the two generations of record tables is live: 0 or 1."""
    generation = txn.generation
    if generation is None:
        stored = txn.get(Table.META, META_GENERATION)
        generation = txn.generation = stored[0] & 1 if stored else 0
    return generation


def apply_commit(txn: "WriteTxn", plan: CommitPlan) -> None:
    """Store a planned commit: its records and its head."""
    generation = read_generation(txn)
    table = RECORDS[generation]
    rev = rev_bytes(plan.head.rev)
    for write in plan.writes:
        path = write.path
        if bucket_key(path) is not None:
            _change_long(txn, generation, path, None if write.cid is None else _encode(rev, write.cid, write.block))
        elif write.cid is None:
            txn.delete(table, path)
        else:
            txn.put(table, path, _encode(rev, write.cid, write.block))
    txn.put(Table.META, META_HEAD, plan.head.commit_block)
    failpoints.hit("repo.applied")


# -- records


def get_record(txn: "Txn", path: bytes) -> Record | None:
    """The record at a path, or None."""
    generation = read_generation(txn)
    key = bucket_key(path)
    if key is None:
        value = txn.get(RECORDS[generation], path) if path else None
    else:
        body_id = dict(_read_bucket(txn, generation, key)).get(path)
        value = None if body_id is None else _long_body(txn, generation, body_id)
    return None if value is None else _decode(value)


def scan_records(
    txn: "Txn",
    low: bytes | None = None,
    high: bytes | None = None,
    reverse: bool = False,
    generation: int | None = None,
) -> Iterator[tuple[bytes, Record]]:
    """(path, record) strictly between the bounds (None: none) in MST order, or backwards; of the live generation."""
    of_digest, number = Cid.of_cbor_digest, int.from_bytes
    for path, value in _scan(txn, low, high, reverse, read_generation(txn) if generation is None else generation):
        if value[0] < _ODD_CID:  # as in _decode: a call for each would be a tenth of an export
            yield path, Record(of_digest(value[8:40]), number(value[:8], "big"), value[40:])
        else:
            yield path, _decode(value)


Row: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""(path, CID, rev as its 8 bytes, block): a record for those who read all and would make objects for nothing."""


def scan_rows(txn: "Txn", after: bytes | None = None) -> Iterator[Row]:
    """Every record above a path (None: every one) in MST order, of the live generation; at half the cost of
    scan_records.
    """
    generation = read_generation(txn)
    for key, value in txn.scan(RECORDS[generation], (after or b"")[:500]):
        if len(key) == 500:
            for path, body_id in decode_bucket(key, value):
                if after is None or path > after:
                    yield as_row(path, _decode(_long_body(txn, generation, body_id)))
        elif value[0] >= _ODD_CID:
            if key != after:
                yield as_row(key, _decode(value))
        elif key != after:
            yield key, CBOR_PREFIX + value[8:40], value[:8], value[40:]


def as_row(path: bytes, record: Record) -> Row:
    """The record at a path as scan_rows gives it."""
    return path, record.cid, record.rev_number.to_bytes(8, "big"), record.block


@dataclass(slots=True)
class Page:
    """Records one after the other: their paths, binary CIDs and blocks. `more`: others follow."""

    paths: list[bytes]
    cids: list[bytes]
    blocks: list[bytes]
    more: bool = False


def read_page(
    txn: "Txn", low: bytes, high: bytes, *, reverse: bool, limit: int, max_bytes: int, hidden: Container[bytes]
) -> Page:
    """Up to `limit` records between the bounds, without the `hidden` ones; no more once they have `max_bytes`.

    At half the cost of scan_records, because a list asks for less and is read a hundred records at a time.
    """
    page = Page([], [], [])
    add_path, add_cid, add_block = page.paths.append, page.cids.append, page.blocks.append
    size = 0
    for path, value in _scan(txn, low, high, reverse, read_generation(txn)):
        if path in hidden:
            continue
        if len(page.paths) == limit or size > max_bytes:
            page.more = True
            break
        size += len(value)
        add_path(path)
        if value[0] < _ODD_CID:
            add_cid(CBOR_PREFIX + value[8:40])
            add_block(value[40:])
        else:
            record = _decode(value)
            add_cid(record.cid)
            add_block(record.block)
    return page


def load_subtree(txn: "Txn", stub: Stub) -> Node:
    """The sealed node that a Stub stands for. Raises StoreBroken if the records do not make it."""
    return rebuild(stub, _entries(_scan(txn, stub.low, stub.high, False, read_generation(txn))))


def scan_entries(txn: "Txn", generation: int | None = None) -> Iterator[Entry]:
    """(path, CID) of every record in MST order, for building the tree."""
    return _entries(_scan(txn, None, None, False, read_generation(txn) if generation is None else generation))


def collections(txn: "Txn") -> list[str]:
    """The names of the collections that have records, sorted; one seek each."""
    table = RECORDS[read_generation(txn)]
    names = []
    entry = txn.first(table)
    while entry is not None:
        names.append(entry[0].partition(b"/")[0].decode())
        entry = next(txn.scan(table, path_after_collection(entry[0])), None)
    return names


def record_count(txn: "Txn", generation: int | None = None) -> int:
    """How many records there are; costs nothing."""
    number = read_generation(txn) if generation is None else generation
    return txn.count(RECORDS[number]) - _bucket_count(txn, number) + txn.count(LONG_BODIES[number])


def _entries(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[Entry]:
    of_digest = Cid.of_cbor_digest
    for path, value in rows:
        yield path, of_digest(value[8:40]) if value[0] < _ODD_CID else _decode(value).cid


def _scan(
    txn: "Txn", low: bytes | None, high: bytes | None, reverse: bool, generation: int
) -> Iterator[tuple[bytes, bytes]]:
    """(path, row) strictly between the bounds."""
    first = (low or b"")[:500]
    last = None if high is None else _above(high)
    for key, value in txn.scan(RECORDS[generation], first, last, reverse):
        if len(key) == 500:
            paths = decode_bucket(key, value)
            for path, body_id in reversed(paths) if reverse else paths:
                if (low is None or path > low) and (high is None or path < high):
                    yield path, _long_body(txn, generation, body_id)
        elif key != low:
            yield key, value


def _above(high: bytes) -> bytes:
    """Where a scan for paths below `high` stops: behind its bucket if it is a long path, which may hold lower ones."""
    key = bucket_key(high)
    return high if key is None else key + b"\0"


def _encode(rev: bytes, cid: Cid, block: bytes | None) -> bytes:
    assert block is not None
    if cid.is_cbor:
        return rev + cid[4:] + block
    return bytes((rev[0] | _ODD_CID,)) + rev[1:] + bytes((len(cid),)) + cid + block


def _decode(value: bytes) -> Record:
    if value[0] < _ODD_CID:
        return Record(Cid.of_cbor_digest(value[8:40]), int.from_bytes(value[:8], "big"), value[40:])
    end = 9 + value[8]
    try:
        cid = Cid.decode(value[9:end])
    except BadData:
        raise StoreBroken("a record row holds no CID") from None
    return Record(cid, int.from_bytes(value[:8], "big") & ~(_ODD_CID << 56), value[end:])


# -- long paths


def _read_bucket(txn: "Txn", generation: int, key: bytes) -> list[tuple[bytes, bytes]]:
    value = txn.get(RECORDS[generation], key)
    return [] if value is None else decode_bucket(key, value)


def _long_body(txn: "Txn", generation: int, body_id: bytes) -> bytes:
    value = txn.get(LONG_BODIES[generation], body_id)
    if value is None:
        raise StoreBroken("a long record path has lost its record")
    return value


def _change_long(txn: "WriteTxn", generation: int, path: bytes, value: bytes | None) -> None:
    """Put the row of a long path, or delete it for None."""
    records, bodies = RECORDS[generation], LONG_BODIES[generation]
    key = path[:500]
    paths = dict(_read_bucket(txn, generation, key))
    before = len(paths)
    body_id = paths.get(path)
    if value is not None:
        if body_id is None:
            last = txn.last(bodies)
            body_id = paths[path] = next_body_id(last[0] if last else None)
        txn.put(bodies, body_id, value)
    elif body_id is not None:
        del paths[path]
        txn.delete(bodies, body_id)
    if len(paths) == before:
        return
    if paths:
        txn.put(records, key, encode_bucket(sorted(paths.items())))
    else:
        txn.delete(records, key)
    if not paths or not before:
        number = _bucket_count(txn, generation) + (1 if paths else -1)
        txn.put(Table.META, META_BUCKETS[generation], number.to_bytes(4, "big"))


def _bucket_count(txn: "Txn", generation: int) -> int:
    return int.from_bytes(txn.get(Table.META, META_BUCKETS[generation]) or b"", "big")


# -- import: the other generation


def begin_import(txn: "WriteTxn") -> int:
    """The idle generation, for an import to fill. Raises Unavailable while there is something left in it."""
    idle = 1 - read_generation(txn)
    if any(txn.count(table) for table in (RECORDS[idle], LONG_BODIES[idle], BACKLINKS[idle])):
        raise Unavailable("what an earlier import replaced is still being dropped; try again soon")
    return idle


def put_imported(txn: "WriteTxn", records: Iterable[tuple[bytes, Cid, bytes]], rev: str) -> None:
    """Put (path, CID, block) into the idle generation, written by `rev`. Cheapest in order of paths."""
    idle = 1 - read_generation(txn)
    number = rev_bytes(rev)
    for path, cid, block in records:
        if bucket_key(path) is not None:
            _change_long(txn, idle, path, _encode(number, cid, block))
        else:
            txn.put(RECORDS[idle], path, _encode(number, cid, block))
    failpoints.hit("import.batch")


def flip(txn: "WriteTxn", head: Head) -> None:
    """Make the idle generation the live one, under its new head. The saved tree belongs to the old one and goes."""
    _change_generation(txn)
    txn.put(Table.META, META_HEAD, head.commit_block)
    failpoints.hit("import.flip")


def flip_to_nothing(txn: "WriteTxn") -> None:
    """Make the idle generation, which must be empty, the live one, without a head: there is no repository."""
    _change_generation(txn)
    txn.delete(Table.META, META_HEAD)


def _change_generation(txn: "WriteTxn") -> None:
    generation = txn.generation = 1 - read_generation(txn)
    txn.put(Table.META, META_GENERATION, bytes((generation,)))
    for key, _value in list(txn.scan(Table.SPARSE)):
        txn.delete(Table.SPARSE, key)


def drop_idle(txn: "WriteTxn", budget: int) -> bool:
    """Delete up to `budget` rows of the idle generation. True if there is more to drop."""
    idle = 1 - read_generation(txn)
    for table in (RECORDS[idle], LONG_BODIES[idle], BACKLINKS[idle]):
        keys = [key for key, _value in _take(txn.scan(table), budget)]
        for key in keys:
            txn.delete(table, key)
        budget -= len(keys)
        if budget <= 0:
            return True
    if _bucket_count(txn, idle):
        txn.delete(Table.META, META_BUCKETS[idle])
    return False


def _take(rows: Iterator[tuple[bytes, bytes]], number: int) -> Iterator[tuple[bytes, bytes]]:
    return (row for row, _ in zip(rows, range(number), strict=False))
