"""The check names every broken invariant, and nothing in a sound store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.storage import blob_store, event_log, repo_store, sparse_tree
from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore
from pds_lite.storage.check import check_store
from pds_lite.storage.keys import (
    META_BUCKETS,
    META_FORMAT,
    META_HEAD,
    META_PRUNED,
    Table,
    blob_key,
    blob_ref_key,
    event_key,
    rev_bytes,
)
from pds_lite.storage.store import STORE_FOLDER, Store, WriteTxn
from tests.storage.driver import Blob, Driver, record
from tests.store_fixture import small_limits

A, B = b"com.example.note/00003", b"com.example.note/00004"
LONG = b"com.example.note/" + b"k" * 600
PICTURE = b"picture"
CID = Cid.of_raw(PICTURE)
MISSING = Blob(Cid.of_raw(b"elsewhere"), 9)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[Driver]:
    """A store with everything in it: long paths, blobs here, missing and temporary, events in chains, a saved tree."""
    store = Store.open(tmp_path / STORE_FOLDER, small_limits())
    driver = Driver(store, BlobStore(tmp_path / BLOB_FOLDER))
    driver.fill([b"com.example.note/%05d" % number for number in range(300)])
    driver.write({LONG + b"a": record("long"), LONG + b"b": record("long")})
    blob = driver.upload(PICTURE)
    driver.write({A: record("a", [blob]), B: record("b", [blob, MISSING])})
    driver.upload(b"temporary")
    driver.save_tree()
    for number in range(5):
        driver.write({b"com.example.note/%05d" % (1000 + number): record("later")})
    yield driver
    store.close()


def codes(driver: Driver) -> set[str]:
    return {problem.code for problem in check_store(driver.store, driver.files.folder)}


def record_row(block: bytes, rev: str) -> bytes:
    return repo_store._encode(rev_bytes(rev), Cid.of_cbor(block), block)


def test_a_sound_store_has_no_problem(sound: Driver) -> None:
    assert codes(sound) == set()
    assert list(check_store(sound.store, None)) == []


def test_an_empty_store_has_no_problem(checked_store: Store, tmp_path: Path) -> None:
    assert list(check_store(checked_store, tmp_path / "nothing")) == []


def test_a_signature_by_another_key_is_named(sound: Driver) -> None:
    from pds_lite.atproto.crypto import K256Key

    key = K256Key.generate(b"k" * 40)
    found = {problem.code for problem in check_store(sound.store, None, key.did_key)}
    assert found == {"head_signature"}


def last_event(txn: WriteTxn) -> tuple[int, bytes]:
    return list(event_log.events(txn))[-1]


def change_last_event(txn: WriteTxn, change: Callable[[bytes], bytes]) -> None:
    seq, frame = last_event(txn)
    txn.put(Table.EVENTS, event_key(seq), b"\0" + change(frame))


def drop_event(txn: WriteTxn, from_end: int) -> None:
    """Take an event out, the others whole."""
    events = list(event_log.events(txn))
    for seq, frame in events:
        txn.put(Table.EVENTS, event_key(seq), b"\0" + frame)
    txn.delete(Table.EVENTS, event_key(events[-from_end][0]))


def spoil_row(table: Table, key: bytes, change: Callable[[bytes], bytes]) -> Callable[[WriteTxn], None]:
    def run(txn: WriteTxn) -> None:
        value = txn.get(table, key)
        assert value is not None
        txn.put(table, key, change(value))

    return run


DAMAGE: dict[str, tuple[Callable[[WriteTxn], object], set[str]]] = {
    "a record lost": (lambda txn: txn.delete(Table.RECORDS_A, b"com.example.note/00007"), {"tree_root", "sparse_tree"}),
    "a record too many": (
        lambda txn: txn.put(Table.RECORDS_A, b"com.example.note/x", record_row(record("x"), "2222222222222")),
        {"tree_root"},
    ),
    "a record changed": (
        spoil_row(Table.RECORDS_A, b"com.example.note/00007", lambda row: row[:-1] + b"\x81"),
        {"record_hash"},
    ),
    "a record of the future": (
        spoil_row(Table.RECORDS_A, b"com.example.note/00007", lambda row: b"\x7f" + row[1:]),
        {"record_rev"},
    ),
    "a long body lost": (
        lambda txn: txn.delete(Table.LONG_A, txn.first(Table.LONG_A)[0]),
        {"bucket_body", "bucket_count", "unreadable"},
    ),
    "a bucket lost": (
        lambda txn: txn.delete(Table.RECORDS_A, LONG[:500]),
        {"bucket_count", "record_count", "tree_root"},
    ),
    "a bucket cut": (spoil_row(Table.RECORDS_A, LONG[:500], lambda row: row[:-1]), {"unreadable"}),
    "buckets miscounted": (
        lambda txn: txn.put(Table.META, META_BUCKETS[0], (5).to_bytes(4, "big")),
        {"record_count"},
    ),
    "the head lost": (lambda txn: txn.delete(Table.META, META_HEAD), {"head_missing", "event_head"}),
    "the head no commit": (lambda txn: txn.put(Table.META, META_HEAD, b"\xa0"), {"unreadable"}),
    "another format": (lambda txn: txn.put(Table.META, META_FORMAT, b"\x7f\xff"), {"format"}),
    "the last event lost": (lambda txn: drop_event(txn, 1), {"event_head"}),
    "an event lost": (lambda txn: drop_event(txn, 3), {"event_chain"}),
    "an event with another seq": (
        lambda txn: txn.put(Table.EVENTS, event_key(last_event(txn)[0] + 9), b"\0" + last_event(txn)[1]),
        {"event_seq", "event_chain"},
    ),
    "an event cut short": (lambda txn: change_last_event(txn, lambda frame: frame[:-5]), {"event_unreadable"}),
    "a chain without its start": (
        lambda txn: [txn.delete(Table.EVENTS, key) for key, value in list(txn.scan(Table.EVENTS)) if value[0] == 0],
        {"unreadable"},
    ),
    "pruned and still there": (
        lambda txn: txn.put(Table.META, META_PRUNED, event_key(last_event(txn)[0])),
        {"event_pruned"},
    ),
    "a saved tree that leads elsewhere": (
        spoil_row(Table.SPARSE, b"\0\0", lambda saved: saved.replace(b"\1", b"\0", 0)[:21] + bytes(32) + saved[53:]),
        {"sparse_tree"},
    ),
    "a reference not counted": (
        lambda txn: txn.delete(Table.BLOB_REFS, blob_ref_key(CID, A)),
        {"blob_uncounted", "blob_count"},
    ),
    "a reference too many": (
        lambda txn: blob_store.reference(txn, CID, b"com.example.note/00005", "2222222222222"),
        {"blob_ref_stale"},
    ),
    "a reference of no record": (
        lambda txn: blob_store.reference(txn, CID, b"com.example.note/none", "2222222222222"),
        {"blob_ref_stale"},
    ),
    "a blob row lost": (lambda txn: txn.delete(Table.BLOBS, blob_key(CID)), {"blob_missing"}),
    "a blob both here and missing": (
        lambda txn: txn.put(Table.BLOBS_MISSING, blob_key(CID), b""),
        {"blob_missing"},
    ),
    "a missing blob forgotten": (lambda txn: txn.delete(Table.BLOBS_MISSING, blob_key(MISSING.cid)), {"blob_missing"}),
    "a missing blob nobody names": (
        lambda txn: txn.put(Table.BLOBS_MISSING, blob_key(Cid.of_raw(b"?")), b""),
        {"blob_missing"},
    ),
    "a blob miscounted": (
        spoil_row(Table.BLOBS, blob_key(CID), lambda row: row[:27] + b"\7" + row[28:]),
        {"blob_count"},
    ),
    "a blob older than its reference": (
        spoil_row(Table.BLOBS, blob_key(CID), lambda row: row[:16] + b"\1" + row[17:]),
        {"blob_rev"},
    ),
    "a blob of another size": (spoil_row(Table.BLOBS, blob_key(CID), lambda row: b"\0\1" + row[2:]), {"blob_size"}),
    "a blob both temporary and not": (
        lambda txn: txn.put(Table.BLOBS_TEMPORARY, blob_key(CID), txn.get(Table.BLOBS, blob_key(CID))),
        {"blob_twice"},
    ),
    "an account that is none": (lambda txn: txn.put(Table.ACCOUNT, b"account", b"\xa0"), {"account", "unreadable"}),
    "a session that is none": (lambda txn: txn.put(Table.SESSIONS, b"id", b"junk"), {"session"}),
    "a code that is none": (lambda txn: txn.put(Table.CODES, b"purpose", b"\xa0"), {"code"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_damage_is_named(sound: Driver, name: str) -> None:
    damage, expected = DAMAGE[name]
    sound.store.write_sync(damage)
    assert codes(sound) == expected


def test_a_blob_file_that_is_gone_or_of_another_size_is_named(sound: Driver) -> None:
    path = sound.files.path(CID)
    path.write_bytes(b"pict")
    assert codes(sound) == {"blob_size"}
    path.unlink()
    assert codes(sound) == {"blob_file"}


def test_a_blob_dropped_while_the_check_ran_is_no_problem(sound: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are those of the snapshot, the files those of now."""
    from pds_lite.storage import check

    compare = check._check_blob_files

    def drop_first(*arguments):
        sound.write({A: record("a"), B: record("b")})
        sound.sweep()
        assert not sound.files.path(CID).exists()
        return compare(*arguments)

    monkeypatch.setattr(check, "_check_blob_files", drop_first)
    assert codes(sound) == set()


