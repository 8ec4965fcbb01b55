"""Transactions: what the modules of tables are given to read and write with. That LMDB is behind them stays here.

A key has 1 to 511 bytes. Page counts are those of 4 KiB pages, which every store has.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pds_lite.errors import StoreBroken
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.event_log import Chain

PAGE_BYTES = 4096


class Txn:
    """A consistent view of all tables. `generation` is repo_store's memo of the active record generation."""

    __slots__ = ("_tables", "_txn", "generation")

    def __init__(self, txn: Any, tables: list[Any]) -> None:
        self._txn = txn
        self._tables = tables
        self.generation: int | None = None

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The value, or None. Keys have 1 to 511 bytes."""
        value: bytes | None = self._txn.get(key, db=self._tables[table])
        return value

    def scan(
        self, table: Table, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) with start <= key < stop in key order, or backwards. Collect before deleting what it gives."""
        cursor = self._txn.cursor(db=self._tables[table])
        if reverse:
            return _backwards(cursor, start, stop)
        if not (cursor.set_range(start) if start else cursor.first()):
            return iter(())
        rows: Iterator[tuple[bytes, bytes]] = cursor.iternext()
        return rows if stop is None else _until(rows, stop)

    def first(self, table: Table) -> tuple[bytes, bytes] | None:
        """The entry with the lowest key."""
        return next(self.scan(table), None)

    def last(self, table: Table) -> tuple[bytes, bytes] | None:
        """The entry with the highest key."""
        return next(self.scan(table, reverse=True), None)

    def count(self, table: Table) -> int:
        """How many entries; costs nothing."""
        number: int = self._txn.stat(self._tables[table])["entries"]
        return number

    def table_bytes(self, table: Table) -> int:
        """Bytes of the pages the table takes; costs nothing."""
        stat = self._txn.stat(self._tables[table])
        pages: int = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * PAGE_BYTES


def _until(rows: Iterator[tuple[bytes, bytes]], stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    for row in rows:
        if row[0] >= stop:
            return
        yield row


def _backwards(cursor: Any, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    if stop is not None and cursor.set_range(stop):
        found = cursor.prev()
    else:
        found = cursor.last()
    for row in cursor.iterprev() if found else ():
        if row[0] < start:
            return
        yield row


class NewestChain:
    """What event_log remembers from one transaction to the next; see WriteTxn.remember_chain."""

    __slots__ = ("chain",)

    def __init__(self) -> None:
        self.chain: Chain | None = None


class WriteTxn(Txn):
    """A job's child transaction. Its changes are visible to later jobs of the group, and durable with the group."""

    __slots__ = ("_newest", "on_abort", "on_commit")

    def __init__(self, txn: Any, tables: list[Any], newest: NewestChain) -> None:
        super().__init__(txn, tables)
        self._newest = newest
        self.on_commit: list[Callable[[], None]] = []
        self.on_abort: list[Callable[[], None]] = []

    def put(self, table: Table, key: bytes, value: bytes, append: bool = False) -> None:
        """Set a value. `append` is for a key above all others: pages fill up, and a lower key is refused."""
        if not self._txn.put(key, value, append=append, db=self._tables[table]):
            raise StoreBroken(f"a key of table {table.name} is not above the last one")

    def delete(self, table: Table, key: bytes) -> bool:
        """True if the key was there."""
        found: bool = self._txn.delete(key, db=self._tables[table])
        return found

    @property
    def newest_chain(self) -> "Chain | None":
        """What was last remembered, in this transaction or one before it, whether that stood or not."""
        return self._newest.chain

    def remember_chain(self, chain: "Chain | None") -> None:
        """Keep the chain that the newest event ends, for the next append."""
        self._newest.chain = chain

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Called on the writer thread once the change is durable, in the order of the jobs, before anybody is told."""
        self.on_commit.append(callback)

    def after_abort(self, callback: Callable[[], None]) -> None:
        """Called on the writer thread if the change is taken back, last first: to undo what `fn` did in memory."""
        self.on_abort.append(callback)

    def commit(self) -> None:
        """For the writer thread only."""
        self._txn.commit()

    def abort(self) -> None:
        """For the writer thread only."""
        self._txn.abort()


class Group:
    """The outer transaction of one group of jobs."""

    __slots__ = ("_environment", "_newest", "_tables", "_txn", "abort", "commit")

    def __init__(self, environment: Any, tables: list[Any], newest: NewestChain) -> None:
        self._environment = environment
        self._tables = tables
        self._newest = newest
        self._txn = environment.begin(write=True)
        self.commit: Callable[[], None] = self._txn.commit
        self.abort: Callable[[], None] = self._txn.abort

    def child(self) -> WriteTxn:
        return WriteTxn(self._environment.begin(write=True, parent=self._txn), self._tables, self._newest)
