"""Records, head and generations against a dict; the tree they make against one built from scratch."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.tree import build, get, seal
from pds_lite.atproto.repo import Head
from pds_lite.errors import BadInput, StoreBroken, Unavailable
from pds_lite.storage import event_log, repo_store, sparse_tree
from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore, get_blob
from pds_lite.storage.keys import Table
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.storage.driver import DID, Blob, Driver, record
from tests.store_fixture import assert_clean, small_limits

LONG = b"com.example.note/" + b"k" * 900
PATHS = [
    *(b"com.example.%s/%d" % (name, number) for name in (b"a", b"b", b"note") for number in range(12)),
    *(LONG[:size] for size in (498, 499, 500, 501, 502, 830)),
    *(LONG[:size] + tail for size in (499, 500, 829) for tail in (b"!", b"a", b"z")),
]


class StoreMachine(RuleBasedStateMachine):
    """Random commits with blobs and long paths, trees saved, sweeps, restarts and imports; a dict says what must be."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="store-")
        self.data_dir = Path(self.folder.name)
        self.model: dict[bytes, bytes] = {}
        self.blobs: dict[str, Blob] = {}
        self.content = 0
        self.revs: list[str] = []
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.data_dir / STORE_FOLDER, small_limits())
        self.driver = Driver(self.store, BlobStore(self.data_dir / BLOB_FOLDER))

    @initialize()
    def first_commit(self) -> None:
        self.revs.append(self.driver.write({}))

    @rule(
        paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=12, unique=True),
        kinds=st.lists(st.sampled_from(["put", "delete", "blob", "same blob"]), min_size=12, max_size=12),
    )
    def commit(self, paths: list[bytes], kinds: list[str]) -> None:
        changes: dict[bytes, bytes | None] = {}
        for path, kind in zip(paths, kinds, strict=False):
            self.content += 1
            if kind == "delete" and path in self.model:
                changes[path] = None
            elif kind == "blob":
                blob = self.driver.upload(b"blob %d" % self.content)
                self.blobs[str(blob.cid)] = blob
                changes[path] = record(str(self.content), [blob, blob])
            elif kind == "same blob" and (known := self.some_blob_that_is_here()):
                changes[path] = record(str(self.content), [known])
            else:
                changes[path] = record(str(self.content))
        self.revs.append(self.driver.write(changes))
        for path, block in changes.items():
            if block is None:
                del self.model[path]
            else:
                self.model[path] = block

    def some_blob_that_is_here(self) -> Blob | None:
        with self.store.read() as txn:
            return next((blob for blob in reversed(self.blobs.values()) if get_blob(txn, blob.cid)), None)

    @rule(path=st.sampled_from(PATHS))
    def refused_commit(self, path: bytes) -> None:
        """A commit that fails at its last step takes everything back, the head in memory too."""
        before = self.driver.head

        def fail(txn: Any) -> None:
            self.driver.commit(txn, {path: record("never")})
            raise BadInput("refused")

        with pytest.raises(BadInput):
            self.store.write_sync(fail)
        assert self.driver.head is before

    @rule()
    def save_tree(self) -> None:
        self.driver.save_tree()

    @rule()
    def sweep(self) -> None:
        self.driver.sweep(self.driver.now)

    @rule(budget=st.integers(1, 5))
    def prune(self, budget: int) -> None:
        self.store.write_sync(lambda txn: event_log.prune(txn, self.driver.now, 0, budget))

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @rule()
    def import_same(self) -> None:
        """The whole repository through the other generation, records only (references stay what they are)."""
        head = self.driver.head
        assert head is not None
        while self.store.write_sync(lambda txn: repo_store.drop_idle(txn, 7)):
            pass
        self.store.write_sync(repo_store.begin_import)
        rows = [(path, Cid.of_cbor(block), block) for path, block in sorted(self.model.items())]
        for start in range(0, len(rows), 5):
            batch = rows[start : start + 5]
            self.store.write_sync(lambda txn, batch=batch: repo_store.put_imported(txn, batch, head.rev))
        self.store.write_sync(lambda txn: repo_store.flip(txn, head))

    @rule(low=st.sampled_from([None, *PATHS]), high=st.sampled_from([None, *PATHS]), reverse=st.booleans())
    def scan(self, low: bytes | None, high: bytes | None, reverse: bool) -> None:
        expected = [p for p in sorted(self.model) if (low is None or p > low) and (high is None or p < high)]
        with self.store.read() as txn:
            found = [path for path, _ in repo_store.scan_records(txn, low, high, reverse)]
            rows = list(repo_store.scan_rows(txn, low))
            assert rows == [repo_store.as_row(*pair) for pair in repo_store.scan_records(txn, low)]
        assert found == (expected[::-1] if reverse else expected)

    @invariant()
    def records_are_those_of_the_model(self) -> None:
        with self.store.read() as txn:
            assert [(path, row.block) for path, row in repo_store.scan_records(txn)] == sorted(self.model.items())
            assert repo_store.record_count(txn) == len(self.model)
            names = {path.partition(b"/")[0].decode() for path in self.model}
            assert repo_store.collections(txn) == sorted(names)
            for path in PATHS:
                row = repo_store.get_record(txn, path)
                assert (row.block if row else None) == self.model.get(path)

    @invariant()
    def the_tree_is_that_of_the_records(self) -> None:
        tree = build(sorted((path, Cid.of_cbor(block)) for path, block in self.model.items()))
        seal(tree, "")
        with self.store.read() as txn:
            head = repo_store.read_head(txn)
            loaded = sparse_tree.load(txn)
            for path in PATHS[::5]:
                block = self.model.get(path)
                expected = None if block is None else Cid.of_cbor(block)
                assert get(loaded, path, lambda stub: repo_store.load_subtree(txn, stub)) == expected
        if head is not None:
            assert head.data == tree.cid == loaded.cid

    def teardown(self) -> None:
        while self.driver.sweep(self.driver.now):
            pass
        for cid, blob in self.blobs.items():
            wanted = any(blob.cid.digest in block for block in self.model.values())
            with self.store.read() as txn:
                assert (get_blob(txn, blob.cid) is not None) == wanted
            assert self.driver.files.path(blob.cid).exists() == wanted, cid
        assert_clean(self.store, self.data_dir)
        self.store.close()
        self.folder.cleanup()


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = StoreMachine.TestCase


