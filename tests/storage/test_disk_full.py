"""A full disk: a named error, nothing lost or half, reading goes on, and a delete makes room again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pds_lite.errors import StoreFull
from pds_lite.storage.blob_store import BlobStore
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store, StoreLimits
from tests.conftest import CHECKOUT
from tests.storage.driver import Driver, record
from tests.store_fixture import assert_clean

LIMITS = StoreLimits(map_bytes=256 << 20, max_map_bytes=256 << 20)
"""The real ahead and reserve sizes."""


def mount(kind: str, place: Path, image: Path) -> str:
    """ "" or why it could not be done."""
    place.mkdir()
    if kind == "tmpfs":
        commands = [["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)]]
    else:
        with image.open("wb") as file:
            file.truncate(24 << 20)
        commands = [["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]]
    for command in commands:
        if shutil.which(command[0]) is None:
            return f"there is no {command[0]}"
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode:
            return result.stderr.strip()
    return ""


@pytest.fixture(params=["ext4", "tmpfs"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    place = tmp_path / "disk"
    problem = mount(request.param, place, tmp_path / "image")
    if problem:
        pytest.skip(f"no {request.param} can be mounted here: {problem}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def take_the_rest(hog: Path, step: int) -> None:
    """Fill the disk with a file of somebody else."""
    with hog.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(step))
            except OSError:
                if step == 1:
                    return
                step //= 2


def store_blob(driver: Driver, size: int) -> None:
    upload = driver.files.upload()
    for _ in range(size >> 18):
        upload.write(bytes(1 << 18))
    upload.finish()


def fill(driver: Driver, size: int = 30_000) -> int:
    """Write records until the store refuses; how many it took."""
    for number in range(10_000):
        try:
            driver.write({b"com.example.note/%05d" % number: record(os.urandom(size // 2).hex())})
        except StoreFull:
            return number
    pytest.fail("the disk never filled up")


def test_a_full_disk_loses_nothing_and_a_delete_makes_room(small_disk: Path) -> None:
    store = Store.open(small_disk / "store", LIMITS)
    driver = Driver(store, BlobStore(small_disk / "blobs"))
    written = fill(driver)
    assert written > 50
    head = driver.head
    for _ in range(20):
        with pytest.raises(StoreFull, match="full"):
            driver.write({b"com.example.note/more": record(os.urandom(15_000).hex())})
    assert driver.head is head
    assert len(driver.records()) == written
    assert_clean(store, small_disk)

    # Whatever else takes the rest of the disk, the reserve is the store's.
    hog = small_disk / "hog"
    take_the_rest(hog, 1 << 16)
    for number in range(20):
        driver.write({b"com.example.note/%05d" % number: None}, use_reserve=True)
    assert len(driver.records()) == written - 20
    driver.write({b"com.example.note/small": record("there is room again")})
    assert_clean(store, small_disk)

    with pytest.raises(StoreFull):
        store_blob(driver, 25 << 20)
    assert list((small_disk / "blobs" / "uploads").iterdir()) == []

    store.close()
    hog.unlink()
    store = Store.open(small_disk / "store", LIMITS)
    driver = Driver(store, BlobStore(small_disk / "blobs"))
    driver.write({b"com.example.note/more": record("and again")})
    assert len(driver.records()) == written - 20 + 2
    assert_clean(store, small_disk)
    store.close()


def test_a_disk_too_full_for_a_store_says_so(small_disk: Path) -> None:
    take_the_rest(small_disk / "hog", 1 << 16)
    with pytest.raises(StoreFull):
        Store.open(small_disk / "store", LIMITS)
    (small_disk / "hog").unlink()
    store = Store.open(small_disk / "store", LIMITS)
    store.write_sync(lambda txn: txn.put(Table.CODES, b"a", b""))
    store.close()
    take_the_rest(small_disk / "hog", 1 << 16)
    store = Store.open(small_disk / "store", LIMITS)
    with store.read() as txn:
        assert txn.count(Table.CODES) == 1
    store.close()


FILE_LIMIT = """
import os, resource, sys
from pathlib import Path
from pds_lite.errors import StoreFull
from pds_lite.storage.blob_store import BlobStore
from pds_lite.storage.store import Store, StoreLimits
from tests.storage.driver import Driver, record
from tests.store_fixture import assert_clean

folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, resource.RLIM_INFINITY))
store = Store.open(folder / "store", StoreLimits(map_bytes=64 << 20, max_map_bytes=64 << 20, reserve_bytes=%d))
driver = Driver(store, BlobStore(folder / "blobs"))
written = 0
try:
    while written < 1000:
        driver.write({b"com.example.note/%%05d" %% written: record(os.urandom(15000).hex())})
        written += 1
except StoreFull as problem:
    print(problem.message)
assert 50 < written < 1000, written
assert len(driver.records()) == written
assert_clean(store, folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
driver.write({b"com.example.note/more": record("room again")})
assert len(driver.records()) == written + 1
assert_clean(store, folder)
store.close()
"""


@pytest.mark.parametrize("reserve", [0, 1 << 20], ids=["in a commit", "before one"])
def test_a_commit_that_finds_no_room_is_taken_back_whole(tmp_path: Path, reserve: int) -> None:
    """By a limit on file sizes, which works without being root; without a reserve it is LMDB's own write that fails."""
    result = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT % reserve, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "the disk is full" in result.stdout
