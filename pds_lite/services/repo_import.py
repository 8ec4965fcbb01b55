"""RepoImport: a whole repository from a CAR, as account migration and restore bring it.

The upload goes to a spool file, is verified by walking from its root (signature, strict and canonical tree, every
record), and is written in small transactions into the idle generation of records. One last transaction makes that the
live one, with head, references and #sync. Until then nothing has changed, whatever was wrong with the upload.

Rules that hold here (decisions: Storage; protocol digest 3)
- The commit must be of this account's DID, signed by this box's key or by the key the DID document names now, and not
  more than five minutes ahead. While the account is active an older repository than the present one is refused. Until
  it is activated, a key that the document named once will do: an import may be repeated after the identity was moved.
- A record is kept as it was signed, byte for byte, canonical or not, if it can be read at all.
- A CAR that holds only what changed (getRepo with `since`) may be imported over the repository it builds on: subtrees
  and records that did not come are taken from there. So importing again costs only what is new.
- Records that are the same keep the rev that wrote them. Writes meanwhile are refused by name.
- Memory holds the packed index, one path of the tree and one batch, never the repository. Pages of the store are given
  back after each batch: the kernel maps sixteen for each one touched, so an import over an import would map all of it.
"""

from __future__ import annotations

import asyncio
import shutil
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pds_lite.atproto import dag_cbor, plc
from pds_lite.atproto.car import MAX_TOTAL, CarReader
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import Commit, decode_commit, verify_commit
from pds_lite.atproto.data import blob_cids
from pds_lite.atproto.mst.node import Node, Stub, Tree, decode_node
from pds_lite.atproto.mst.tree import build_sparse, walk
from pds_lite.atproto.repo import Head
from pds_lite.atproto.syntax import is_nsid, is_plc_did, is_record_key
from pds_lite.atproto.tid import Tid, tid_microseconds
from pds_lite.errors import BadCar, BadCommit, BadData, BadKey, BadRecord, BadTree, NotFound, StoreFull, TooLarge
from pds_lite.services.import_spool import ImportSpool
from pds_lite.services.record_writes import UNIQUE_BY_SUBJECT, subject_key
from pds_lite.storage import account_store, backlink_store, blob_references, repo_store
from pds_lite.storage.blob_store import KEEP_FREE_BYTES

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.identity import Identity
    from pds_lite.services.repo_writer import RepoWriter
    from pds_lite.storage.store import Store, WriteTxn

MAX_AHEAD_US = 5 * 60 * 1_000_000
MAX_BLOCKS = 3_000_000
BATCH_RECORDS = 500
BATCH_BYTES = 512 << 10
DROP_BUDGET = 2000
CHECK_ROOM_EVERY = 8 << 20
"""Bytes of an upload between two looks at the disk."""


