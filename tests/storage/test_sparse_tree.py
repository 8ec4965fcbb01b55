"""The saved tree is a short cut that never leads elsewhere: whatever happened since, the root is the records' own."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pds_lite.atproto.mst.node import Node, Stub, key_layer
from pds_lite.atproto.mst.tree import CUT, EMPTY
from pds_lite.storage import event_log, sparse_tree
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store
from tests.storage.driver import Driver, record

KEYS = [b"com.example.note/%05d" % number for number in range(2500)]
UPPER = [key for key in KEYS if key_layer(key) >= CUT]
LOWER = [key for key in KEYS if key_layer(key) < CUT]
TOP = max(KEYS, key=key_layer)


def revs(tree: Node | Stub | None, found: dict | None = None) -> dict:
    """CID -> rev of every node and stub in memory."""
    found = {} if found is None else found
    if tree is not None:
        found[tree.cid] = tree.rev
        for child in getattr(tree, "trees", ()):
            revs(child, found)
    return found


def saved_root(store: Store) -> Node | None:
    with store.read() as txn:
        return sparse_tree.load_saved(txn)


def test_an_empty_store_has_the_empty_tree(checked_store: Store) -> None:
    with checked_store.read() as txn:
        assert sparse_tree.load(txn) is EMPTY


def test_a_saved_tree_comes_back_with_the_rev_of_each_part(driver: Driver) -> None:
    driver.fill(KEYS[:1500])
    driver.save_tree()
    assert driver.head is not None
    root = saved_root(driver.store)
    assert root is not None
    assert root.cid == driver.head.data
    found, expected = revs(root), revs(driver.head.root)
    assert found.keys() == expected.keys()
    assert all(found[cid] >= rev for cid, rev in expected.items() if cid != root.cid)
    assert len(set(found.values())) > 5, "revs of the parts differ, so getRepo since has something to leave out"
    assert all(not isinstance(tree, Node) or not tree.block for tree in root.trees), "blocks are not kept in memory"


def changes_of(draw: st.DrawFn) -> dict[bytes, bytes | None]:
    keys = draw(st.lists(st.sampled_from(LOWER) | st.sampled_from(UPPER) | st.just(TOP), max_size=12, unique=True))
    return {key: draw(st.sampled_from([None, record("b"), record("c")])) for key in keys}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_later_events_bring_a_saved_tree_up_to_date(driver: Driver, data: st.DataObject) -> None:
    """Upper keys come and go, gaps empty and fill; nothing is read that the events do not name."""
    present = set(driver.records())
    driver.fill([key for key in KEYS[:180] if key not in present])
    driver.save_tree()
    saved_at = driver.head
    assert saved_at is not None
    for _ in range(data.draw(st.integers(0, 6))):
        present = set(driver.records())
        changes = data.draw(st.composite(changes_of)())
        driver.write({key: block for key, block in changes.items() if block is not None or key in present})
    assert driver.head is not None
    root = saved_root(driver.store)
    if root is not None:
        assert root.cid == driver.head.data
        known = revs(saved_at.root)
        assert all(cid in known or rev > saved_at.rev for cid, rev in revs(root).items()), (
            "since must not miss a change"
        )
    with driver.store.read() as txn:
        assert sparse_tree.load(txn).cid == driver.head.data


def test_replay_reads_only_what_changed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.fill(KEYS[:2400])
    driver.save_tree()
    driver.write({KEYS[2450]: record("new")})
    gaps = []
    read_gap = sparse_tree._read_gap
    monkeypatch.setattr(sparse_tree, "_read_gap", lambda *args: (gaps.append(1), read_gap(*args))[1])
    root = saved_root(driver.store)
    assert root is not None
    assert len(gaps) <= 2


def test_a_tree_whose_events_were_pruned_is_not_used(driver: Driver) -> None:
    driver.fill(KEYS[:200])
    driver.save_tree()
    for number in range(5):
        driver.write({KEYS[300 + number]: record("b")})
    driver.fill(KEYS[400:700])  # two large events, with which no chain goes on
    driver.store.write_sync(lambda txn: event_log.prune(txn, driver.now, 0, 100))
    assert saved_root(driver.store) is None
    with driver.store.read() as txn:
        assert sparse_tree.load(txn).cid == driver.head.data  # type: ignore[union-attr]


def test_a_small_tree_is_not_saved_and_an_old_save_of_a_larger_one_goes(driver: Driver) -> None:
    driver.write({key: record("a") for key in [*UPPER[:2], *LOWER[:40]]})
    driver.save_tree()
    assert saved_root(driver.store) is not None
    driver.write(dict.fromkeys(UPPER[:2]))
    driver.save_tree()
    with driver.store.read() as txn:
        assert txn.count(Table.SPARSE) == 0
        assert sparse_tree.load(txn).cid == driver.head.data  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign", "rev", "key"])
def test_a_damaged_save_is_not_believed(driver: Driver, damage: str) -> None:
    driver.fill(KEYS[:400])
    driver.save_tree()

    def spoil(txn) -> None:
        saved = txn.get(Table.SPARSE, b"\0\0")
        at = saved.index(b"com.example")
        spoiled = {
            "cut": saved[:-20],
            "flip": saved[:60] + bytes([saved[60] ^ 1]) + saved[61:],
            "foreign": b"\xff" * 400,
            "rev": saved[:12] + b"\xff" * 8 + saved[20:],
            "key": saved[:at] + b"X" + saved[at + 1 :],
        }[damage]
        txn.put(Table.SPARSE, b"\0\0", spoiled)

    driver.store.write_sync(spoil)
    with driver.store.read() as txn:
        assert sparse_tree.load(txn).cid == driver.head.data  # type: ignore[union-attr]
    driver.save_tree()


def test_it_is_there_after_a_restart(driver: Driver, tmp_path: Path) -> None:
    driver.fill(KEYS[:300])
    driver.save_tree()
    driver.write(dict.fromkeys(KEYS[:100:3]))
    again = Driver(driver.store, driver.files)
    assert again.head is not None
    assert again.head.root.cid == driver.head.data  # type: ignore[union-attr]
    again.write({KEYS[1000]: record("goes on")})
