"""RepoReader: records, lists, proofs and exports of the one repository, as the methods that read answer them.

Rules that hold here
- Records go from their blocks straight to JSON text, dozens at a time; nothing walks them.
- A proof needs tree and records of one moment: the head in memory is compared with that of the transaction, and taken
  again if a commit came between.
- Exports are few at a time and have a deadline; what waits too long is told to come back. getBlocks looks at most once
  through the repository per request, one request at a time, within a time limit.

It does not know who asks, nor whether the account is active.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pds_lite import ujson
from pds_lite.atproto import car, dag_cbor
from pds_lite.atproto.cid import Cid, texts
from pds_lite.atproto.data import json_default
from pds_lite.atproto.mst.node import Node, block_of
from pds_lite.atproto.mst.proof import path_proof
from pds_lite.atproto.syntax import is_record_key, is_tid
from pds_lite.atproto.varint import encode_varint
from pds_lite.errors import BadInput, NotFound, RateLimited, Unavailable
from pds_lite.services.repo_export import Block, export_blocks
from pds_lite.storage import repo_store

if TYPE_CHECKING:
    from pds_lite.atproto.repo import Head
    from pds_lite.clock import Clock
    from pds_lite.services.snapshots import Snapshot, Snapshots
    from pds_lite.storage.repo_store import Page
    from pds_lite.storage.store import Store, Txn

T = TypeVar("T")
PAGE_BYTES = 8 << 20
"""Of blocks in one page of a list; a hundred of the largest records would be a fifth of a small board's memory."""
PORTION = 48 << 10
"""Bytes of blocks unpacked at once: a value may take a hundred times the memory of its block."""
EXPORT_DEADLINE_S = 900.0
"""An export that takes longer is cut: its view would keep old values for a reader who may never come back."""
EXPORT_WAIT_S = 5.0
MAX_WAITING = 6
"""Exports that wait for their turn; they hold a place among the strangers served at once, so it must be few."""
BLOCKS_BUDGET_S = 20.0
MAX_BLOCKS_ASKED = 1000


class RepoReader:
    """Reads of the repository whose head `snapshots` holds."""

    def __init__(self, store: Store, snapshots: Snapshots, clock: Clock, max_exports: int) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._exports = asyncio.Semaphore(max_exports)
        self._exports_waiting = 0
        self._searches = asyncio.Semaphore(1)

    @property
    def head(self) -> Head | None:
        """The newest durable head."""
        return self._snapshots.head

    # Records as JSON text

    def get_record(self, did: str, collection: str, rkey: str, cid: str | None, hidden: Container[bytes] = ()) -> bytes:
        """{"uri","cid","value"} of one record.

        Raises NotFound, also if it has another CID than `cid` or its path is in `hidden`.
        """
        path = f"{collection}/{rkey}".encode()
        with self._store.read() as txn:
            record = repo_store.get_record(txn, path)
        if record is None or (cid is not None and cid != str(record.cid)) or path in hidden:
            raise NotFound(f"Could not locate record: at://{did}/{collection}/{rkey}", error="RecordNotFound")
        value = dag_cbor.decode_own(record.block)
        return ujson.dumpb(
            {"uri": f"at://{did}/{collection}/{rkey}", "cid": str(record.cid), "value": value}, json_default
        )

    def list_records(
        self,
        did: str,
        collection: str,
        limit: int,
        cursor: str | None,
        *,
        oldest_first: bool,
        hidden: Container[bytes] = (),
    ) -> bytes:
        """{"records","cursor"}: a page in the order of record keys; `cursor` is the last key of the page before it.

        There is no cursor on the last page, so that a client may follow it until it is gone. A page of very large
        records ends before `limit`.
        """
        if cursor and not is_record_key(cursor):
            raise BadInput("Malformed cursor")
        prefix = f"{collection}/".encode()
        low, high = prefix, f"{collection}0".encode()
        if cursor:
            low, high = (prefix + cursor.encode(), high) if oldest_first else (low, prefix + cursor.encode())
        with self._store.read() as txn:
            page = repo_store.read_page(
                txn, low, high, reverse=not oldest_first, limit=limit, max_bytes=PAGE_BYTES, hidden=hidden
            )
        records = b'{"records":[' + _records_json(did, page) + b"]"
        if not page.more:
            return records + b"}"
        return records + b',"cursor":"' + page.paths[-1][len(prefix) :] + b'"}'

    def collections(self) -> list[str]:
        """The collections that hold records."""
        with self._store.read() as txn:
            return repo_store.collections(txn)

    # Proofs

    async def record_proof(self, path: bytes) -> bytes:
        """A CAR that proves what is at `path`, or that nothing is: commit, the nodes leading there, the record."""
        return await self._with_head(partial(_record_proof, path=path))

    async def _with_head(self, fn: Callable[[Txn, Head], T]) -> T:
        """`fn` with a transaction and the head that belongs to it."""
        for _ in range(1000):
            head = self._snapshots.head
            if head is None:
                raise NotFound("There is no repository yet", error="RepoNotFound")
            with self._store.read() as txn:
                stored = repo_store.read_head(txn)
                if stored is not None and stored.commit == head.commit:
                    return fn(txn, head)
            # A commit became durable between the two looks; the head in memory follows within microseconds.
            await asyncio.sleep(0)
        raise Unavailable("The repository changes faster than it can be read")

    # Whole repository

    async def export_car(self, since: str | None = None) -> AsyncIterator[bytes]:
        """The repository as a CAR, in pieces; with `since`, at least what changed after that rev.

        A rev this repository cannot place gives everything. Raises NotFound, RateLimited if too many exports run. When
        it raises later the CAR is not complete, and the connection must be cut.
        """
        async with self._export_slot(), self._view() as snapshot:
            deadline = self._clock.monotonic() + EXPORT_DEADLINE_S
            known = since is not None and is_tid(since) and since <= snapshot.head.rev
            prefix = car.encode_header(snapshot.head.commit)
            async for blocks in export_blocks(self._store, snapshot, since if known and since else ""):
                yield prefix + _sections(blocks)
                prefix = b""
                if self._clock.monotonic() > deadline:
                    raise Unavailable("The export took too long")

    async def blocks_car(self, wanted: Sequence[Cid]) -> AsyncIterator[bytes]:
        """The blocks with these CIDs as a CAR without order. Raises NotFound naming those that are not of this repo."""
        if len(wanted) > MAX_BLOCKS_ASKED:
            raise BadInput(f"At most {MAX_BLOCKS_ASKED} blocks can be asked for at once")
        async with self._view() as snapshot:
            found = dict(_blocks_in_memory(snapshot.head, set(wanted)))
            if len(found) < len(set(wanted)):
                async with self._searches:
                    await self._search(snapshot, set(wanted), found)
            missing = [str(cid) for cid in wanted if cid not in found]
            if missing:
                raise NotFound(f"Could not find cids: {', '.join(missing[:20])}", error="BlockNotFound")
            yield car.encode_header(snapshot.head.commit)
            for cid in dict.fromkeys(wanted):
                yield car.encode_block(cid, found[cid])

    async def _search(self, snapshot: Snapshot, wanted: set[Cid], found: dict[bytes, bytes]) -> None:
        """One look through the repository for blocks that are not in memory, adding them to `found`."""
        deadline = self._clock.monotonic() + BLOCKS_BUDGET_S
        async for blocks in export_blocks(self._store, snapshot):
            found.update((cid, block) for cid, block in blocks if cid in wanted)
            if len(found) == len(wanted):
                return
            if self._clock.monotonic() > deadline:
                raise Unavailable("Looking for these blocks takes too long here; export the repository instead")

    @asynccontextmanager
    async def _export_slot(self) -> AsyncIterator[None]:
        if self._exports_waiting >= MAX_WAITING:
            raise RateLimited("Too many exports at once", retry_after=30)
        self._exports_waiting += 1
        try:
            async with asyncio.timeout(EXPORT_WAIT_S):
                await self._exports.acquire()
        except TimeoutError:
            raise RateLimited("Too many exports at once", retry_after=30) from None
        finally:
            self._exports_waiting -= 1
        try:
            yield
        finally:
            self._exports.release()

    @asynccontextmanager
    async def _view(self) -> AsyncIterator[Snapshot]:
        snapshot = self._snapshots.take()
        if snapshot is None:
            raise NotFound("There is no repository yet", error="RepoNotFound")
        try:
            yield snapshot
        finally:
            self._snapshots.release(snapshot)


