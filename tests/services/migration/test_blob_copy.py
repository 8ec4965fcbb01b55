"""Every blob is here after a copy, or the ledger says in words why it is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.clock import Clock
from pds_lite.errors import UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.services.migration import blob_copy, old_host
from pds_lite.services.migration.blob_copy import BlobCopy
from pds_lite.services.migration.old_host import OldHost
from pds_lite.storage import blob_store, migration_store
from pds_lite.storage.migration_store import LedgerEntry
from tests.services.conftest import DID, THING, Repo, open_repo
from tests.services.migration.scripted_host import Asked, Reply, ScriptedHost, error, scripted_host
from tests.services.test_repo_import import load, make_car

GET_BLOB = "com.atproto.sync.getBlob"
GOOD = {str(Cid.of_raw(data)): data for data in (b"one", b"two" * 1000, b"three", b"four", b"five", b"six")}
GONE, BROKEN, OTHER, LARGE, EMPTY = (str(Cid.of_raw(name)) for name in (b"g", b"b", b"o", b"l", b"e"))


@pytest.fixture
def host() -> Iterator[ScriptedHost]:
    with scripted_host() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_host, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(old_host, "LONGEST_PAUSE_S", 0.001)


def serve(asked: Asked) -> Reply:
    cid = asked.params["cid"]
    assert asked.params["did"] == DID
    if cid in GOOD:
        return 200, GOOD[cid], {}
    if cid == GONE:
        return error(400, "BlobNotFound")
    if cid == BROKEN:
        return error(500, "InternalServerError")
    return 200, {OTHER: b"something else", LARGE: b"x" * (1 << 21), EMPTY: b""}[cid], {}


async def copy(repo: Repo, host: ScriptedHost) -> tuple[list[str], list[tuple[int, int]]]:
    async def keep(_access: str, _refresh: str) -> None:
        """Not asked for here."""

    told: list[tuple[int, int]] = []
    http = HttpClient(allow_loopback=True)
    try:
        old = OldHost(http, Clock(), host.url, keep)
        left = await BlobCopy(repo.store, repo.blobs, old, DID, lambda *numbers: told.append(numbers)).run()
        return [str(cid) for cid in left], told
    finally:
        await http.close()


def car_naming(cids: list[str]) -> bytes:
    blobs = [{"$type": "blob", "ref": Cid.parse(cid), "mimeType": "image/png", "size": 3} for cid in cids]
    return make_car({f"{THING}/k{number}": {"b": blob} for number, blob in enumerate(blobs)})


def test_all_that_can_be_had_is_here_and_the_rest_has_a_reason(tmp_path: Path, host: ScriptedHost) -> None:
    bad = [GONE, BROKEN, OTHER, LARGE, EMPTY]
    host.answers[GET_BLOB] = serve

    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(repo, tmp_path, car_naming([*GOOD, *bad]))
            left, told = await copy(repo, host)
            assert sorted(left) == sorted(bad)
            assert told[-1] == (len(GOOD), len(GOOD) + len(bad))
            with repo.store.read() as txn:
                reasons = {str(cid): entry for cid, entry in migration_store.ledger(txn)}
                assert blob_store.blob_counts(txn) == (len(GOOD) + len(bad), len(GOOD))
            assert all(reasons[cid] == LedgerEntry("here", 1) for cid in GOOD)
            assert reasons[GONE] == LedgerEntry("missing", 1, "the old host does not have it any more")
            assert "500 InternalServerError" in reasons[BROKEN].reason
            assert "other bytes" in reasons[OTHER].reason
            assert "PDS_LITE_BLOB_LIMIT" in reasons[LARGE].reason
            assert "empty" in reasons[EMPTY].reason
            asked = len(host.asked)
            left, _told = await copy(repo, host)
            assert len(left) == len(bad)
            assert all(each.params["cid"] in bad for each in host.asked[asked:])
            with repo.store.read() as txn:
                assert migration_store.get_entry(txn, Cid.parse(GONE)).tries == 2

    asyncio.run(story())


def test_a_session_that_ends_in_between_ends_the_copy_and_nothing_is_lost(tmp_path: Path, host: ScriptedHost) -> None:
    served = 0

    def answer(asked: Asked) -> Reply:
        nonlocal served
        served += 1
        return serve(asked) if served <= 2 else error(400, "ExpiredToken")

    host.answers[GET_BLOB] = answer
    host.answers["com.atproto.server.refreshSession"] = lambda _asked: error(400, "ExpiredToken")

    async def keep(_access: str, _refresh: str) -> None:
        """Not asked for here."""

    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(repo, tmp_path, car_naming(list(GOOD)))
            http = HttpClient(allow_loopback=True)
            old = OldHost(http, Clock(), host.url, keep, access="a", refresh="r")
            with pytest.raises(Exception, match="has ended"):
                await BlobCopy(repo.store, repo.blobs, old, DID, lambda _done, _total: None).run()
            await http.close()
            host.answers[GET_BLOB] = serve
            left, told = await copy(repo, host)
            assert left == []
            assert told[-1] == (len(GOOD), len(GOOD))

    asyncio.run(story())


def test_a_transfer_that_breaks_off_is_begun_again(tmp_path: Path, host: ScriptedHost) -> None:
    broken = dict.fromkeys(GOOD, 2)

    def answer(asked: Asked) -> Reply:
        data = GOOD[asked.params["cid"]]
        if broken[asked.params["cid"]]:
            broken[asked.params["cid"]] -= 1
            return 200, data[:-1], {"Content-Length": str(len(data)), "Connection": "close"}
        return 200, data, {}

    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(repo, tmp_path, car_naming(list(GOOD)))
            host.answers[GET_BLOB] = answer
            left, told = await copy(repo, host)
            assert left == []
            assert told[-1] == (len(GOOD), len(GOOD))

    asyncio.run(story())


def test_a_host_that_has_died_says_nothing_of_the_blobs(tmp_path: Path, host: ScriptedHost) -> None:
    """Thousands of blobs must not each wait for a dead host and then be called missing."""
    many = [str(Cid.of_raw(str(number).encode())) for number in range(100)]

    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(repo, tmp_path, car_naming(many))
            with socket.create_server(("127.0.0.1", 0)) as closed:
                host.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
            with pytest.raises(UpstreamFailure, match="cannot be reached"):
                await copy(repo, host)
            with repo.store.read() as txn:
                assert len(list(migration_store.ledger(txn))) <= blob_copy.MAX_SILENT

    asyncio.run(story())
