"""Blobs: files named by their CID, and rows that say who refers to them.

Rules that hold here
- File before row: an upload is written under a temporary name, renamed, and flushed with its folder before any row
  names it. So a row always has its whole file. Renaming first lets one journal commit hold both; only a file that is
  there already, and may have a row, is never replaced by one that is not flushed.
- A blob is temporary (a row in BLOBS_TEMPORARY, no difference in the file) until a record refers to it, then it has a
  row in BLOBS with the number of references and the newest rev that made one. A reference to a blob that is not here
  (imports may dangle) stands in BLOBS_MISSING until it is uploaded.
- What nobody wants goes to BLOBS_TRASH in the transaction that ends the last reference. The file is unlinked by `sweep`
  in a later transaction on the writer thread, which looks again: an upload of the same bytes may have come meanwhile.
- Each reference is a row of its own, so a record without blobs costs nothing here.
Uploads may run in any thread; everything that takes a WriteTxn runs on the writer thread.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from secrets import token_hex
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakSet

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadSyntax, StoreBroken, StoreFull, Unavailable
from pds_lite.storage import failpoints
from pds_lite.storage.keys import Table, blob_cid, blob_key, blob_ref_key, key_after, rev_bytes, rev_text
from pds_lite.storage.place import make_private_folder, sync_folder
from pds_lite.storage.room import FULL_ERRORS

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

BLOB_FOLDER = "blobs"
"""Where in the data directory the files lie: blobs/<first byte of the digest in hex>/<CID>."""
MAX_TEMPORARY = 5000
KEEP_FREE_BYTES = 16 << 20
"""An upload stops before it takes the last of the disk: the store needs room, and so does the machine."""
_FLUSH_BYTES = 8 << 20
"""Written bytes after which an upload is flushed, so that a commit never waits behind a whole video."""
_UPLOADS = "uploads"
_ROW = Struct(">QQ8sI")


@dataclass(frozen=True, slots=True)
class BlobRow:
    """What is known of a blob that is here. `rev` is the newest that made a reference, None for a temporary one."""

    cid: Cid
    mime_type: str
    size: int
    rev: str | None
    created_us: int
    refs: int


class BlobStore:
    """The files."""

    def __init__(self, folder: Path) -> None:
        """Make `folder` ready and drop what uploads left in it that a power cut ended."""
        self.folder = folder
        self._lock = threading.Lock()
        self._finished: WeakSet[BlobUpload] = WeakSet()
        make_private_folder(folder / _UPLOADS)
        make_private_folder(folder)
        for leftover in (folder / _UPLOADS).iterdir():
            leftover.unlink()

    def upload(self) -> "BlobUpload":
        """Begin an upload. Raises StoreFull."""
        return BlobUpload(self, self.folder / _UPLOADS / token_hex(12))

    def path(self, cid: Cid) -> Path:
        """Where the file of a blob is, if it is here."""
        return blob_path(self.folder, cid)

    def open(self, cid: Cid) -> BinaryIO:
        """The file of a blob, to read. Raises StoreBroken if it is gone."""
        try:
            return self.path(cid).open("rb")
        except FileNotFoundError:
            raise StoreBroken(f"the file of blob {cid} is gone") from None

    def unlink(self, cid: Cid) -> bool:
        """Remove a file; False if an upload of the same bytes has just put it there and its row is still to come.

        Only for a caller on the writer thread that sees no row of this blob.
        """
        with self._lock:
            if any(upload.cid == cid for upload in self._finished):
                return False
            self.path(cid).unlink(missing_ok=True)
        return True

    def install(self, upload: "BlobUpload", temporary: Path, cid: Cid) -> None:
        """Give the file of an upload its final name, and make it durable under it."""
        final = self.path(cid)
        new_folder = not final.parent.exists()
        if new_folder:
            make_private_folder(final.parent)
        if final.exists():
            upload.flush()
        with self._lock:
            # As long as the caller holds its upload, the row may be still to come and the file must not go.
            self._finished.add(upload)
            temporary.rename(final)
        failpoints.hit("blob.renamed")
        upload.flush()
        failpoints.hit("blob.flushed")
        sync_folder(final.parent)
        if new_folder:
            sync_folder(self.folder)


class BlobUpload:
    """One upload; keep the object until the row is stored. Blocking, and not for two threads at once."""

    def __init__(self, store: BlobStore, temporary: Path) -> None:
        self._store = store
        self._temporary = temporary
        self._hash = sha256()
        self._unflushed = 0
        self.size = 0
        self.cid: Cid | None = None
        self._file = self._guarded_open()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append to the blob. Raises StoreFull; then nothing is left behind."""
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file, view) :]
            self._hash.update(chunk)
            self.size += len(chunk)
            self._unflushed += len(chunk)
            if self._unflushed >= _FLUSH_BYTES:
                self.flush()
        except OSError as problem:
            self.abort()
            raise _as_fault(problem) from problem

    def finish(self) -> tuple[Cid, int]:
        """Make the file durable under its name: (CID, size). Raises StoreFull."""
        try:
            self._check_room()
            cid = self.cid = Cid.of_raw_digest(self._hash.digest())
            self._store.install(self, self._temporary, cid)
            os.close(self._file)
            self._file = -1
        except OSError as problem:
            self.abort()
            raise _as_fault(problem) from problem
        failpoints.hit("blob.installed")
        return cid, self.size

    def abort(self) -> None:
        """Forget the upload; harmless twice and after `finish`."""
        if self._file >= 0:
            # Under its final name already, it may not be unlinked here: another upload of these bytes could be there.
            # What is left is an empty file without a row, which the search after a start finds.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1
        self._temporary.unlink(missing_ok=True)

    def _guarded_open(self) -> int:
        try:
            return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise _as_fault(problem) from problem

    def flush(self) -> None:
        """Make what was written durable, if there is room for it. Raises StoreFull, OSError."""
        self._check_room()
        os.fdatasync(self._file)
        self._unflushed = 0

    def _check_room(self) -> None:
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize < KEEP_FREE_BYTES:
            self.abort()
            raise StoreFull("the disk is too full for this blob", hint="Make room on the disk.")


