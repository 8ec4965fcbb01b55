"""What is read is one moment of the repository: exports, differences, proofs, blocks and lists."""

import asyncio
import json
import random
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.car import CarReader, read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.mst.node import decode_node
from pds_lite.atproto.mst.tree import checked_load, get, walk, walk_nodes
from pds_lite.errors import BadInput, NotFound, RateLimited, StoreBroken
from pds_lite.services import repo_export, repo_reader
from pds_lite.services.record_writes import RecordWrite
from pds_lite.services.snapshots import SnapshotLost
from pds_lite.storage.keys import Table
from pds_lite.storage.store import WriteTxn

from .conftest import DID, KEY, THING, Repo, open_repo


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def entries(car: bytes) -> dict[bytes, Cid]:
    """path -> CID of a verified CAR; every block must be needed and stand in pre-order."""
    reader = CarReader()
    order = list(reader.feed(car))
    root, blocks = reader.finish(), dict(order)
    commit = decode_commit(blocks[root])
    verify_commit(commit, KEY.did_key)
    load = checked_load(blocks.__getitem__)
    top = decode_node(blocks[commit.data])
    needed = {root, *(node.cid for node in walk_nodes(top, load)), *(cid for _path, cid in walk(top, load))}
    assert needed == set(blocks)
    assert [cid for cid, _block in order[:2]] == [root, commit.data]
    return dict(walk(top, load))


def present(repo: Repo) -> dict[bytes, Cid]:
    from pds_lite.storage import repo_store

    with repo.store.read() as txn:
        return {path: record.cid for path, record in repo_store.scan_records(txn)}


async def fill(repo: Repo, number: int, source: random.Random) -> None:
    for start in range(0, number, 200):
        await repo.writer.apply_writes(
            [
                RecordWrite("create", f"{THING}{source.randrange(3)}", f"k{source.randrange(10**9)}", {"i": i})
                for i in range(start, min(number, start + 200))
            ]
        )


async def churn(repo: Repo, source: random.Random, commits: int) -> None:
    """Random creates, updates and deletes."""
    for _ in range(commits):
        paths = [path.decode().split("/") for path in present(repo)]
        writes: list[RecordWrite] = []
        for collection, rkey in source.sample(paths, min(len(paths), 10)):
            action: Any = source.choice(["update", "delete"])
            writes.append(
                RecordWrite(action, collection, rkey, {"i": source.random().hex()} if action == "update" else None)
            )
        writes += [RecordWrite("create", THING, f"n{source.randrange(10**9)}", {"new": i}) for i in range(5)]
        await repo.writer.apply_writes(writes)


@pytest.mark.parametrize("number", [0, 1, 5, 700])
def test_an_export_is_the_whole_repository_in_preorder(tmp_path: Path, number: int) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await fill(repo, number, random.Random(number))
            assert entries(await repo.car()) == present(repo)

    run(story())


def test_an_export_is_cut_where_the_store_has_lost_a_record(tmp_path: Path) -> None:
    """Whatever layer its key is of: the tree is the truth, and the damage must show here and not at a relay."""

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await fill(repo, 300, random.Random(5))
            with repo.store.read() as txn:
                rows = list(txn.scan(Table.RECORDS_A))
            for path, row in rows[::7]:
                await repo.store.write(partial(_set_row, path=path, row=None))
                with pytest.raises(StoreBroken):
                    await repo.car()
                await repo.store.write(partial(_set_row, path=path, row=row))
            assert entries(await repo.car()) == present(repo)

    run(story())


def _set_row(txn: WriteTxn, path: bytes, row: bytes | None) -> None:
    if row is None:
        txn.delete(Table.RECORDS_A, path)
    else:
        txn.put(Table.RECORDS_A, path, row)


def test_an_export_is_the_moment_it_began_though_everything_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_export, "FIRST_BATCH", 500)
    monkeypatch.setattr(repo_export, "BATCH", 2000)

    async def story() -> None:
        for seed in range(6):
            source = random.Random(seed)
            async with open_repo(tmp_path / str(seed)) as repo:
                await fill(repo, 600, source)
                wanted = present(repo)
                export = repo.reader.export_car()
                pieces = [await anext(export)]
                changing = asyncio.create_task(churn(repo, source, 25))
                async for piece in export:
                    pieces.append(piece)
                    await asyncio.sleep(0.001)
                assert entries(b"".join(pieces)) == wanted
                await changing
                assert entries(await repo.car()) == present(repo) != wanted

    run(story())


def test_an_export_that_begins_between_a_commit_and_its_flush_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_export, "FIRST_BATCH", 500)
    monkeypatch.setattr(repo_export, "BATCH", 2000)

    async def story() -> None:
        source = random.Random(1)
        async with open_repo(tmp_path) as repo:
            await fill(repo, 300, source)
            changing = asyncio.create_task(churn(repo, source, 60))
            while not changing.done():
                entries(await repo.car())
                await asyncio.sleep(0.0005)
            await changing

    run(story())


