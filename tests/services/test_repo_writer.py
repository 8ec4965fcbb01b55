"""Records change in one step with head, event and references, or not at all."""

import asyncio
from pathlib import Path

import pytest

from pds_lite.atproto import firehose
from pds_lite.atproto.car import read_car
from pds_lite.errors import AccountInactive, BadInput, BadRecord, ClockUntrusted, InvalidSwap, NotFound, ReadOnly
from pds_lite.services.record_writes import RecordWrite
from pds_lite.services.repo_writer import AccountEvent
from pds_lite.storage import account_store, event_log, repo_store

from .conftest import DID, KEY, POST, THING, Repo, account, open_repo


def frames_of(repo: Repo) -> list[tuple[str, dict]]:
    with repo.store.read() as txn:
        log = event_log.read_after(txn, 0, 1 << 30, 1 << 20)
    decoded = [firehose.decode_frame(frame) for _seq, frame in log]
    assert [body["seq"] for _header, body in decoded] == [seq for seq, _frame in log]
    return [(header["t"], body) for header, body in decoded]


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_record_is_stored_with_its_commit_and_its_event(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            result = await repo.create({"a": 1})
            assert result.commit is not None
            assert result.results[0].status == "unknown"
            kinds = [kind for kind, _body in frames_of(repo)]
            assert kinds == ["#identity", "#account", "#commit", "#sync", "#commit"]
            body = frames_of(repo)[-1][1]
            assert body["commit"] == result.commit[0] == repo.writer.head.commit
            with repo.store.read() as txn:
                assert repo_store.read_head(txn).commit == result.commit[0]
            root, blocks = read_car(await repo.car())
            assert root == result.commit[0]
            assert result.results[0].cid in blocks

    run(story())
