"""The repository as a stream of blocks: for getRepo, and for whatever must look at every block.

Blocks come in pre-order: commit, then each MST node followed by its subtrees and records in key order, so that a reader
needs no more memory than a path of the tree. Low nodes are not stored: each gap of the sparse tree is rebuilt from its
records and compared with the CID that the tree has for it, so a damaged store shows here and not at a relay.

Rules that hold here
- A read transaction lives within one batch, never across an await; between batches a Snapshot keeps the view.
- A batch is bounded in bytes; the first one is small, so that the first byte goes out at once.
- With `since`, whole subtrees that did not change after that rev are left out, and records too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.node import Node, Stub, block_of
from pds_lite.atproto.mst.tree import rebuild
from pds_lite.atproto.tid import Tid, tid_to_int
from pds_lite.errors import StoreBroken
from pds_lite.storage.repo_store import Record, scan_records

if TYPE_CHECKING:
    from pds_lite.services.snapshots import Change, Snapshot
    from pds_lite.storage.store import Store, Txn

Block: TypeAlias = tuple[Cid, bytes]
_Item: TypeAlias = "Node | Stub | bytes"
FIRST_BATCH = 16 << 10
BATCH = 128 << 10
"""Bytes gathered before the event loop gets its turn again: a few milliseconds."""
GIVE_BACK_BATCHES = 32
"""After each 4 MB what was read through the map is let go: the whole repository would count as memory of ours."""


async def export_blocks(store: Store, snapshot: Snapshot, since: str = "") -> AsyncIterator[list[Block]]:
    """All blocks of the snapshot in batches, those changed after rev `since` if it is given.

    Raises SnapshotLost, or StoreBroken if the records do not make the tree; what was yielded before must not be taken
    for complete then.
    """
    walk = _Walk(snapshot, since)
    head = snapshot.head
    budget = FIRST_BATCH
    batch = [(head.commit, head.commit_block)]
    for number in count(1):
        with store.read() as txn:
            done = walk.fill(txn, batch, budget)
        if number % GIVE_BACK_BATCHES == 0:
            store.give_back_pages()
        yield batch
        if done:
            return
        batch, budget = [], BATCH
        await asyncio.sleep(0)


class _Walk:
    """A place in the walk over a snapshot's tree, kept between batches."""

    def __init__(self, snapshot: Snapshot, since: str) -> None:
        self._snapshot = snapshot
        self._since = since
        self._since_number = tid_to_int(Tid(since)) if since else -1
        self._items: Iterator[_Item] = self._sparse(snapshot.head.root)
        self._position = b""  # every path up to here was dealt with

    def _sparse(self, node: Node) -> Iterator[_Item]:
        """Nodes, gaps and keys of the tree in memory, in pre-order, without what did not change."""
        if self._since and node.rev <= self._since:
            return
        yield node
        for index, tree in enumerate(node.trees):
            if isinstance(tree, Stub):
                if not self._since or tree.rev > self._since:
                    yield tree
            elif tree is not None:
                yield from self._sparse(tree)
            if index < len(node.keys):
                yield node.keys[index]

    def fill(self, txn: Txn, batch: list[Block], budget: int) -> bool:
        """Adds blocks to `batch` until `budget` bytes are reached; True at the end of the repository."""
        records = _Records(txn, self._snapshot, self._position)
        since = self._since_number
        for item in self._items:
            if type(item) is Node:
                block = block_of(item)
                batch.append((item.cid, block))
                budget -= len(block)
            elif type(item) is Stub:
                budget -= self._gap(item, records, batch)
            else:
                assert type(item) is bytes
                record = records.get(item)
                if record.rev_number > since:
                    batch.append((record.cid, record.block))
                    budget -= len(record.block)
                self._position = item
            if budget <= 0:
                return False
        return True

    def _gap(self, stub: Stub, records: _Records, batch: list[Block]) -> int:
        """Adds the nodes and records of one gap; how many bytes they have."""
        held = list(records.between(stub.low, stub.high))
        node = rebuild(stub, [(path, record[0]) for path, record in held])
        start = len(batch)
        _append_subtree(node, iter(held), self._since_number, batch)
        self._position = held[-1][0]
        return sum([len(block) for _cid, block in batch[start:]])


def _append_subtree(node: Node, records: Iterator[tuple[bytes, Record]], since: int, batch: list[Block]) -> None:
    """A whole subtree in pre-order, records in their place: `records` are those it was built from, in order."""
    batch.append((node.cid, node.block))
    last = len(node.keys)
    for index, tree in enumerate(node.trees):
        if tree is not None:
            assert type(tree) is Node
            _append_subtree(tree, records, since, batch)
        if index < last:
            cid, rev_number, block = next(records)[1]
            if rev_number > since:
                batch.append((cid, block))


class _Records:
    """The snapshot's records in path order through one transaction: the store's, with the overlay over them."""

    def __init__(self, txn: Txn, snapshot: Snapshot, after: bytes) -> None:
        self._txn = txn
        self._snapshot = snapshot
        self._seek(after)

    def _seek(self, after: bytes) -> None:
        """Goes on at the first record above `after`."""
        stored = scan_records(self._txn, low=after or None)
        # Only now, with the transaction open: whatever it shows changed is in the overlay.
        overlay = self._snapshot.changes_after(after)
        self._stream = _with_overlay(stored, overlay) if overlay else stored
        self._next = next(self._stream, None)

    def get(self, path: bytes) -> Record:
        """The record at `path`, which the tree says is there."""
        if self._next is not None and self._next[0] < path:  # a part of the tree was skipped
            self._seek(path[:-1])
            while self._next is not None and self._next[0] < path:
                self._next = next(self._stream, None)
        if self._next is None or self._next[0] != path:
            raise StoreBroken(f"the tree has a key without a record: {path!r}")
        record = self._next[1]
        self._next = next(self._stream, None)
        return record

    def between(self, low: bytes | None, high: bytes | None) -> Iterator[tuple[bytes, Record]]:
        """The records strictly between two keys."""
        if low is not None and self._next is not None and self._next[0] <= low:
            self._seek(low)
        while self._next is not None and (high is None or self._next[0] < high):
            yield self._next
            self._next = next(self._stream, None)


def _with_overlay(stored: Iterator[tuple[bytes, Record]], overlay: list[Change]) -> Iterator[tuple[bytes, Record]]:
    """Two sorted streams as one; where both have a path the overlay's value stands, and None there means no record."""
    changes = iter(overlay)
    change = next(changes, None)
    for path, record in stored:
        while change is not None and change[0] < path:
            if change[1] is not None:
                yield change[0], change[1]
            change = next(changes, None)
        if change is not None and change[0] == path:
            if change[1] is not None:
                yield path, change[1]
            change = next(changes, None)
        else:
            yield path, record
    while change is not None:
        if change[1] is not None:
            yield change[0], change[1]
        change = next(changes, None)
