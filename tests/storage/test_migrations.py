"""Formats go forward one step at a time, each all or nothing."""

from pathlib import Path

import pytest

from pds_lite.storage import migrations
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store, WriteTxn
from tests.store_fixture import small_limits


def format_of(store: Store) -> int:
    with store.read() as txn:
        return migrations.read_format(txn)


def test_a_new_store_has_the_current_format(checked_store: Store) -> None:
    assert format_of(checked_store) == migrations.FORMAT


def test_an_old_store_is_brought_forward_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "store", small_limits()).close()
    steps: list[int] = []

    def step(number: int):
        def run(txn: WriteTxn) -> None:
            steps.append(number)
            txn.put(Table.CODES, b"%d" % number, b"")

        return run

    monkeypatch.setattr(migrations, "FORMAT", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {2: step(2), 3: step(3)})
    store = Store.open(tmp_path / "store", small_limits())
    assert (steps, format_of(store)) == ([2, 3], 3)
    with store.read() as txn:
        assert txn.count(Table.CODES) == 2
    store.close()
    Store.open(tmp_path / "store", small_limits()).close()
    assert steps == [2, 3]


def test_a_step_that_fails_leaves_the_format_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "store", small_limits()).close()

    def broken(txn: WriteTxn) -> None:
        txn.put(Table.CODES, b"half", b"")
        raise ValueError("power cut")

    monkeypatch.setattr(migrations, "FORMAT", 2)
    monkeypatch.setattr(migrations, "MIGRATIONS", {2: broken})
    with pytest.raises(ValueError, match="power cut"):
        Store.open(tmp_path / "store", small_limits())
    monkeypatch.undo()
    store = Store.open(tmp_path / "store", small_limits())
    with store.read() as txn:
        assert (migrations.read_format(txn), txn.count(Table.CODES)) == (1, 0)
    store.close()