class RepoImport:
    """Imports, one at a time. `folder` takes the spool file."""

    def __init__(
        self, store: Store, repo: RepoWriter, identity: Identity, clock: Clock, folder: Path, limit: int = MAX_TOTAL
    ) -> None:
        """`limit`: bytes of a CAR."""
        self._limit = limit
        self._store = store
        self._repo = repo
        self._identity = identity
        self._clock = clock
        self._folder = folder
        self._dropping: asyncio.Task[None] | None = None

    async def run(self, chunks: AsyncIterator[bytes], length: int | None = None) -> None:
        """Imports the CAR that `chunks` bring, of `length` bytes if that was announced.

        Raises BadCar, BadCommit, BadTree or BadRecord for what is wrong with it, TooLarge, Unavailable
        (ImportInProgress) beside another import, StoreFull; nothing has changed then.
        """
        self._repo.begin_import()
        try:
            spool = ImportSpool(self._folder)
            try:
                self._check_size(length or 0, to_come=length or 0)
                root = await self._receive(chunks, spool)
                await self._install(root, spool)
            finally:
                spool.close()
        except OSError as problem:
            raise StoreFull(f"The upload could not be kept: {problem.strerror}") from problem
        finally:
            self._repo.end_import()
            self._dropping = asyncio.create_task(self.drop_idle())

    def start(self) -> None:
        """Begins to drop what an import that a power cut ended left behind."""
        self._dropping = asyncio.create_task(self.drop_idle())

    async def stop(self) -> None:
        """Leaves what is still to be dropped for the next start."""
        if self._dropping is not None:
            self._dropping.cancel()
            await asyncio.gather(self._dropping, return_exceptions=True)

    async def _receive(self, chunks: AsyncIterator[bytes], spool: ImportSpool) -> Cid:
        """Spools the upload; the CAR's root. Every block is compared with its CID on the way."""
        reader = CarReader(max_blocks=MAX_BLOCKS, max_total=self._limit)
        received = checked = 0
        async for chunk in chunks:
            received += len(chunk)
            if received - checked >= CHECK_ROOM_EVERY or received > self._limit:
                self._check_size(received, to_come=0)
                checked = received
            for cid, block in reader.feed(chunk):
                spool.add(cid, block)
        root = reader.finish()
        spool.seal()
        return root

    def _check_size(self, size: int, *, to_come: int) -> None:
        """Raises TooLarge or StoreFull for a CAR of `size` bytes, `to_come` of which are not on the disk yet.

        Beside the spool file the records need room in the store, those that were there before until the end.
        """
        if size > self._limit:
            raise TooLarge(f"The CAR is larger than the {self._limit} bytes that this server takes")
        free = shutil.disk_usage(self._folder).free
        needed = to_come + size * 3 // 2 + KEEP_FREE_BYTES
        if free < needed:
            raise StoreFull(
                f"An import of {size >> 20} MB needs {needed >> 20} MB of free disk, there are {free >> 20} MB",
                hint="Make room on the disk.",
            )

    async def _install(self, root: Cid, spool: ImportSpool) -> None:
        block = spool.get(root)
        if block is None:
            raise BadCar("The CAR does not hold its root")
        commit = decode_commit(block)
        await self._check_commit(commit)
        if self._dropping is not None:
            await self._dropping
        await self.drop_idle()
        staging = _Staging(self._store, self._repo.head, spool, commit)
        tree = await asyncio.to_thread(staging.run)
        head = Head(commit.did, commit.rev, root, block, commit.data, tree)
        await self._repo.replace(head, staging.replace_references)

    async def _check_commit(self, commit: Commit) -> None:
        """Raises BadCommit unless the commit is this account's, of a sane time, and signed by a key that counts."""
        with self._store.read() as txn:
            account = account_store.get_account(txn)
        if account is None:
            raise NotFound("There is no account to import into", error="RepoNotFound")
        if commit.did != account.did:
            raise BadCommit(f"The repository is that of {commit.did}, not of {account.did}")
        head = self._repo.head
        if account.status == "active" and head is not None and commit.rev < head.rev:
            raise BadCommit(f"The repository is older ({commit.rev}) than the present one ({head.rev})")
        if tid_microseconds(Tid(commit.rev)) > self._clock.now_us() + MAX_AHEAD_US:
            raise BadCommit(f"The rev {commit.rev} lies in the future")
        if await self.key_of(commit, is_moving=account.status != "active") is None:
            raise BadCommit("The commit is signed neither by this server's key nor by one of the DID document")

    async def key_of(self, commit: Commit, *, is_moving: bool) -> str | None:
        """The did:key that signed the commit, if it is one that counts: this server's, or the DID document's now.

        For an account that `is_moving`, not active here, one that the document named in the past will do.
        """
        own = self._repo.did_key
        if _verifies(commit, own):
            return own
        document = await self._identity.did_doc(commit.did, refresh=True)
        keys = [document.signing_key] if document.signing_key is not None else []
        if is_moving and is_plc_did(commit.did) and not (keys and _verifies(commit, keys[0])):
            log = plc.audit(commit.did, await self._identity.plc.audit_log(commit.did))
            past = [plc.normalized(op)["verificationMethods"] for op in log.operations if op["type"] != "plc_tombstone"]
            keys += {methods["atproto"] for methods in past if "atproto" in methods}
        return next((key for key in keys if _verifies(commit, key)), None)

    async def drop_idle(self) -> None:
        """Empties the idle generation in steps short enough for writes to go between them."""
        left = True
        while left:
            left = await self._store.write(
                partial(repo_store.drop_idle, budget=DROP_BUDGET), "drop idle", use_reserve=True
            )
            if left:
                self._store.give_back_pages()


