"""A repository with a real store below it, without HTTP. What a test leaves behind must be a sound store."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.crypto.k256 import K256Key
from pds_lite.clock import Clock
from pds_lite.services.blobs import Blobs
from pds_lite.services.record_writes import RecordWrite
from pds_lite.services.repo_reader import RepoReader
from pds_lite.services.repo_writer import AccountEvent, CommitEvent, IdentityEvent, RepoWriter, SyncEvent, WriteResult
from pds_lite.services.sequencer import Sequencer, Window
from pds_lite.storage import account_store
from pds_lite.storage.account_store import Account
from pds_lite.storage.blob_store import BlobStore
from pds_lite.storage.check import check_store
from pds_lite.storage.store import Store
from tests.set_clock import SetClock

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY = K256Key.from_bytes(b"\x11" * 32)
POST = "app.bsky.feed.post"
THING = "com.example.thing"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store")
    yield opened
    opened.close()


def account(status: str = "active") -> Account:
    return Account(DID, "alice.test", "a@example.com", False, "", status, 1)


@dataclass
class Repo:
    """The services of one repository."""

    store: Store
    writer: RepoWriter
    sequencer: Sequencer
    reader: RepoReader
    blobs: Blobs

    async def create(self, record: Any, collection: str = THING, rkey: str | None = None, **more: Any) -> WriteResult:
        return await self.writer.apply_writes([RecordWrite("create", collection, rkey, record, **more)])

    async def put(self, record: Any, rkey: str, collection: str = THING, **more: Any) -> WriteResult:
        return await self.writer.apply_writes([RecordWrite("put", collection, rkey, record, **more)])

    async def delete(self, rkey: str, collection: str = THING) -> WriteResult:
        return await self.writer.apply_writes([RecordWrite("delete", collection, rkey)])

    async def car(self, since: str | None = None) -> bytes:
        return b"".join([piece async for piece in self.reader.export_car(since)])


@asynccontextmanager
async def open_repo(
    folder: Path,
    *,
    clock: Clock | None = None,
    status: str = "active",
    window: Window | None = None,
    overlay_bytes: int = 4 << 20,
    dev: bool = True,
) -> AsyncIterator[Repo]:
    clock = clock or Clock()
    store = Store.open(folder / "store")
    sequencer = Sequencer(store, clock, window or Window(3600 * 1_000_000, 1 << 30), 10)
    writer = RepoWriter(store, clock, sequencer, KEY, dev=dev, overlay_bytes=overlay_bytes)
    try:
        sequencer.start()
        writer.start()
        if writer.head is None:
            await writer.transact(
                lambda txn: account_store.put_account(txn, account(status)),
                [IdentityEvent("alice.test"), AccountEvent(True), CommitEvent(), SyncEvent()]
                if status == "active"
                else [CommitEvent(silent=True)],
            )
        blobs = Blobs(store, BlobStore(folder / "blobs"), clock, 1 << 20)
        yield Repo(store, writer, sequencer, RepoReader(store, writer.snapshots, clock, 2), blobs)
        await writer.stop()
        assert list(check_store(store, folder / "blobs")) == []
    finally:
        sequencer.stop()
        store.close()


@pytest.fixture
def repo_at() -> Callable[..., Any]:
    return open_repo