def blob_path(folder: Path, cid: Cid) -> Path:
    """Where the file of a blob lies below the blob folder."""
    return folder / cid[-32:-31].hex() / str(cid)


def _as_fault(problem: OSError) -> StoreFull | StoreBroken:
    if problem.errno in FULL_ERRORS:
        return StoreFull("the disk is full: the blob was not stored", hint="Make room on the disk.")
    return StoreBroken(f"a blob could not be written: {problem.strerror}")


# -- rows


def _encode(row: BlobRow) -> bytes:
    rev = rev_bytes(row.rev) if row.rev else bytes(8)
    return _ROW.pack(row.size, row.created_us, rev, row.refs) + row.mime_type.encode()


def _decode(key: bytes, value: bytes) -> BlobRow:
    size, created_us, rev, refs = _ROW.unpack_from(value)
    return BlobRow(
        blob_cid(key),
        value[_ROW.size :].decode(),
        size,
        rev_text(rev) if any(rev) else None,
        created_us,
        refs,
    )


def get_blob(txn: "Txn", cid: Cid) -> BlobRow | None:
    """The row of a blob that is here, a temporary one too."""
    key = blob_key(cid)
    value = txn.get(Table.BLOBS, key) or txn.get(Table.BLOBS_TEMPORARY, key)
    return None if value is None else _decode(key, value)


def put_temporary(txn: "WriteTxn", cid: Cid, mime_type: str, size: int, created_us: int) -> None:
    """Note a finished upload. A blob that records refer to already is permanent at once; a known one stays as it is.

    Raises Unavailable when too many uploads wait for their records.
    """
    key = blob_key(cid)
    txn.delete(Table.BLOBS_TRASH, key)
    if txn.get(Table.BLOBS, key) is not None:
        return
    if txn.delete(Table.BLOBS_MISSING, key):
        revs = [value[:8] for _key, value in _references(txn, key)]
        row = BlobRow(cid, mime_type, size, rev_text(max(revs)), created_us, len(revs))
        txn.put(Table.BLOBS, key, _encode(row))
        return
    if txn.count(Table.BLOBS_TEMPORARY) >= MAX_TEMPORARY:
        raise Unavailable("too many uploaded blobs wait for a record that refers to them")
    txn.put(Table.BLOBS_TEMPORARY, key, _encode(BlobRow(cid, mime_type, size, None, created_us, 0)))
    failpoints.hit("blob.row")


def reference(txn: "WriteTxn", cid: Cid, path: bytes, rev: str) -> None:
    """The record at `path`, written by `rev`, refers to this blob. Once per record, however often it names it."""
    key, ref_key = blob_key(cid), blob_ref_key(cid, path)
    is_new = txn.get(Table.BLOB_REFS, ref_key) is None
    txn.put(Table.BLOB_REFS, ref_key, rev_bytes(rev) + path)
    value = txn.get(Table.BLOBS, key)
    if value is None:
        value = txn.get(Table.BLOBS_TEMPORARY, key)
        if value is None:
            txn.put(Table.BLOBS_MISSING, key, b"")
            return
        txn.delete(Table.BLOBS_TEMPORARY, key)
    row = _decode(key, value)
    newest = max(rev, row.rev or rev)
    txn.put(Table.BLOBS, key, _encode(BlobRow(cid, row.mime_type, row.size, newest, row.created_us, row.refs + is_new)))