class _Staging:
    """The walk over an uploaded tree that fills the idle generation. Runs in a worker thread."""

    def __init__(self, store: Store, live: Head | None, spool: ImportSpool, commit: Commit) -> None:
        self._store = store
        self._live = live
        self._spool = spool
        self._commit = commit
        self._batch: list[tuple[bytes, Cid, bytes]] = []
        self._revs: list[str] = []
        self._subjects: list[tuple[bytes, str]] = []
        self._bytes = 0
        self._generation = 0
        self._collections: set[str] = set()
        self.blobs: list[tuple[Cid, bytes, str]] = []
        """(blob, path, rev) of every reference; bounded by the blobs a person has, not by the records."""

    def run(self) -> Node:
        """Writes every record; the tree, sparse. Raises BadTree, BadRecord or BadData."""
        self._generation = self._store.write_sync(repo_store.begin_import, "begin import")
        tree = build_sparse(self._entries(), self._commit.rev)
        self._flush()
        if tree.cid != self._commit.data:
            raise BadTree("The tree is not the canonical one of its records")
        return tree

    def replace_references(self, txn: WriteTxn) -> None:
        """Makes the blob references those of the imported records."""
        blob_references.replace_references(txn, self.blobs)

    def _entries(self) -> Iterator[tuple[bytes, Cid]]:
        """(path, CID) in order, each record checked and put into a batch on its way."""
        root = self._spool.get(self._commit.data)
        if root is None:
            top: Tree = self._live_root()
        else:
            top = decode_node(root, cid=self._commit.data)
        for path, cid in walk(top, self._load):
            self._take(path, cid)
            yield path, cid

    def _live_root(self) -> Node:
        if self._live is None or self._live.data != self._commit.data:
            raise BadTree(f"The CAR lacks the root of its tree, {self._commit.data}")
        return self._live.root

    def _load(self, stub: Stub) -> Node:
        """A node of the upload, or of the present repository where the upload leaves out what it shares with it."""
        block = self._spool.get(stub.cid)
        if block is not None:
            return decode_node(block, stub.layer, stub.low, stub.high, stub.cid)
        node = self._live_subtree(stub)
        if node is None:
            raise BadTree(f"The CAR lacks a node of its tree, {stub.cid}")
        return node

    def _live_subtree(self, wanted: Stub) -> Node | None:
        """The present repository's subtree of this layer and place, if it is the same."""
        if self._live is None:
            return None
        tree: Tree | None = self._live.root
        with self._store.read() as txn:
            while tree is not None and tree.layer >= wanted.layer:
                node = repo_store.load_subtree(txn, tree) if isinstance(tree, Stub) else tree
                if node.layer == wanted.layer:
                    return node if node.cid == wanted.cid else None
                tree = node.trees[_place(node, wanted.low)]
        return None

    def _take(self, path: bytes, cid: Cid) -> None:
        """Checks one record and puts it into the batch."""
        collection, _, rkey = path.decode("ascii").partition("/")
        if collection not in self._collections:
            if not is_nsid(collection):
                raise BadTree(f"The tree holds a path whose collection is no NSID: {collection[:317]}")
            self._collections.add(collection)
        if not is_record_key(rkey):
            raise BadTree(f"The tree holds a path that is no record path: {path.decode('ascii')}")
        block, rev = self._record(path, cid)
        self._batch.append((path, cid, block))
        self._revs.append(rev)
        self._bytes += len(block)
        try:
            value = dag_cbor.decode_lenient(block)
        except BadData as problem:
            raise BadRecord(f"The record {path.decode('ascii')} is {problem.message}") from None
        if not isinstance(value, dict):
            raise BadRecord(f"The record {path.decode('ascii')} is not an object")
        self.blobs += [(blob, path, rev) for blob in blob_cids(value)]
        subject = subject_key(collection, value) if collection in UNIQUE_BY_SUBJECT else None
        if subject is not None:
            self._subjects.append((subject, rkey))
        if len(self._batch) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES:
            self._flush()

    def _record(self, path: bytes, cid: Cid) -> tuple[bytes, str]:
        """(block, rev that wrote it) of a record, from the upload or, unchanged, from the present repository."""
        block = self._spool.get(cid)
        with self._store.read() as txn:
            present = repo_store.get_record(txn, path)
        if present is not None and present.cid == cid:
            return present.block, min(present.rev, self._commit.rev)
        if block is None:
            raise BadCar(f"The CAR lacks the record {path.decode('ascii')}")
        return block, self._commit.rev

    def _flush(self) -> None:
        if not self._batch:
            return
        self._store.write_sync(self._write_batch, "import")
        self._batch, self._revs, self._subjects, self._bytes = [], [], [], 0
        self._store.give_back_pages()

    def _write_batch(self, txn: WriteTxn) -> None:
        start = 0
        for end in range(1, len(self._batch) + 1):
            if end == len(self._batch) or self._revs[end] != self._revs[start]:
                repo_store.put_imported(txn, self._batch[start:end], self._revs[start])
                start = end
        for subject, rkey in self._subjects:
            backlink_store.add(txn, subject, rkey, self._generation)


def _verifies(commit: Commit, did_key: str) -> bool:
    try:
        verify_commit(commit, did_key)
    except (BadCommit, BadKey):
        return False
    return True


def _place(node: Node, low: bytes | None) -> int:
    """Which subtree of `node` begins at the bound `low`."""
    if low is None:
        return 0
    index = bisect_left(node.keys, low)
    return index + 1 if index < len(node.keys) and node.keys[index] == low else index