def put_rows(txn: Any, rows: list[tuple[bytes, Cid, bytes]], rev: str = "3k43tv4rft22g") -> None:
    repo_store.put_imported(txn, rows, rev)


def test_leaf_links_of_other_kinds_are_kept_byte_for_byte(checked_store: Store) -> None:
    """Foreign repositories may hold them; they count in the tree as they are."""
    odd = [Cid.of_raw(b"x"), Cid.decode(b"\x01\x71\x1e\x20" + b"h" * 32), Cid.decode(b"\x01\x71\x13\x40" + b"h" * 64)]
    rows = [(b"com.example.a/%d" % number, cid, b"x") for number, cid in enumerate(odd)]
    rows.append((LONG[:600], odd[1], b"long"))
    checked_store.write_sync(lambda txn: put_rows(txn, rows))
    with checked_store.read() as txn:
        found = list(repo_store.scan_records(txn, generation=1))
        assert [(path, row.cid, row.block) for path, row in found] == rows
        assert {row.rev for _, row in found} == {"3k43tv4rft22g"}
        assert list(repo_store.scan_entries(txn, 1)) == [(path, cid) for path, cid, _ in rows]
        assert repo_store.record_count(txn, 1) == 4
        txn.generation = 1
        assert list(repo_store.scan_rows(txn)) == [repo_store.as_row(*pair) for pair in found]
    while checked_store.write_sync(lambda txn: repo_store.drop_idle(txn, 2)):
        pass


def test_nothing_of_an_import_shows_before_the_flip(driver: Driver) -> None:
    driver.write({b"com.example.a/old": record("old")})
    driver.store.write_sync(lambda txn: put_rows(txn, [(b"com.example.a/new", Cid.of_cbor(b"n"), b"n")]))
    assert list(driver.records()) == [b"com.example.a/old"]
    with pytest.raises(Unavailable):
        driver.store.write_sync(repo_store.begin_import)
    assert driver.store.write_sync(lambda txn: repo_store.drop_idle(txn, 100)) is False
    assert driver.store.write_sync(repo_store.begin_import) == 1


def test_a_flip_changes_records_and_head_at_once_and_what_was_dropped_is_gone(driver: Driver) -> None:
    driver.write({b"com.example.a/%d" % number: record("old") for number in range(50)})
    block = record("new")
    other = build([(LONG[:700], Cid.of_cbor(block))])
    seal(other, "")
    driver.now += 10
    with tempfile.TemporaryDirectory() as folder:
        source = Driver(Store.open(Path(folder) / "s", small_limits()), driver.files)
        source.now = driver.now
        source.write({LONG[:700]: block})
        head = source.head
        source.store.close()
    assert head is not None
    driver.store.write_sync(lambda txn: put_rows(txn, [(LONG[:700], Cid.of_cbor(block), block)], head.rev))
    driver.store.write_sync(lambda txn: (repo_store.flip(txn, head), event_log_sync(txn, driver, head)))
    assert driver.records() == {LONG[:700]: block}
    with driver.store.read() as txn:
        stored = repo_store.read_head(txn)
        assert stored is not None
        assert (stored.did, stored.commit, stored.generation) == (DID, head.commit, 1)
        assert sparse_tree.load(txn).cid == other.cid
    steps = 1
    while driver.store.write_sync(lambda txn: repo_store.drop_idle(txn, 20)):
        steps += 1
    assert steps == 3
    with driver.store.read() as txn:
        assert txn.count(Table.RECORDS_A) == 0


def event_log_sync(txn: Any, driver: Driver, head: Head) -> None:
    from pds_lite.atproto import firehose

    driver.now += 1
    frame = firehose.sync_frame(driver.now, "2026-11-22T12:44:16.123Z", DID, head.rev, head.commit, head.commit_block)
    event_log.append(txn, driver.now, frame)


def test_records_that_do_not_make_a_stub_are_noticed(driver: Driver) -> None:
    driver.fill([b"com.example.a/%d" % number for number in range(400)], "old")
    with driver.store.read() as txn:
        stubs = [tree for node in [sparse_tree.load(txn)] for tree in node.trees if tree is not None]
    path = b"com.example.a/399"
    driver.store.write_sync(lambda txn: txn.delete(Table.RECORDS_A, path))
    with pytest.raises(StoreBroken), driver.store.read() as txn:
        sparse_tree.load(txn)
    assert stubs
    # Put it back, so that the fixture finds a whole store.
    block = record("old")
    rev = driver.head.rev  # type: ignore[union-attr]
    value = repo_store._encode(repo_store.rev_bytes(rev), Cid.of_cbor(block), block)
    driver.store.write_sync(lambda txn: txn.put(Table.RECORDS_A, path, value))
