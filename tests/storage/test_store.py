"""The environment: opened safely, alone, with small pages; read by snapshot, written by group."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from pds_lite.errors import ConfigError, StoreBroken, StoreFull, Unavailable
from pds_lite.storage import place
from pds_lite.storage import store as store_module
from pds_lite.storage.keys import META_FORMAT, Table
from pds_lite.storage.store import PAGE_BYTES, Store, StoreLimits, WriteTxn
from tests.store_fixture import small_limits


def put(key: bytes, value: bytes = b"v"):
    return lambda txn: txn.put(Table.SESSIONS, key, value)


def get(store: Store, key: bytes) -> bytes | None:
    with store.read() as txn:
        return txn.get(Table.SESSIONS, key)


def fill_up(store: Store) -> int:
    """Writes until there is no room; how many writes there were."""
    for number in range(1000):
        try:
            store.write_sync(put(b"%03d" % number, os.urandom(50_000)))
        except StoreFull:
            return number
    pytest.fail("the store never filled up")


@pytest.fixture
def store(tmp_path: Path):
    with_store = Store.open(tmp_path / "store", small_limits())
    yield with_store
    with_store.close()


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", small_limits())
    store.write_sync(put(b"key", b"kept"))
    store.close()
    store = Store.open(tmp_path / "store", small_limits())
    assert get(store, b"key") == b"kept"
    store.close()


def test_nobody_but_the_owner_may_look_inside(store: Store) -> None:
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in store.folder.iterdir()} == {
        "data.mdb": 0o600,
        "lock.mdb": 0o600,
        "store.lock": 0o600,
    }


def test_pages_have_4_kib_whatever_the_kernel_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of another page size is played by handing LMDB pages of another size; both must work."""
    assert PAGE_BYTES == 4096
    for page_bytes in (1024, 16384):
        monkeypatch.setattr(store_module, "PAGE_BYTES", page_bytes)
        store = Store.open(tmp_path / str(page_bytes), small_limits())
        assert store.page_bytes == page_bytes
        for number in range(200):
            store.write_sync(put(b"%d" % number, b"x" * 300))
        store.close()
        monkeypatch.undo()
        store = Store.open(tmp_path / str(page_bytes), small_limits())
        with store.read() as txn:
            assert sum(1 for _ in txn.scan(Table.SESSIONS)) == 200
        store.close()


@pytest.mark.parametrize("page_bytes", [4096, 16384])
def test_a_file_cut_short_is_refused_and_not_read_behind_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    """The kernel would kill the process for that; and an empty file would pass for a new store."""
    monkeypatch.setattr(store_module, "PAGE_BYTES", page_bytes)
    store = Store.open(tmp_path / "store", small_limits())
    for number in range(400):
        store.write_sync(put(b"%d" % number, b"x" * 1000))
    used = store._used_bytes()
    store.close()
    data = tmp_path / "store" / "data.mdb"
    os.truncate(data, used)
    Store.open(tmp_path / "store", small_limits()).close()
    for size in (used - (128 << 10), 5 * page_bytes, 0):
        os.truncate(data, size)
        for opening in (Store.open, Store.open_readonly):
            with pytest.raises(StoreBroken, match="cut off"):
                opening(tmp_path / "store", small_limits())
        assert data.stat().st_size == size


def test_a_second_writer_is_refused_and_the_first_goes_on(store: Store) -> None:
    with pytest.raises(Unavailable, match="in use") as refusal:
        Store.open(store.folder)
    assert refusal.value.error == "StoreInUse"
    store.write_sync(put(b"key"))
    assert get(store, b"key") == b"v"


def test_a_second_process_is_refused(store: Store) -> None:
    script = "import sys,pathlib; from pds_lite.storage.store import Store; Store.open(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(store.folder)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "StoreInUse" in result.stderr or "in use" in result.stderr
    assert result.returncode


def test_the_lock_ends_with_the_store(store: Store) -> None:
    store.close()
    with (store.folder / place.LOCK_FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_newer_format_is_refused_by_name(store: Store) -> None:
    store.write_sync(lambda txn: txn.put(Table.META, META_FORMAT, (999).to_bytes(2, "big")))
    store.close()
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreBroken, match="format 999"):
            opened(store.folder)


def test_a_network_file_system_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_file_system_type", lambda folder, mounts: "nfs4")
    with pytest.raises(ConfigError, match="nfs4"):
        Store.open(tmp_path / "store")
    assert not (tmp_path / "store" / "data.mdb").exists()


