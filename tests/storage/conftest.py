"""Fixtures of the storage tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore
from pds_lite.storage.store import Store
from tests.storage.driver import Driver
from tests.store_fixture import checked_store

__all__ = ["checked_store"]


@pytest.fixture
def driver(checked_store: Store, tmp_path: Path) -> Iterator[Driver]:
    """A repository, its events and blobs in a checked store."""
    return Driver(checked_store, BlobStore(tmp_path / BLOB_FOLDER))
