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
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from pds_lite.atproto.cid import CBOR_PREFIX
from pds_lite.atproto.mst.node import Node, Stub, block_of, encode_node, hash_layer
from pds_lite.errors import StoreBroken
from pds_lite.storage.keys import rev_bytes
from pds_lite.storage.repo_store import Row, as_row, scan_rows

if TYPE_CHECKING:
    from pds_lite.services.snapshots import Change, Snapshot
    from pds_lite.storage.store import Store, Txn

Block: TypeAlias = tuple[bytes, bytes]
"""(binary CID, block)."""
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
    batch: list[Block] = [(head.commit, head.commit_block)]
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
        self._since_rev = rev_bytes(since) if since else b""
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
        for item in self._items:
            if type(item) is Node:
                block = block_of(item)
                batch.append((item.cid, block))
                budget -= len(block)
            elif type(item) is Stub:
                start = len(batch)
                self._gap(item, records, batch)
                budget -= sum([len(block) for _cid, block in batch[start:]])
            else:
                assert type(item) is bytes
                path, cid, rev, block = records.get(item)
                if rev > self._since_rev:
                    batch.append((cid, block))
                    budget -= len(block)
                self._position = path
            if budget <= 0:
                return False
        return True

    def _gap(self, stub: Stub, records: _Records, batch: list[Block]) -> None:
        """Adds the nodes and records of one gap."""
        rows = records.between(stub.low, stub.high)
        layers = [hash_layer(row[0]) for row in rows]
        if not rows or max(layers) > stub.layer:
            raise StoreBroken(f"the records between {stub.low!r} and {stub.high!r} are not those of a subtree")
        if _add_subtree(stub.layer, rows, layers, self._since_rev, batch) != stub.cid:
            raise StoreBroken(f"the records between {stub.low!r} and {stub.high!r} do not make subtree {stub.cid}")
        self._position = rows[-1][0]


def _add_subtree(layer: int, rows: list[Row], layers: list[int], since: bytes, batch: list[Block]) -> bytes:
    """Adds the subtree that these records make, with its top at `layer`, in pre-order; its CID.

    `layers` are those of the rows, none above `layer`. In one pass, as it is most of what an export costs; mst.tree
    makes nodes for whoever changes them.
    """
    place = len(batch)
    batch.append((b"", b""))  # a node stands before what is below it, but is made after it
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = []
    done = 0  # rows up to here were dealt with
    for index in [index for index, its_layer in enumerate(layers) if its_layer == layer]:
        below = index > done
        links.append(_add_subtree(layer - 1, rows[done:index], layers[done:index], since, batch) if below else None)
        path, cid, rev, block = rows[index]
        keys.append(path)
        values.append(cid)
        if rev > since:
            batch.append((cid, block))
        done = index + 1
    below = done < len(rows)
    links.append(_add_subtree(layer - 1, rows[done:], layers[done:], since, batch) if below else None)
    block = encode_node(keys, values, links)
    cid = CBOR_PREFIX + sha256(block).digest()
    batch[place] = (cid, block)
    return cid


class _Records:
    """The snapshot's records in path order through one transaction: the store's, with the overlay over them."""

    def __init__(self, txn: Txn, snapshot: Snapshot, after: bytes) -> None:
        self._txn = txn
        self._snapshot = snapshot
        self._seek(after)

    def _seek(self, after: bytes) -> None:
        """Goes on at the first record above `after`."""
        stored = scan_rows(self._txn, after or None)
        # Only now, with the transaction open: whatever it shows changed is in the overlay.
        overlay = self._snapshot.changes_after(after)
        self._stream = _with_overlay(stored, overlay) if overlay else stored
        self._next = next(self._stream, None)

    def get(self, path: bytes) -> Row:
        """The record at `path`, which the tree says is there."""
        if self._next is not None and self._next[0] < path:  # a part of the tree was skipped
            self._seek(path[:-1])
            while self._next is not None and self._next[0] < path:
                self._next = next(self._stream, None)
        row = self._next
        if row is None or row[0] != path:
            raise StoreBroken(f"the tree has a key without a record: {path!r}")
        self._next = next(self._stream, None)
        return row

    def between(self, low: bytes | None, high: bytes | None) -> list[Row]:
        """The records strictly between two keys."""
        if low is not None and self._next is not None and self._next[0] <= low:
            self._seek(low)
        rows: list[Row] = []
        row = self._next
        while row is not None and (high is None or row[0] < high):
            rows.append(row)
            row = next(self._stream, None)
        self._next = row
        return rows


def _with_overlay(stored: Iterator[Row], overlay: list[Change]) -> Iterator[Row]:
    """Two sorted streams as one; where both have a path the overlay's value stands, and None there means no record."""
    changes = iter(overlay)
    change = next(changes, None)
    for row in stored:
        path = row[0]
        while change is not None and change[0] < path:
            if change[1] is not None:
                yield as_row(change[0], change[1])
            change = next(changes, None)
        if change is not None and change[0] == path:
            if change[1] is not None:
                yield as_row(path, change[1])
            change = next(changes, None)
        else:
            yield row
    while change is not None:
        if change[1] is not None:
            yield as_row(change[0], change[1])
        change = next(changes, None)
