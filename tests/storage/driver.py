"""A small stand-in for the services: real commits, events and blobs through the store, and a dict beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha512

from pds_lite.atproto import dag_cbor, firehose
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import find_blob_refs
from pds_lite.atproto.repo import Head, Write, build_commit
from pds_lite.atproto.tid import make_tid, tid_microseconds
from pds_lite.storage import blob_store, event_log, repo_store, sparse_tree
from pds_lite.storage.blob_store import BlobStore
from pds_lite.storage.store import Store, WriteTxn

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
TIME = "2026-11-22T12:44:16.123Z"


@dataclass(frozen=True)
class Blob:
    cid: Cid
    size: int
    mime_type: str = "image/png"


def record(text: str, blobs: Sequence[Blob] = ()) -> bytes:
    images = [{"$type": "blob", "ref": blob.cid, "mimeType": blob.mime_type, "size": blob.size} for blob in blobs]
    return dag_cbor.encode({"$type": "com.example.note", "text": text, "images": images})


def blobs_in(block: bytes) -> set[Cid]:
    return {found.cid for found in find_blob_refs(dag_cbor.decode_own(block))}


def some_sign(message: bytes) -> bytes:
    return sha512(message).digest()


class Driver:
    """Writes like the repo writer; `head` follows what became durable, also when a write fails."""

    def __init__(self, store: Store, files: BlobStore) -> None:
        self.store = store
        self.files = files
        self.head: Head | None = None
        self.now = 1_700_000_000_000_000
        with store.read() as txn:
            stored = repo_store.read_head(txn)
            if stored is not None:
                root = sparse_tree.load(txn)
                self.head = Head(stored.did, stored.rev, stored.commit, stored.commit_block, stored.data, root)
                self.now = max(event_log.last_seq(txn), tid_microseconds(stored.rev), self.now)

    def write(self, changes: Mapping[bytes, bytes | None], use_reserve: bool = False) -> str:
        """Set or (None) delete records in one commit; its rev."""
        return self.store.write_sync(partial(self.commit, changes=changes), "test", use_reserve=use_reserve)

    def fill(self, keys: Sequence[bytes], text: str = "a") -> None:
        """One record under each of these keys, in commits of 150."""
        for start in range(0, len(keys), 150):
            self.write({key: record(text) for key in keys[start : start + 150]})

    def commit(self, txn: WriteTxn, changes: Mapping[bytes, bytes | None]) -> str:
        """The job of `write`."""
        self.now += 1
        before, rev = self.head, make_tid(self.now, 0)
        old = {path: repo_store.get_record(txn, path) for path in changes}
        writes = [_write(path, block, old[path] is not None) for path, block in changes.items()]
        plan = build_commit(DID, before, writes, rev, some_sign, partial(repo_store.load_subtree, txn))
        repo_store.apply_commit(txn, plan)
        event_log.append(txn, self.now, firehose.commit_frame(self.now, TIME, plan))
        had = {(cid, path) for path, record in old.items() if record is not None for cid in blobs_in(record.block)}
        has = {(cid, path) for path, block in changes.items() if block is not None for cid in blobs_in(block)}
        for cid, path in has - had:
            blob_store.reference(txn, cid, path, rev)
        for cid, path in had - has:
            blob_store.dereference(txn, cid, path)
        txn.after_abort(lambda: setattr(self, "head", before))
        self.head = plan.head
        return rev

    def upload(self, content: bytes) -> Blob:
        """Store a blob as temporary."""
        upload = self.files.upload()
        upload.write(content)
        cid, size = upload.finish()
        self.now += 1
        now = self.now
        self.store.write_sync(lambda txn: blob_store.put_temporary(txn, cid, "image/png", size, now))
        return Blob(cid, size)

    def save_tree(self) -> None:
        head = self.head
        assert head is not None
        self.store.write_sync(lambda txn: sparse_tree.save(txn, head.root, head))

    def sweep(self, before_us: int = 0, budget: int = 100) -> int:
        return self.store.write_sync(lambda txn: blob_store.sweep(txn, self.files, before_us, budget))

    def records(self) -> dict[bytes, bytes]:
        """All records as the store has them, in its order."""
        with self.store.read() as txn:
            return {path: row.block for path, row in repo_store.scan_records(txn)}


def _write(path: bytes, block: bytes | None, exists: bool) -> Write:
    if block is None:
        return Write("delete", path)
    return Write("update" if exists else "create", path, Cid.of_cbor(block), block)
