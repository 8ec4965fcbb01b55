"""A real store for any test, checked as `pds-lite doctor --store` would when the test is over.

`from tests.store_fixture import checked_store, small_limits  # noqa: F401` in a conftest makes the fixture known there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pds_lite.storage.blob_store import BLOB_FOLDER
from pds_lite.storage.check import check_store
from pds_lite.storage.store import STORE_FOLDER, Store, StoreLimits


def small_limits() -> StoreLimits:
    """Enough for any test, without writing out megabytes for each."""
    return StoreLimits(map_bytes=256 << 20, max_map_bytes=256 << 20, ahead_bytes=1 << 16, reserve_bytes=0)


def assert_clean(store: Store, data_dir: Path) -> None:
    """Fails with every broken invariant of the store and its blob files."""
    blobs = data_dir / BLOB_FOLDER
    problems = [f"{problem.code}: {problem.text}" for problem in check_store(store, blobs if blobs.exists() else None)]
    assert not problems, "\n".join(problems)


@pytest.fixture
def checked_store(tmp_path: Path) -> Iterator[Store]:
    """An open store in tmp_path, which is the data directory; its teardown runs check_store."""
    store = Store.open(tmp_path / STORE_FOLDER, small_limits())
    try:
        yield store
        assert_clean(store, tmp_path)
    finally:
        store.close()