def dereference(txn: "WriteTxn", cid: Cid, path: bytes) -> None:
    """The record at `path` refers to this blob no more. With the last reference the blob goes to the trash."""
    key = blob_key(cid)
    if not txn.delete(Table.BLOB_REFS, blob_ref_key(cid, path)):
        return
    value = txn.get(Table.BLOBS, key)
    if value is None:
        if next(_references(txn, key), None) is None:
            txn.delete(Table.BLOBS_MISSING, key)
        return
    row = _decode(key, value)
    if row.refs > 1:
        txn.put(
            Table.BLOBS,
            key,
            _encode(BlobRow(cid, row.mime_type, row.size, row.rev, row.created_us, row.refs - 1)),
        )
    else:
        txn.delete(Table.BLOBS, key)
        txn.put(Table.BLOBS_TRASH, key, b"")


def _references(txn: "Txn", key: bytes) -> Iterator[tuple[bytes, bytes]]:
    return txn.scan(Table.BLOB_REFS, key, key_after(key))


def list_blobs(txn: "Txn", since: str | None, cursor: Cid | None, limit: int) -> tuple[list[Cid], Cid | None]:
    """CIDs of blobs that records refer to and that are here, after `cursor`, referred to by a rev after `since`.

    And the cursor to go on from, None at the end; a page may be short when many blobs are older than `since`.
    """
    newer_than = rev_bytes(since) if since else b""
    start = blob_key(cursor) + b"\0" if cursor else b""
    found: list[Cid] = []
    for seen, (key, value) in enumerate(txn.scan(Table.BLOBS, start), 1):
        if value[16:24] > newer_than:
            found.append(blob_cid(key))
        if len(found) >= limit or seen >= limit + 10_000:
            return found, blob_cid(key)
    return found, None


def missing_blobs(txn: "Txn", cursor: Cid | None, limit: int) -> list[tuple[Cid, bytes]]:
    """(CID, path of one record that refers to it) of blobs that are not here, after `cursor`."""
    start = blob_key(cursor) + b"\0" if cursor else b""
    missing = []
    for key, _value in islice(txn.scan(Table.BLOBS_MISSING, start), limit):
        reference_row = next(_references(txn, key), None)
        if reference_row is None:
            raise StoreBroken(f"blob {blob_cid(key)} counts as missing but no record refers to it")
        missing.append((blob_cid(key), reference_row[1][8:]))
    return missing


def blob_counts(txn: "Txn") -> tuple[int, int]:
    """(distinct blobs that records refer to, those of them that are here); costs nothing."""
    here = txn.count(Table.BLOBS)
    return here + txn.count(Table.BLOBS_MISSING), here


def sweep(txn: "WriteTxn", files: BlobStore, before_us: int, budget: int) -> int:
    """Unlink what is in the trash, then put temporary blobs made before `before_us` there; how many of both."""
    done = 0
    for key, _value in list(islice(txn.scan(Table.BLOBS_TRASH), budget)):
        cid = blob_cid(key)
        wanted = get_blob(txn, cid) is not None
        if wanted or files.unlink(cid):
            txn.delete(Table.BLOBS_TRASH, key)
            done += 1
    failpoints.hit("blob.unlinked")
    expired = (key for key, value in txn.scan(Table.BLOBS_TEMPORARY) if _decode(key, value).created_us < before_us)
    for key in list(islice(expired, max(budget - done, 0))):
        txn.delete(Table.BLOBS_TEMPORARY, key)
        txn.put(Table.BLOBS_TRASH, key, b"")
        done += 1
    return done


def drop_strays(txn: "WriteTxn", files: BlobStore, first_byte: int) -> int:
    """Unlink files without a row, which a power cut leaves between file and row; how many.

    Looks into one of the 256 folders, so that a whole round can be taken in steps.
    """
    gone = 0
    for path in list((files.folder / f"{first_byte:02x}").glob("*")):
        try:
            cid = Cid.parse(path.name)
        except BadSyntax:
            continue
        if get_blob(txn, cid) is None and txn.get(Table.BLOBS_TRASH, blob_key(cid)) is None:
            gone += files.unlink(cid)
    return gone