def _records_json(did: str, page: Page) -> bytes:
    """{"uri","cid","value"} of each record, with commas between them."""
    cids = texts(page.cids)
    pieces = []
    for start, stop in _portions(page.blocks):
        values = dag_cbor.decode_own_list(page.blocks[start:stop])
        records = [
            {"uri": f"at://{did}/{path.decode()}", "cid": cid, "value": value}
            for path, cid, value in zip(page.paths[start:stop], cids[start:stop], values, strict=True)
        ]
        pieces.append(ujson.dumpb(records, json_default)[1:-1])
    return b",".join(pieces)


def _portions(blocks: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where to cut the blocks, so that no more than PORTION bytes, or one, are unpacked at a time."""
    start = size = 0
    for index, block in enumerate(blocks):
        size += len(block)
        if size > PORTION and index > start:
            yield start, index
            start, size = index, len(block)
    if start < len(blocks):
        yield start, len(blocks)


_LENGTHS = [encode_varint(length) for length in range(2048)]
"""Of almost every section of an export; a call for each would be a tenth of its cost."""


def _sections(blocks: Sequence[Block]) -> bytes:
    """The blocks as they stand in a CAR."""
    pieces: list[bytes] = []
    for cid, block in blocks:
        length = len(cid) + len(block)
        pieces += (_LENGTHS[length] if length < 2048 else encode_varint(length), cid, block)
    return b"".join(pieces)


def _record_proof(txn: Txn, head: Head, path: bytes) -> bytes:
    blocks = [(head.commit, head.commit_block)]
    blocks += path_proof(head.root, path, partial(repo_store.load_subtree, txn))
    record = repo_store.get_record(txn, path)
    if record is not None:
        blocks.append((record.cid, record.block))
    return b"".join(car.write_car(head.commit, blocks))


def _blocks_in_memory(head: Head, wanted: set[Cid]) -> list[Block]:
    """The commit and upper nodes among `wanted`."""
    found: list[Block] = [(head.commit, head.commit_block)] if head.commit in wanted else []
    stack: list[Any] = [head.root]
    while stack:
        node = stack.pop()
        if type(node) is Node:
            if node.cid in wanted:
                found.append((node.cid, block_of(node)))
            stack.extend(node.trees)
    return found
