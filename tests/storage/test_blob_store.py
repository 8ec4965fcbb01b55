"""A blob's row always has its file, its references are counted, and what nobody wants goes, but never too early."""

import os
from pathlib import Path

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.errors import StoreBroken, StoreFull, Unavailable
from pds_lite.storage import blob_store
from pds_lite.storage.blob_store import BlobStore
from pds_lite.storage.keys import Table
from tests.storage.driver import Driver, record

A, B = b"com.example.a/a", b"com.example.a/b"


def row_of(driver: Driver, cid: Cid) -> blob_store.BlobRow | None:
    with driver.store.read() as txn:
        return blob_store.get_blob(txn, cid)


def test_an_upload_is_a_private_file_under_its_cid_with_exactly_its_bytes(driver: Driver) -> None:
    content = os.urandom(3 << 20)
    upload = driver.files.upload()
    for start in range(0, len(content), 100_000):
        upload.write(memoryview(content)[start : start + 100_000])
    cid, size = upload.finish()
    assert (cid, size) == (Cid.of_raw(content), len(content))
    path = driver.files.path(cid)
    assert path.read_bytes() == content
    assert path.name == str(cid)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with driver.files.open(cid) as file:
        assert file.read() == content
    driver.files.path(cid).unlink()
    with pytest.raises(StoreBroken):
        driver.files.open(cid)


def test_an_aborted_upload_leaves_nothing(driver: Driver) -> None:
    upload = driver.files.upload()
    upload.write(b"half")
    upload.abort()
    upload.abort()
    assert [path for path in driver.files.folder.rglob("*") if path.is_file()] == []


def test_what_a_power_cut_left_of_an_upload_goes_at_the_next_start(driver: Driver) -> None:
    upload = driver.files.upload()
    upload.write(b"half")
    BlobStore(driver.files.folder)
    assert [path for path in driver.files.folder.rglob("*") if path.is_file()] == []
    upload.abort()


