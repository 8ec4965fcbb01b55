"""Records change in one step with head, event and references, or not at all."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import firehose
from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.tid import make_tid
from pds_lite.clock import Clock
from pds_lite.errors import (
    AccountInactive,
    BadCommit,
    BadInput,
    BadRecord,
    ClockUntrusted,
    InvalidSwap,
    NotFound,
    PdsError,
    ReadOnly,
    StoreBroken,
    TooLarge,
    Unavailable,
)
from pds_lite.services.record_writes import RecordWrite
from pds_lite.services.repo_writer import AccountEvent, SyncEvent
from pds_lite.storage import account_store, event_log, repo_store

from .conftest import DID, KEY, POST, THING, Repo, account, open_repo

FAKE = Cid.of_cbor(b"nothing")
FOLLOW = "app.bsky.graph.follow"


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def events_of(repo: Repo) -> list[tuple[str, dict[str, Any]]]:
    """Every stored event, checked as a strict relay would."""
    with repo.store.read() as txn:
        log = event_log.read_after(txn, 0, 1 << 30, 1 << 20)
    events = []
    for seq, frame in log:
        header, body = firehose.decode_frame(frame)
        assert body["seq"] == seq
        if header["t"] == "#commit":
            firehose.check_commit_frame(frame, DID, KEY.did_key)
        events.append((header["t"], body))
    return events


def paths(repo: Repo) -> list[bytes]:
    with repo.store.read() as txn:
        return [path for path, _record in repo_store.scan_records(txn)]


async def refused(repo: Repo, kind: type[PdsError], writes: list[RecordWrite], **more: Any) -> PdsError:
    """The error of a call that must change neither head nor records nor log."""
    before = repo.writer.head, paths(repo), len(events_of(repo))
    with pytest.raises(kind) as caught:
        await repo.writer.apply_writes(writes, **more)
    assert (repo.writer.head, paths(repo), len(events_of(repo))) == before
    return caught.value


def test_a_record_is_stored_with_its_commit_and_its_event(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            result = await repo.create({"a": 1})
            assert result.commit is not None
            assert result.results[0].status == "unknown"
            events = events_of(repo)
            assert [kind for kind, _body in events] == ["#identity", "#account", "#commit", "#sync", "#commit"]
            assert events[-1][1]["commit"] == result.commit[0]
            root, blocks = read_car(await repo.car())
            assert root == result.commit[0]
            assert result.results[0].cid in blocks

    run(story())


def test_what_was_written_is_there_after_a_restart_and_revs_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            first = await repo.create({"a": 1}, rkey="one")
        async with open_repo(tmp_path) as repo:
            second = await repo.create({"a": 2}, rkey="two")
            assert second.commit[1] > first.commit[1]
            assert events_of(repo)[-1][1]["since"] == first.commit[1]
            assert paths(repo) == [b"com.example.thing/one", b"com.example.thing/two"]

    run(story())


def test_a_refused_write_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1}, rkey="here")
            create = RecordWrite("create", THING, "new", {"a": 1})
            for kind, write in [
                (BadInput, RecordWrite("create", THING, "here", {"a": 2})),
                (NotFound, RecordWrite("update", THING, "gone", {"a": 2})),
                (NotFound, RecordWrite("delete", THING, "gone")),
                (InvalidSwap, RecordWrite("put", THING, "here", {"a": 2}, None)),
                (InvalidSwap, RecordWrite("put", THING, "gone", {"a": 2}, FAKE)),
                (InvalidSwap, RecordWrite("discard", THING, "here", swap=FAKE)),
                (BadRecord, RecordWrite("create", POST, None, {"text": 5})),
                (BadRecord, RecordWrite("create", POST, None, {"$type": THING}, validate=False)),
                (BadInput, RecordWrite("create", THING, None, {"a": 0.5})),
                (BadInput, RecordWrite("create", THING, "a/b", {"a": 1})),
                (BadInput, RecordWrite("create", "no-nsid", None, {"a": 1})),
                (BadInput, RecordWrite("create", THING, None, [1])),
                (BadRecord, RecordWrite("create", THING, None, {"a": 1}, validate=True)),
                (TooLarge, RecordWrite("create", THING, None, {"a": "x" * 1_000_001})),
                (
                    BadInput,
                    RecordWrite(
                        "create", THING, None, {"i": {"cid": str(FAKE), "mimeType": "image/png"}}, validate=False
                    ),
                ),
            ]:
                await refused(repo, kind, [create, write])
            await refused(repo, InvalidSwap, [create], swap_commit=FAKE)
            await refused(repo, TooLarge, [RecordWrite("create", THING, None, {"a": i}) for i in range(201)])

    run(story())


def test_a_put_without_change_and_a_discard_of_nothing_make_no_commit(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            first = await repo.put({"a": 1, "bb": 2}, "key")
            again = await repo.put({"bb": 2, "a": 1}, "key")
            assert (again.commit, again.results[0].cid) == (None, first.results[0].cid)
            gone = await repo.writer.apply_writes([RecordWrite("discard", THING, "nothing")])
            assert gone.commit is None
            assert (await repo.writer.apply_writes([])).commit is None

    run(story())


def test_writes_of_one_call_see_each_other_and_come_down_to_one_operation_a_record(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1}, rkey="key")
            result = await repo.writer.apply_writes(
                [RecordWrite("delete", THING, "key"), RecordWrite("create", THING, "key", {"a": 2})]
            )
            assert [each.action for each in result.results] == ["delete", "create"]
            assert [op["action"] for op in events_of(repo)[-1][1]["ops"]] == ["update"]

    run(story())


def test_a_second_follow_of_the_same_subject_replaces_the_first_in_one_commit(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:

            async def follow(who: str, **more: Any) -> str:
                record = {"subject": who, "createdAt": "2026-01-01T00:00:00Z"}
                result = await repo.create(record, FOLLOW, replaces_duplicates=True, **more)
                return result.results[0].uri.split("/")[-1]

            first, other = await follow("did:plc:aaaa"), await follow("did:plc:bbbb")
            second = await follow("did:plc:aaaa")
            assert [op["action"] for op in events_of(repo)[-1][1]["ops"]] == ["create", "delete"]
            kept = sorted(f"{FOLLOW}/{key}".encode() for key in (other, second))
            assert (first not in (other, second), paths(repo)) == (True, kept)
            # A record that moved to another subject, or is gone, is no duplicate any more.
            await repo.put({"subject": "did:plc:cccc", "createdAt": "2026-01-01T00:00:00Z"}, second, FOLLOW)
            await repo.delete(other, FOLLOW)
            await follow("did:plc:aaaa")
            await follow("did:plc:bbbb")
            assert len(paths(repo)) == 3

    run(story())


def test_blobs_must_be_here_with_the_stated_type_and_size_and_go_with_their_last_record(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            missing = {"$type": "blob", "ref": {"$link": str(Cid.of_raw(b"x"))}, "mimeType": "image/png", "size": 1}
            problem = await refused(
                repo, NotFound, [RecordWrite("create", THING, None, {"b": missing}, validate=False)]
            )
            assert problem.error == "BlobNotFound"

            async def body() -> Any:
                yield b"some text"

            blob = await repo.blobs.upload(body(), "text/plain", 9)
            for wrong in ({"mimeType": "image/png"}, {"size": 8}):
                await refused(
                    repo, BadInput, [RecordWrite("create", THING, None, {"b": {**blob, **wrong}}, validate=False)]
                )
            cid = Cid.parse(blob["ref"]["$link"])
            await repo.put({"b": dict(blob, ref=dict(blob["ref"]))}, "one")
            await repo.put({"b": dict(blob, ref=dict(blob["ref"]))}, "two")
            assert repo.blobs.row(cid).refs == 2
            await repo.put({"without": 1}, "one")
            await repo.delete("two")
            assert repo.blobs.row(cid) is None
            await repo.blobs.sweep()
            path = Path(repo.blobs.path(cid))
        assert path.name not in [file.name for file in (tmp_path / "blobs").rglob("*")]

    run(story())


def content(repo: Repo, cid: Cid) -> bytes:
    return Path(repo.blobs.path(cid)).read_bytes()


def test_a_blob_that_moves_to_another_record_in_one_commit_stays(tmp_path: Path) -> None:
    """As when a client deletes a draft and creates the post with its picture at once, in either order."""

    async def story() -> None:
        async with open_repo(tmp_path) as repo:

            async def body() -> Any:
                yield b"some text"

            blob = await repo.blobs.upload(body(), "text/plain", 9)
            cid = Cid.parse(blob["ref"]["$link"])
            await repo.put({"b": dict(blob, ref=dict(blob["ref"]))}, "draft")
            delete = RecordWrite("delete", THING, "draft")
            create = RecordWrite("create", THING, "post", {"b": dict(blob, ref=dict(blob["ref"]))}, validate=False)
            await repo.writer.apply_writes([delete, create])
            await repo.blobs.sweep()
            assert repo.blobs.row(cid).refs == 1
            assert content(repo, cid) == b"some text"
            delete = RecordWrite("delete", THING, "post")
            create = RecordWrite("create", THING, "again", {"b": dict(blob, ref=dict(blob["ref"]))}, validate=False)
            await repo.writer.apply_writes([create, delete])
            await repo.blobs.sweep()
            assert repo.blobs.row(cid).refs == 1
            assert content(repo, cid) == b"some text"

    run(story())


def test_parallel_writes_make_one_linear_history(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            results = await asyncio.gather(*(repo.create({"i": i}) for i in range(60)))
            commits = [body for kind, body in events_of(repo) if kind == "#commit"]
            assert all(after["since"] == before["rev"] for before, after in pairwise(commits))
            assert {result.commit[1] for result in results} == {body["rev"] for body in commits[1:]}

    run(story())


def test_of_parallel_writes_with_one_swap_commit_exactly_one_wins(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            head = repo.writer.head.commit
            writes = [repo.writer.apply_writes([RecordWrite("create", THING, None, {"i": i})], head) for i in range(10)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert sorted(type(each).__name__ for each in outcomes) == ["InvalidSwap"] * 9 + ["WriteResult"]

    run(story())


def test_when_a_step_fails_half_way_the_head_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1}, rkey="kept")
            before = repo.writer.head

            def fail(*_: Any) -> None:
                raise StoreBroken("a disk that fails")

            with monkeypatch.context() as broken:
                # The step has planned and stored most of it, and must leave no trace.
                broken.setattr("pds_lite.services.write_plan.WritePlan.store_references", fail)
                results = await asyncio.gather(*(repo.create({"i": i}) for i in range(3)), return_exceptions=True)
                assert all(isinstance(result, StoreBroken) for result in results)
            assert repo.writer.head is before
            after = await repo.create({"a": 2}, rkey="later")
            assert events_of(repo)[-1][1]["since"] == before.rev
            assert paths(repo) == [b"com.example.thing/kept", b"com.example.thing/later"]
            assert repo.writer.head.commit == after.commit[0]

    run(story())


def test_a_commit_that_cannot_be_undone_is_not_stored_and_stops_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1})

            def lie(frame: bytes, did: str) -> None:
                raise BadCommit("the tree before is another")

            before = repo.writer.head
            with monkeypatch.context() as lying:
                lying.setattr(firehose, "check_commit_frame", lie)
                with pytest.raises(ReadOnly):
                    await repo.create({"a": 2})
            assert (repo.writer.head, len(paths(repo)), len(events_of(repo))) == (before, 1, 5)
            await refused(repo, ReadOnly, [RecordWrite("create", THING, None, {"a": 3})])
            with pytest.raises(ReadOnly):
                await repo.writer.transact(None, [SyncEvent()])
            assert "NOT WRITING" in caplog.text
            assert repo.reader.list_records(DID, THING, 10, None, oldest_first=True)

    run(story())


def test_a_deactivated_account_makes_no_commits_and_an_active_one_does_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1})
            off, on = account("deactivated"), account("active")
            await repo.writer.transact(
                lambda txn: account_store.put_account(txn, off), [AccountEvent(False, "deactivated")]
            )
            problem = await refused(repo, AccountInactive, [RecordWrite("create", THING, None, {"a": 2})])
            assert (problem.error, problem.status) == ("AccountDeactivated", 401)
            await repo.writer.transact(lambda txn: account_store.put_account(txn, on), [AccountEvent(True)])
            await repo.create({"a": 3})

    run(story())


def test_a_refused_account_change_stores_no_event(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            before = len(events_of(repo))

            def refuse(_txn: Any) -> None:
                raise BadInput("no")

            with pytest.raises(BadInput):
                await repo.writer.transact(refuse, [AccountEvent(False, "deactivated")])
            assert len(events_of(repo)) == before
            await repo.create({"a": 1})

    run(story())


def test_writes_wait_for_an_import_by_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            repo.writer.begin_import()
            problem = await refused(repo, Unavailable, [RecordWrite("create", THING, None, {"a": 2})])
            assert problem.error == "ImportInProgress"
            with pytest.raises(Unavailable):
                repo.writer.begin_import()
            repo.writer.end_import()
            await repo.create({"a": 3})

    run(story())


class _Unconfirmed(Clock):
    ahead = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead

    def trusted(self) -> bool:
        return False


def test_an_unconfirmed_clock_a_day_ahead_writes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        clock = _Unconfirmed()
        async with open_repo(tmp_path, clock=clock, dev=False) as repo:
            await repo.create({"a": 1})
            clock.ahead = 25 * 3600 * 1_000_000
            await refused(repo, ClockUntrusted, [RecordWrite("create", THING, None, {"a": 2})])
            clock.ahead = 0
            result = await repo.create({"a": 3})
            assert result.commit[1] < make_tid(clock.now_us() + 1_000_000, 0)

    run(story())