def test_an_export_that_cannot_keep_its_view_is_cut_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_export, "FIRST_BATCH", 500)

    async def story() -> None:
        async with open_repo(tmp_path, overlay_bytes=3000) as repo:
            await fill(repo, 400, random.Random(2))
            export = repo.reader.export_car()
            await anext(export)
            await churn(repo, random.Random(3), 10)
            with pytest.raises(SnapshotLost):
                async for _piece in export:
                    pass
            assert entries(await repo.car()) == present(repo)

    run(story())


def test_since_gives_all_that_changed_and_less_than_everything(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            source = random.Random(4)
            await fill(repo, 2000, source)
            old = dict(read_car(await repo.car())[1])
            since = repo.writer.head.rev
            await churn(repo, source, 2)
            whole, part = await repo.car(), await repo.car(since)
            new = dict(read_car(part)[1])
            assert set(read_car(whole)[1]) <= set(old) | set(new)
            assert len(part) < len(whole) / 2
            assert read_car(await repo.car(repo.writer.head.rev))[1].keys() == {repo.writer.head.commit}
            for strange in ("zzzzzzzzzzzzz", "jzzzzzzzzzzzz", "2222222222222", "x"):
                assert await repo.car(strange) == whole

    run(story())


def test_proofs_show_what_is_and_what_is_not_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await fill(repo, 500, random.Random(5))
            here = present(repo)
            for path in [*list(here)[::25], b"com.example.thing0/none", b"a.b.c/d", b"z.z.z/z"]:
                root, blocks = read_car(await repo.reader.record_proof(path))
                commit = decode_commit(blocks[root])
                top = decode_node(blocks[commit.data])
                found = get(top, path, checked_load(blocks.__getitem__))
                assert found == here.get(path)
                assert found is None or found in blocks

    run(story())


def test_get_blocks_finds_every_block_and_names_those_that_are_not_ours(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await fill(repo, 300, random.Random(6))
            _root, blocks = read_car(await repo.car())
            for wanted in (list(blocks)[:1], list(blocks)[::7], list(blocks)):
                car = b"".join([piece async for piece in repo.reader.blocks_car(wanted)])
                assert read_car(car)[1] == {cid: blocks[cid] for cid in wanted}
            with pytest.raises(NotFound, match=str(Cid.of_cbor(b"no"))):
                async for _piece in repo.reader.blocks_car([_root, Cid.of_cbor(b"no")]):
                    pass

    run(story())


def test_lists_page_in_both_directions_and_the_cursor_ends(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            keys = [*sorted(f"k{i:03}" for i in range(25)), "x" * 512]
            await repo.writer.apply_writes([RecordWrite("create", THING, key, {"i": 1}) for key in keys])
            await repo.writer.apply_writes(
                [
                    RecordWrite("create", other, "self", {})
                    for other in (THING + "s", "com.example.thin", "com.example.thing.s")
                ]
            )
            for oldest_first in (True, False):
                for limit in (1, 7, 25, 26, 100):
                    seen, cursor, pages = [], None, 0
                    while pages == 0 or cursor:
                        page = json.loads(
                            repo.reader.list_records(DID, THING, limit, cursor, oldest_first=oldest_first)
                        )
                        seen += [record["uri"].rpartition("/")[2] for record in page["records"]]
                        cursor, pages = page.get("cursor"), pages + 1
                    assert seen == (keys if oldest_first else keys[::-1])
                    assert pages == -(-len(keys) // limit)
            with pytest.raises(BadInput):
                repo.reader.list_records(DID, THING, 5, "a/b", oldest_first=False)
            assert sorted(repo.reader.collections()) == sorted(
                [THING, THING + "s", "com.example.thin", "com.example.thing.s"]
            )

    run(story())


def test_a_page_of_large_records_ends_early_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repo_reader, "PAGE_BYTES", 100_000)
    source = random.Random(3)

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            sizes = {f"k{number:02}": source.choice((10, 30_000, 60_000, 200_000)) for number in range(40)}
            for key, size in sizes.items():
                await repo.writer.apply_writes([RecordWrite("create", THING, key, {"fill": "x" * size, "n": key})])
            hidden = {f"{THING}/k07".encode()}
            seen: dict[str, int] = {}
            cursor, pages = None, 0
            while pages == 0 or cursor:
                body = repo.reader.list_records(DID, THING, 100, cursor, oldest_first=True, hidden=hidden)
                page = json.loads(body)
                assert len(body) < 100_000 + 200_000 + 100 * 200
                for record in page["records"]:
                    key = record["uri"].rpartition("/")[2]
                    alone = json.loads(repo.reader.get_record(DID, THING, key, record["cid"]))
                    assert record == alone
                    assert record["value"]["n"] == key
                    seen[key] = len(record["value"]["fill"])
                cursor, pages = page.get("cursor"), pages + 1
            del sizes["k07"]
            assert seen == sizes
            assert pages > 10

    run(story())


def test_exports_are_few_at_a_time_and_a_place_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repo_reader, "EXPORT_WAIT_S", 0.05)
    monkeypatch.setattr(repo_export, "FIRST_BATCH", 10)

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await fill(repo, 100, random.Random(7))
            running = [repo.reader.export_car() for _ in range(2)]
            for export in running:
                await anext(export)
            with pytest.raises(RateLimited):
                await anext(repo.reader.export_car())
            await running[0].aclose()
            assert entries(await repo.car()) == present(repo)

    run(story())
