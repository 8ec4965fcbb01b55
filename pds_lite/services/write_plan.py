"""What a list of writes does to the records, judged against the store: the first half of a commit.

Writes are taken in order, each seeing what the ones before it did, and come down to one change per path; a path that
ends as it began is no change (a delete and a create of the same record is an update). Then references follow: every
blob a changed record names anew must be here with the stated type and size, whatever `validate` said. One that it named
before in the same words may stay: the record came with an import, from a host that called the type otherwise, or its
blob has yet to come, and its owner may edit it all the same.

Rules that hold here
- Runs on the writer thread, inside the transaction of the commit. Nothing is stored before all of it is judged.
- A second like, repost, follow or block of a subject deletes the first, if the write asks for it; the backlink table
  names it without a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import blob_cids, find_blob_refs
from pds_lite.atproto.repo import Write
from pds_lite.errors import BadInput, InvalidSwap, NotFound
from pds_lite.services.record_writes import UNIQUE_BY_SUBJECT, PreparedWrite, Swap, subject_key
from pds_lite.storage import backlink_store, blob_store, repo_store

if TYPE_CHECKING:
    from pds_lite.atproto.data import BlobRef
    from pds_lite.services.snapshots import Change
    from pds_lite.storage.repo_store import Record
    from pds_lite.storage.store import Txn, WriteTxn


@dataclass(slots=True)
class _Cell:
    """One path: the record it held, and what the writes so far made of it."""

    path: bytes
    old: Record | None
    cid: Cid | None
    write: PreparedWrite | None = None

    @property
    def changed(self) -> bool:
        return self.cid != (self.old.cid if self.old is not None else None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one write did, for the answer: `action` is create, update or delete."""

    action: str
    cid: Cid | None


class WritePlan:
    """The changes of one commit."""

    def __init__(self, txn: Txn, prepared: Sequence[PreparedWrite]) -> None:
        """Judges the writes. Raises InvalidSwap, BadInput (key taken, blob wrong) or NotFound (record, blob)."""
        self._txn = txn
        self._cells: dict[bytes, _Cell] = {}
        self.outcomes = [self._take(write) for write in prepared]
        for write in prepared:
            if write.replaces_duplicates and write.subject is not None:
                self._remove_duplicates(write, write.subject)
        self.changes = [cell for cell in self._cells.values() if cell.changed]
        for cell in self.changes:
            if cell.write is not None and cell.write.blobs:
                named_before = _blob_refs(cell.old)
                for blob in cell.write.blobs:
                    if blob not in named_before:
                        _check_blob(txn, blob)

    def _cell(self, path: bytes) -> _Cell:
        cell = self._cells.get(path)
        if cell is None:
            old = repo_store.get_record(self._txn, path)
            cell = self._cells[path] = _Cell(path, old, old.cid if old is not None else None)
        return cell

    def _take(self, write: PreparedWrite) -> Outcome:
        cell = self._cell(write.path)
        current = cell.cid
        if write.swap is not Swap.ANY and write.swap != current:
            raise InvalidSwap(f"Record was at {current}")
        if write.action == "create" and current is not None:
            raise BadInput(f"There is already a record at {write.collection}/{write.rkey}")
        if write.action in ("update", "delete") and current is None:
            raise NotFound(f"Could not locate record: {write.collection}/{write.rkey}", error="RecordNotFound")
        cell.cid, cell.write = write.cid, (write if write.cid is not None else None)
        if write.cid is None:
            return Outcome("delete", None)
        return Outcome("create" if current is None else "update", write.cid)

    def _remove_duplicates(self, write: PreparedWrite, subject: bytes) -> None:
        for rkey in backlink_store.rkeys_of(self._txn, subject):
            path = f"{write.collection}/{rkey}".encode()
            if path != write.path:
                cell = self._cell(path)
                cell.cid, cell.write = None, None

    def writes(self) -> list[Write]:
        """The changes as the repository takes them."""
        writes = []
        for cell in self.changes:
            if cell.write is None:
                writes.append(Write("delete", cell.path, None, None))
            else:
                writes.append(Write("create" if cell.old is None else "update", cell.path, cell.cid, cell.write.block))
        return writes

    def old_values(self) -> list[Change]:
        """What the changed paths held."""
        return [(cell.path, cell.old) for cell in self.changes]

    def store_references(self, txn: WriteTxn, rev: str) -> None:
        """Brings blob references and backlinks in line with the changed records."""
        ended: list[tuple[Cid, bytes]] = []
        for cell in self.changes:
            collection, _, rkey = cell.path.decode().partition("/")
            old_blobs, old_subject = _references(cell.old, collection)
            new_blobs = {blob.cid for blob in cell.write.blobs} if cell.write is not None else set()
            for cid in new_blobs - old_blobs:
                blob_store.reference(txn, cid, cell.path, rev)
            ended += [(cid, cell.path) for cid in old_blobs - new_blobs]
            subject = cell.write.subject if cell.write is not None else None
            if subject != old_subject:
                if old_subject is not None:
                    backlink_store.remove(txn, old_subject, rkey)
                if subject is not None:
                    backlink_store.add(txn, subject, rkey)
        # After all new ones: a blob that moves from one record to another must not be without any on the way.
        for cid, path in ended:
            blob_store.dereference(txn, cid, path)


_NO_BLOBS: frozenset[Cid] = frozenset()
_BLOB_WORD = b"mimeType"
"""In every blob reference, of the old form too: without it a record names no blob and need not be decoded."""


def _references(record: Record | None, collection: str) -> tuple[frozenset[Cid], bytes | None]:
    """(blobs, subject key) that a stored record names."""
    if record is None:
        return _NO_BLOBS, None
    unique = collection in UNIQUE_BY_SUBJECT
    if not unique and _BLOB_WORD not in record.block:
        return _NO_BLOBS, None
    value = dag_cbor.decode_own(record.block)
    return frozenset(blob_cids(value)), subject_key(collection, value) if unique else None


def _blob_refs(record: Record | None) -> list[BlobRef]:
    if record is None or _BLOB_WORD not in record.block:
        return []
    return find_blob_refs(dag_cbor.decode_own(record.block))


def _check_blob(txn: Txn, blob: BlobRef) -> None:
    row = blob_store.get_blob(txn, blob.cid)
    if row is None:
        raise NotFound(f"Could not find blob: {blob.cid}", error="BlobNotFound")
    if row.mime_type != blob.mime_type:
        raise BadInput(
            f"Referenced mimeType {blob.mime_type} does not match stored {row.mime_type}", error="InvalidMimeType"
        )
    if row.size != blob.size:
        raise BadInput(f"Referenced size {blob.size} does not match stored {row.size}", error="InvalidSize")
