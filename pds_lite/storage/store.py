"""The one LMDB environment: opening it safely, snapshots to read, one thread to write.

Rules: the 0.9 engine (lib_version=0) with 4 KiB pages whatever the board's page size, so that a card moves between
boards; every commit is flushed; a read transaction is short and never held across an await (it pins pages); all writes
go through `write`, which runs a function on the writer thread inside a child transaction. A folder holds data.mdb,
LMDB's lock.mdb and our store.lock. What the tables mean is the business of the modules beside this one.
"""

import asyncio
import errno
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import lmdb

from pds_lite.errors import StoreBroken, StoreFull
from pds_lite.storage import failpoints, migrations, resident
from pds_lite.storage.keys import Table, table_name
from pds_lite.storage.meta_page import missing_bytes
from pds_lite.storage.place import make_private_folder, refuse_network_file_system, sync_folder, take_lock
from pds_lite.storage.room import FULL_ERRORS, Room
from pds_lite.storage.transaction import PAGE_BYTES, Group, NewestChain, Txn, WriteTxn
from pds_lite.storage.writer import Job, MapFilled, Writer

T = TypeVar("T")

__all__ = ["PAGE_BYTES", "STORE_FOLDER", "ReadTxn", "Store", "StoreLimits", "Txn", "WriteTxn"]