@pytest.mark.parametrize("content", [b"not a store" * 1000, b"\0" * 8192])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreBroken):
        Store.open(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == content


def test_the_other_lmdb_engine_is_not_taken(tmp_path: Path) -> None:
    """Its files cannot be read back by the pinned one."""
    lmdb.open(str(tmp_path), lib_version=1).close()
    with pytest.raises(StoreBroken):
        Store.open(tmp_path)


def test_scan_goes_both_ways_between_its_bounds(store: Store) -> None:
    names = [b"a", b"b", b"c", b"d"]
    store.write_sync(lambda txn: [txn.put(Table.SESSIONS, name, name) for name in names])
    with store.read() as txn:
        for start in [b"", b"0", b"a", b"bb", b"d", b"e"]:
            for stop in [None, b"0", b"a", b"bb", b"d", b"e"]:
                expected = [name for name in names if name >= start and (stop is None or name < stop)]
                assert [key for key, _ in txn.scan(Table.SESSIONS, start, stop)] == expected
                assert [key for key, _ in txn.scan(Table.SESSIONS, start, stop, reverse=True)] == expected[::-1]
        assert txn.first(Table.SESSIONS) == (b"a", b"a")
        assert txn.last(Table.SESSIONS) == (b"d", b"d")
        assert txn.count(Table.SESSIONS) == 4
        assert txn.first(Table.CODES) is txn.last(Table.CODES) is None
        assert list(txn.scan(Table.CODES, reverse=True)) == list(txn.scan(Table.CODES, b"a")) == []


def test_an_appended_key_must_be_the_highest(store: Store) -> None:
    store.write_sync(put(b"m"))
    with pytest.raises(StoreBroken):
        store.write_sync(lambda txn: txn.put(Table.SESSIONS, b"a", b"", append=True))
    assert get(store, b"a") is None


def test_a_failing_job_changes_nothing_and_its_neighbours_stand(store: Store) -> None:
    def bad(txn: WriteTxn) -> None:
        txn.put(Table.SESSIONS, b"bad", b"")
        raise ValueError("refused")

    async def main() -> list[object]:
        return await asyncio.gather(
            store.write(put(b"a")), store.write(bad), store.write(put(b"b")), return_exceptions=True
        )

    results = asyncio.run(main())
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    assert [get(store, key) for key in (b"a", b"bad", b"b")] == [b"v", None, b"v"]


def test_later_jobs_of_a_group_see_earlier_ones_and_snapshots_do_not(store: Store) -> None:
    seen: list[object] = []

    async def main() -> None:
        with store.read() as txn:
            await asyncio.gather(
                store.write(put(b"a")), store.write(lambda txn: seen.append(txn.get(Table.SESSIONS, b"a")))
            )
            seen.append(txn.get(Table.SESSIONS, b"a"))

    asyncio.run(main())
    assert seen == [b"v", None]


def test_a_cancelled_caller_does_not_take_its_write_back(store: Store) -> None:
    async def main() -> None:
        task = asyncio.create_task(store.write(put(b"key")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.write(put(b"other"))

    asyncio.run(main())
    assert get(store, b"key") == b"v"


def test_a_result_is_told_after_the_callbacks_of_its_commit(store: Store) -> None:
    order: list[str] = []

    def job(txn: WriteTxn) -> None:
        txn.after_commit(lambda: order.append("durable"))
        txn.after_abort(lambda: order.append("undone"))

    async def main() -> None:
        await store.write(job)
        order.append("told")

    asyncio.run(main())
    assert order == ["durable", "told"]


def test_a_full_map_grows_and_no_write_is_lost(tmp_path: Path) -> None:
    limits = StoreLimits(map_bytes=1 << 20, max_map_bytes=8 << 20, ahead_bytes=1 << 16, reserve_bytes=0)
    store = Store.open(tmp_path / "store", limits)
    for number in range(40):
        store.write_sync(put(b"%03d" % number, os.urandom(100_000)))
    with store.read() as txn:
        assert txn.count(Table.SESSIONS) == 40
    store.close()
    store = Store.open(tmp_path / "store", limits)
    assert len(get(store, b"000") or b"") == 100_000
    store.close()


def test_a_map_at_its_limit_gives_a_named_error_and_a_delete_still_works(tmp_path: Path) -> None:
    limits = StoreLimits(map_bytes=1 << 20, max_map_bytes=2 << 20, ahead_bytes=1 << 16, reserve_bytes=0)
    store = Store.open(tmp_path / "store", limits)
    written = fill_up(store)
    assert written > 20
    with store.read() as txn:
        assert txn.count(Table.SESSIONS) == written
    store.write_sync(lambda txn: txn.delete(Table.SESSIONS, b"000"))
    store.write_sync(put(b"000", b"small"))
    store.close()


def test_another_process_may_read_while_the_server_writes(store: Store) -> None:
    script = """
import pathlib, sys
from pds_lite.storage.store import Store
from pds_lite.storage.keys import Table
store = Store.open_readonly(pathlib.Path(sys.argv[1]))
with store.read() as txn:
    assert len({value for _, value in txn.scan(Table.SESSIONS)}) == 1, "half a write"
    print(txn.count(Table.SESSIONS))
"""

    def both(number: int):
        return lambda txn: [txn.put(Table.SESSIONS, key, b"%d" % number) for key in (b"a", b"z" * 200)]

    store.write_sync(both(0))
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(store.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    number = 0
    while reader.poll() is None:
        number += 1
        store.write_sync(both(number))
    output, errors = reader.communicate()
    assert (output.strip(), errors) == ("2", "")
    assert number > 5


def test_reading_only_needs_a_store_and_writes_nothing(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreBroken, match="no store"):
        Store.open_readonly(tmp_path / "elsewhere")
    store.close()
    before = (store.folder / "data.mdb").read_bytes()
    reader = Store.open_readonly(store.folder)
    with pytest.raises(StoreBroken, match="not open for writing"):
        reader.write_sync(put(b"a"))
    reader.close()
    assert (store.folder / "data.mdb").read_bytes() == before


def test_a_closed_store_refuses_and_closes_again(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreBroken):
        store.write_sync(put(b"a"))


def test_the_file_is_written_out_ahead_in_the_background(tmp_path: Path) -> None:
    limits = StoreLimits(map_bytes=64 << 20, max_map_bytes=64 << 20, ahead_bytes=2 << 20)
    store = Store.open(tmp_path / "store", limits)
    store.write_sync(put(b"a"))
    store._room._wake.set()  # type: ignore[union-attr]
    store.close()  # waits for the background thread
    file = (tmp_path / "store" / "data.mdb").stat()
    assert file.st_size >= 1 << 20
    assert file.st_blocks * 512 >= file.st_size - (64 << 10), "written out, not a hole"