def test_a_blob_is_temporary_until_a_record_names_it_and_then_listed(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    row = row_of(driver, blob.cid)
    assert row is not None
    assert (row.rev, row.refs, row.mime_type, row.size) == (None, 0, "image/png", 7)
    with driver.store.read() as txn:
        assert blob_store.list_blobs(txn, None, None, 10) == ([], None)
    rev = driver.write({A: record("a", [blob])})
    row = row_of(driver, blob.cid)
    assert row is not None
    assert (row.rev, row.refs) == (rev, 1)
    with driver.store.read() as txn:
        assert blob_store.list_blobs(txn, None, None, 10) == ([blob.cid], None)
        assert txn.count(Table.BLOBS_TEMPORARY) == 0


def test_a_blob_goes_with_its_last_reference_and_its_file_after_it(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    driver.write({A: record("a", [blob]), B: record("b", [blob, blob])})
    driver.write({A: None})
    row = row_of(driver, blob.cid)
    assert row is not None
    assert row.refs == 1
    driver.sweep()
    assert driver.files.path(blob.cid).exists()
    driver.write({B: record("b")})
    assert row_of(driver, blob.cid) is None
    assert driver.files.path(blob.cid).exists(), "not before the change is durable"
    assert driver.sweep() == 1
    assert not driver.files.path(blob.cid).exists()
    assert driver.sweep() == 0


def test_a_blob_that_came_back_before_the_sweep_stays(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    driver.write({A: record("a", [blob])})
    driver.write({A: None})
    assert driver.upload(b"picture") == blob
    driver.sweep()
    assert driver.files.path(blob.cid).exists()
    driver.write({A: record("a", [blob])})


def test_an_upload_whose_row_is_still_to_come_is_not_swept_away(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    driver.write({A: record("a", [blob])})
    driver.write({A: None})
    upload = driver.files.upload()
    upload.write(b"picture")
    cid, size = upload.finish()
    assert driver.sweep() == 0
    assert driver.files.path(cid).exists()
    driver.store.write_sync(lambda txn: blob_store.put_temporary(txn, cid, "image/png", size, driver.now))
    del upload
    driver.sweep()
    assert driver.files.path(cid).exists()


def test_an_upload_given_up_after_it_was_finished_is_swept_in_the_end(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    driver.write({A: record("a", [blob])})
    driver.write({A: None})
    upload = driver.files.upload()
    upload.write(b"picture")
    upload.finish()
    del upload
    assert driver.sweep() == 1
    assert not driver.files.path(blob.cid).exists()


def test_temporary_blobs_go_when_their_time_is_over_and_no_sooner(driver: Driver) -> None:
    old, young = driver.upload(b"old"), driver.upload(b"young")
    assert driver.sweep(before_us=driver.now) == 1
    assert driver.sweep(before_us=driver.now) == 1
    assert row_of(driver, old.cid) is None
    assert not driver.files.path(old.cid).exists()
    assert row_of(driver, young.cid) is not None
    assert driver.files.path(young.cid).exists()


def test_a_sweep_keeps_to_its_budget(driver: Driver) -> None:
    for number in range(7):
        driver.upload(b"%d" % number)
    done = []
    while steps := driver.sweep(driver.now + 1, budget=3):
        done.append(steps)
    assert sum(done) == 14
    assert max(done) <= 3


def test_uploading_a_known_blob_changes_nothing(driver: Driver) -> None:
    blob = driver.upload(b"picture")
    driver.write({A: record("a", [blob])})
    before = row_of(driver, blob.cid)
    driver.upload(b"picture")
    assert row_of(driver, blob.cid) == before


def test_references_may_come_before_the_blob_and_are_missing_until_then(driver: Driver) -> None:
    """An import brings records first, uploads follow."""
    from tests.storage.driver import Blob

    blobs = [Blob(Cid.of_raw(b"picture %d" % number), 9) for number in range(3)]
    rev = driver.write({A: record("a", blobs), B: record("b", blobs[:1])})
    with driver.store.read() as txn:
        missing = blob_store.missing_blobs(txn, None, 10)
        assert {cid for cid, _ in missing} == {blob.cid for blob in blobs}
        assert all(path in (A, B) for _, path in missing)
        paged = blob_store.missing_blobs(txn, None, 2)
        assert paged + blob_store.missing_blobs(txn, paged[-1][0], 2) == missing
        assert blob_store.blob_counts(txn) == (3, 0)
        assert blob_store.list_blobs(txn, None, None, 10) == ([], None)
    driver.upload(b"picture 0")
    row = row_of(driver, blobs[0].cid)
    assert row is not None
    assert (row.rev, row.refs) == (rev, 2)
    driver.write({A: None})
    with driver.store.read() as txn:
        assert blob_store.missing_blobs(txn, None, 10) == []
        assert blob_store.blob_counts(txn) == (1, 1)


def test_listing_pages_and_leaves_out_what_a_client_has(driver: Driver) -> None:
    blobs = [driver.upload(b"%d" % number) for number in range(10)]
    for number, blob in enumerate(blobs):
        rev = driver.write({b"com.example.a/%d" % number: record("x", [blob])})
        if number == 4:
            since = rev
    with driver.store.read() as txn:
        everything, cursor = blob_store.list_blobs(txn, None, None, 100)
        assert cursor is None
        assert set(everything) == {blob.cid for blob in blobs}
        paged, cursor = blob_store.list_blobs(txn, None, None, 4)
        while cursor is not None:
            page, cursor = blob_store.list_blobs(txn, None, cursor, 4)
            paged += page
        assert paged == everything
        newer, _ = blob_store.list_blobs(txn, since, None, 100)
        assert set(newer) == {blob.cid for blob in blobs[5:]}


def test_blobs_of_other_kinds_in_foreign_records_are_counted_too(driver: Driver) -> None:
    from tests.storage.driver import Blob

    driver.write({A: record("a", [Blob(Cid.of_cbor(b"x"), 1), Blob(Cid.decode(b"\x01\x55\x1e\x20" + b"h" * 32), 1)])})
    with driver.store.read() as txn:
        assert len(blob_store.missing_blobs(txn, None, 10)) == 2
    driver.write({A: None})


def test_an_upload_stops_before_the_disk_is_full(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "KEEP_FREE_BYTES", 1 << 60)
    upload = driver.files.upload()
    upload.write(b"x")
    with pytest.raises(StoreFull):
        upload.finish()
    assert [path for path in driver.files.folder.rglob("*") if path.is_file()] == []


def test_waiting_uploads_are_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "MAX_TEMPORARY", 2)
    driver.upload(b"1")
    driver.upload(b"2")
    with pytest.raises(Unavailable):
        driver.upload(b"3")


def test_a_folder_of_others_is_taken_from_them(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir(mode=0o755)
    BlobStore(tmp_path / "blobs")
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


def test_a_file_that_lost_its_row_to_a_power_cut_is_found_and_others_stay(driver: Driver) -> None:
    wanted, temporary = driver.upload(b"wanted"), driver.upload(b"temporary")
    driver.write({A: record("a", [wanted])})
    lost = driver.files.upload()
    lost.write(b"lost")
    cid, _ = lost.finish()
    waiting = driver.files.upload()
    waiting.write(b"its row is still to come")
    coming, _ = waiting.finish()
    del lost
    dropped = [
        driver.store.write_sync(lambda txn, folder=folder: blob_store.drop_strays(txn, driver.files, folder))
        for folder in range(256)
    ]
    assert sum(dropped) == 1
    assert not driver.files.path(cid).exists()
    assert all(driver.files.path(kept).exists() for kept in (wanted.cid, temporary.cid, coming))