STORE_FOLDER = "store"
"""Where in the data directory the environment lies."""
DATA_FILE = "data.mdb"
_LOCK_FILE_BYTES = 8192
"""For LMDB's usual 126 readers."""
_GIVE_BACK_BYTES = 8 << 20
"""How much the file grows before its mapped pages are given back: an import would count all of it as memory."""
_UNWRITTEN_BYTES = 64 << 10
"""How much a sound file may lack of what its meta page says."""
_IS_64_BIT = sys.maxsize > 1 << 32
_DOCTOR = "pds-lite doctor --store"
_NOT_OURS_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL_MESSAGES = tuple(os.strerror(code) for code in FULL_ERRORS)


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Sizes in bytes. The map only reserves addresses; `max_map_bytes` is how far it may grow when it fills."""

    map_bytes: int = 16 << 30 if _IS_64_BIT else 512 << 20
    max_map_bytes: int = 1 << 40 if _IS_64_BIT else 512 << 20
    ahead_bytes: int = 4 << 20
    reserve_bytes: int = 1 << 20


class ReadTxn(Txn):
    """`with store.read() as txn`: a snapshot; leave it soon."""

    __slots__ = ("_store",)

    def __init__(self, store: "Store", txn: Any, tables: list[Any]) -> None:
        super().__init__(txn, tables)
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._txn.abort()
        self._store._leave()
        if isinstance(problem, lmdb.Error):
            raise StoreBroken(f"the store cannot be read: {problem}", hint=_DOCTOR) from problem


class Store:
    """Open with Store.open (the one writer) or Store.open_readonly (any process, also beside a running writer)."""

    def __init__(self, folder: Path, environment: Any, tables: list[Any], limits: StoreLimits) -> None:
        self.folder = folder
        self.limits = limits
        self.page_bytes: int = environment.stat()["psize"]
        self._environment = environment
        self._tables = tables
        self._newest = NewestChain()
        self._gate = threading.Lock()
        self._readers = 0
        self._lock_file: int | None = None
        self._room: Room | None = None
        self._writer: Writer | None = None
        self._broken = ""
        self._given_back_at = self._used_bytes()

    @classmethod
    def open(cls, folder: Path, limits: StoreLimits | None = None) -> "Store":
        """Open or create the store for writing, alone, and bring it to the current format.

        Raises ConfigError on a network file system, Unavailable (StoreInUse) beside another writer, StoreBroken for a
        damaged store or one of a newer format, StoreFull, OSError where this user may not write.
        """
        limits = limits or StoreLimits()
        lock_file = environment = None
        try:
            make_private_folder(folder)
            refuse_network_file_system(folder)
            lock_file = take_lock(folder)
            if not (folder / DATA_FILE).exists():
                _create_data_file(folder)
            _refuse_cut_file(folder / DATA_FILE)
            _allocate_lock_file(folder)
            environment = _open_environment(folder, limits, readonly=False)
            environment.reader_check()
            store = cls(folder, environment, _open_tables(environment, create=True), limits)
            store._migrate()
        except BaseException as problem:
            if environment is not None:
                environment.close()
            if lock_file is not None:
                os.close(lock_file)
            _raise_as_fault(problem)
            raise
        store._lock_file = lock_file
        store._room = Room(folder / DATA_FILE, limits.ahead_bytes, store._used_bytes())
        store._writer = Writer(store)
        return store

    @classmethod
    def open_readonly(cls, folder: Path, limits: StoreLimits | None = None) -> "Store":
        """Open an existing store to read, whether a server is writing it or not. Raises StoreBroken."""
        limits = limits or StoreLimits()
        if not (folder / DATA_FILE).exists():
            raise StoreBroken(f"there is no store in {folder}")
        environment = None
        try:
            _refuse_cut_file(folder / DATA_FILE)
            environment = _open_environment(folder, limits, readonly=True)
            store = cls(folder, environment, _open_tables(environment, create=False), limits)
            with store.read() as txn:
                migrations.read_format(txn)
        except BaseException as problem:
            if environment is not None:
                environment.close()
            _raise_as_fault(problem)
            raise
        return store

    def close(self) -> None:
        """Finish queued writes and close; idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._room is not None:
            self._room.close()
            self._room = None
        self._environment.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def read(self) -> ReadTxn:
        """A snapshot for a `with` statement. Short; never across an await. Raises StoreBroken."""
        with self._gate:
            self._readers += 1
        try:
            return ReadTxn(self, self._begin_read(), self._tables)
        except lmdb.Error as problem:
            self._leave()
            raise StoreBroken(f"the store cannot be read: {problem}", hint=_DOCTOR) from problem

    async def write(self, fn: Callable[[WriteTxn], T], label: str = "", *, use_reserve: bool = False) -> T:
        """Run `fn` on the writer thread; its result once the change is durable.

        `fn` may run twice (after the map grew), so what it changes outside the transaction must go back by after_abort.
        `use_reserve` is for jobs that make room on a full disk, and for signing in, which comes before. Raises what
        `fn` raises; StoreFull or StoreBroken when the disk is full or broken. Cancelling the caller does not take the
        write back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(Job(fn, label, use_reserve, future, loop))
        return await future

    def write_sync(self, fn: Callable[[WriteTxn], T], label: str = "", *, use_reserve: bool = False) -> T:
        """`write` for threads without an event loop. Not from the writer thread itself."""
        future: Future[T] = Future()
        self._submit(Job(fn, label, use_reserve, future, None))
        return future.result()

    def give_back_pages(self) -> None:
        """Lets go of what reading has mapped; for those who have looked at much of the store."""
        resident.give_back(self.folder / DATA_FILE)

    def _submit(self, job: Job) -> None:
        if self._writer is None:
            raise StoreBroken("the store is not open for writing")
        self._writer.submit(job)

    def _begin_read(self) -> Any:
        try:
            return self._environment.begin()
        except lmdb.MapResizedError:
            self._environment.set_mapsize(0)  # the writer, in another process, took a larger map: take the same
            return self._environment.begin()

    def _leave(self) -> None:
        with self._gate:
            self._readers -= 1

    def _migrate(self) -> None:
        while True:
            with self.read() as reader:
                step = migrations.next_step(migrations.read_format(reader))
            if step is None:
                return
            with self._environment.begin(write=True) as txn:
                step(WriteTxn(txn, self._tables, self._newest))
            failpoints.hit("store.migrated")

    def _used_bytes(self) -> int:
        pages: int = self._environment.info()["last_pgno"] + 1
        return pages * self.page_bytes

    def _free_bytes(self) -> int:
        """Bytes of pages inside the file that no table uses."""
        with self.read() as txn:
            taken = sum(txn.table_bytes(table) for table in Table)
        return self._used_bytes() - taken // PAGE_BYTES * self.page_bytes

    # What the writer thread asks of us (writer.Backing).

    def begin(self) -> Group:
        return Group(self._environment, self._tables, self._newest)

    def admit(self, use_reserve: bool) -> None:
        """Raises StoreBroken after an I/O error, StoreFull when only the reserve is left and not for this job."""
        if self._broken:
            raise StoreBroken(self._broken, hint=_DOCTOR)
        room, reserve = self._room, self.limits.reserve_bytes
        if use_reserve or room is None or room.left >= reserve:
            return
        try:
            while room.left < reserve and room.extend():
                pass
        except OSError as problem:
            raise StoreBroken(f"the store failed: {problem}", hint=_DOCTOR) from problem
        # Pages freed inside the file count as room too; the half reserve on top is because that reckoning is rough.
        if room.left < reserve and room.left + self._free_bytes() < reserve + (reserve >> 1):
            raise _full()

    def fault(self, problem: Exception, committing: bool) -> Exception:
        """What a caller is told; after a commit that failed for another reason than room, nobody may write any more."""
        if isinstance(problem, lmdb.MapFullError):
            return MapFilled()
        if not isinstance(problem, lmdb.Error):
            return problem
        if _tells_of_a_full_disk(problem) or (committing and self._disk_is_full()):
            return _full()
        broken = StoreBroken(f"the store failed: {problem}", hint=_DOCTOR)
        if committing:
            # Nobody knows which pages the disk holds: no write may build on them.
            self._broken = broken.message
        return broken

    def _disk_is_full(self) -> bool:
        """Asked after an I/O error, which is what LMDB calls a write that a full disk cut short."""
        try:
            return self._room is not None and not self._room.extend()
        except OSError:
            return False

    def grow(self) -> bool:
        info = self._environment.info()
        larger = min(info["map_size"] * 2, self.limits.max_map_bytes) // PAGE_BYTES * PAGE_BYTES
        if larger <= info["map_size"]:
            return False
        for _ in range(2000):
            # A snapshot does not survive a new map, so wait until there is none; they are short.
            with self._gate:
                if self._readers == 0:
                    self._environment.set_mapsize(larger)
                    return True
            time.sleep(0.001)
        return False

    def settled(self) -> None:
        if self._room is not None:
            used = self._used_bytes()
            self._room.note(used)
            if used - self._given_back_at > _GIVE_BACK_BYTES:
                self._given_back_at = used
                self.give_back_pages()


def _tells_of_a_full_disk(problem: BaseException) -> bool:
    return isinstance(problem, lmdb.DiskError) or any(text in str(problem) for text in _FULL_MESSAGES)


def _full() -> StoreFull:
    return StoreFull("the disk is full: nothing was changed, reading goes on", hint="Make room on the disk, or delete.")


def _raise_as_fault(problem: BaseException) -> None:
    """Raises a PdsError for what LMDB or the disk says while the store is opened; nothing for any other error."""
    if not isinstance(problem, lmdb.Error | OSError) or getattr(problem, "errno", None) in _NOT_OURS_TO_WRITE:
        return
    if isinstance(problem, lmdb.MapFullError) or _tells_of_a_full_disk(problem):
        raise _full() from problem
    raise StoreBroken(f"the store cannot be opened: {problem}", hint=_DOCTOR) from problem


def _refuse_cut_file(file: Path) -> None:
    missing = missing_bytes(file)
    if missing > _UNWRITTEN_BYTES or file.stat().st_size == 0:
        raise StoreBroken(f"{file} is cut off: it lacks {missing} bytes of what it held", hint="restore a backup")


def _open_environment(folder: Path, limits: StoreLimits, readonly: bool) -> Any:
    size = (folder / DATA_FILE).stat().st_size
    map_bytes = max(limits.map_bytes, size + (size >> 2)) // (64 << 10) * (64 << 10)
    return lmdb.open(
        str(folder),
        map_size=map_bytes,
        max_dbs=len(Table),
        mode=0o600,
        readonly=readonly,
        create=not readonly,
        lib_version=0,
        max_spare_txns=4,
    )


def _open_tables(environment: Any, create: bool) -> list[Any]:
    if not create:
        # Handles opened inside a read transaction end with it.
        return [environment.open_db(table_name(table), create=False) for table in Table]
    with environment.begin(write=True) as txn:
        return [environment.open_db(table_name(table), txn=txn) for table in Table]


def _create_data_file(folder: Path) -> None:
    """An empty environment whose pages are 4 KiB on any kernel.

    LMDB would take the kernel's page size (16 KiB on some boards: three times the bytes per commit). It accepts what
    its two meta pages say, so they are taken from a throw-away environment and changed. Written under another name
    and renamed, so that a power cut leaves no half file.
    """
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder) as scratch:
        lmdb.open(scratch, map_size=1 << 20, lock=False, lib_version=0).close()
        made = (Path(scratch) / DATA_FILE).read_bytes()
        pages = _resize_meta_pages(made, PAGE_BYTES)
        fresh = Path(scratch) / "fresh"
        with fresh.open("xb") as file:
            file.write(pages)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o600)
        failpoints.hit("store.created")
        fresh.rename(folder / DATA_FILE)
    sync_folder(folder)


def _allocate_lock_file(folder: Path) -> None:
    """LMDB writes to its lock file through memory: without a block under it, a full disk would kill the process."""
    file = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, _LOCK_FILE_BYTES)
    finally:
        os.close(file)


def _resize_meta_pages(made: bytes, page_bytes: int) -> bytes:
    """The two meta pages of a new 64-bit environment with another page size.

    Page header: number (8 bytes), pad, flags. Then the meta; the free-list's entry, at byte 40, begins with the size.
    Other word sizes lay it out differently; their kernels have 4 KiB pages, where nothing is changed.
    """
    kernel_page = os.sysconf("SC_PAGE_SIZE")
    if kernel_page == page_bytes or not _IS_64_BIT:
        return made
    meta = made[:168]
    return b"".join(
        number.to_bytes(8, sys.byteorder)
        + meta[8:40]
        + page_bytes.to_bytes(4, sys.byteorder)
        + meta[44:].ljust(page_bytes - 44, b"\0")
        for number in (0, 1)
    )
