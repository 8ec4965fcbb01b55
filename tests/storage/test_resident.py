"""Giving mapped pages back: they leave our memory, and nothing else changes."""

import ctypes
import mmap
from pathlib import Path

import pytest

from pds_lite.storage import resident
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store
from pds_lite.storage.transaction import WriteTxn

SIZE = 4 << 20


def mapped_bytes(file: Path) -> int:
    """How much of the file is mapped into this process now."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(f" {file.resolve()}")
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def test_pages_leave_our_memory_and_keep_their_content(tmp_path: Path) -> None:
    file = tmp_path / "with a blank"
    content = b"".join(number.to_bytes(4, "big") * 1024 for number in range(SIZE >> 12))
    file.write_bytes(content)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as pages:
        assert pages[:] == content
        assert mapped_bytes(file) == SIZE
        resident.give_back(file)
        assert mapped_bytes(file) < SIZE // 8
        assert pages[:] == content


def test_other_files_stay_mapped(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(SIZE))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as pages:
        assert pages[:] == bytes(SIZE)
        resident.give_back(tmp_path / "dat")
        resident.give_back(tmp_path / "missing")
        assert mapped_bytes(file) == SIZE


def test_a_store_that_grows_does_not_keep_its_file_mapped(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")

    def put(txn: WriteTxn, first: int) -> None:
        for number in range(first, first + 500):
            txn.put(Table.EVENTS, number.to_bytes(8, "big"), bytes(1500))

    try:
        most = 0
        for first in range(0, 20_000, 500):
            store.write_sync(lambda txn, first=first: put(txn, first))  # type: ignore[misc]
            with store.read() as txn:
                assert sum(1 for _ in txn.scan(Table.EVENTS)) == first + 500
            most = max(most, mapped_bytes(tmp_path / "store" / "data.mdb"))
        assert most > 8 << 20, "the scans did not map anything"
        store.give_back_pages()
        assert mapped_bytes(tmp_path / "store" / "data.mdb") < 1 << 20
        with store.read() as txn:
            assert txn.count(Table.EVENTS) == 20_000
    finally:
        store.close()


@pytest.mark.parametrize("missing", ["maps", "madvise"])
def test_where_the_system_cannot_nothing_happens(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> object:
        raise OSError(missing) if missing == "maps" else AttributeError(missing)

    if missing == "maps":
        monkeypatch.setattr(Path, "open", refuse)
    else:
        monkeypatch.setattr(ctypes, "CDLL", refuse)
    resident.give_back(tmp_path / "data")