def test_an_import_under_way_or_half_dropped_is_no_problem(sound: Driver) -> None:
    long_rows = [(LONG + b"%d" % number, Cid.of_cbor(record("x")), record("x")) for number in range(9)]
    for number in range(3):
        part = [(b"com.example.other/%d" % number, Cid.of_cbor(b"x"), b"x"), *long_rows[number * 3 : number * 3 + 3]]
        sound.store.write_sync(lambda txn, part=part: repo_store.put_imported(txn, part, "3k43tv4rft22g"))
        assert codes(sound) == set()
    while sound.store.write_sync(lambda txn: repo_store.drop_idle(txn, 2)):
        assert codes(sound) == set()
    assert codes(sound) == set()


def test_another_accounts_head_is_named(sound: Driver) -> None:
    from pds_lite.storage.account_store import Account, put_account

    account = Account("did:plc:other", "alice.test", "", False, "", "active", 1)
    sound.store.write_sync(lambda txn: put_account(txn, account))
    assert codes(sound) == {"head_did"}


def test_it_changes_nothing(sound: Driver) -> None:
    with sound.store.read() as txn:
        before = {table: list(txn.scan(table)) for table in Table if table is not Table.META}
        root = sparse_tree.load(txn).cid
    codes(sound)
    with sound.store.read() as txn:
        assert {table: list(txn.scan(table)) for table in Table if table is not Table.META} == before
        assert sparse_tree.load(txn).cid == root
