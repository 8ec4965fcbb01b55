"""A repository that is written, imported over and restarted at random, against a dict of what should be in it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Coroutine
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pds_lite.atproto import dag_cbor, firehose
from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.data import record_from_json
from pds_lite.errors import BadInput
from pds_lite.services.record_writes import RecordWrite, subject_key
from pds_lite.storage import backlink_store, event_log, repo_store
from tests.services.conftest import DID, THING, Repo, open_repo
from tests.services.test_repo_import import load, make_car

FOLLOW = "app.bsky.graph.follow"
SUBJECTS = ["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"]
BLOBS = [b"blob %d" % number for number in range(4)]
THINGS = [f"{THING}/{number}" for number in range(6)] + [f"{THING}/{'k' * 500}{number}" for number in range(2)]
FOLLOWS = [f"{FOLLOW}/3jzfcijpj2z2{letter}" for letter in "abc"]


def cid_of(content: bytes) -> Cid:
    return Cid.of_raw(content)


def thing(number: int, blobs: list[int]) -> dict[str, Any]:
    refs = [
        {"$type": "blob", "ref": {"$link": str(cid_of(BLOBS[n]))}, "mimeType": "text/plain", "size": len(BLOBS[n])}
        for n in blobs
    ]
    return {"$type": THING, "n": number, "blobs": refs}


def follow(subject: str) -> dict[str, Any]:
    return {"$type": FOLLOW, "subject": subject, "createdAt": "2026-11-22T12:00:00.000Z"}


VALUES = {path: st.builds(thing, st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2)) for path in THINGS} | {
    path: st.builds(follow, st.sampled_from(SUBJECTS)) for path in FOLLOWS
}
ACTIONS = st.sampled_from(["create", "put", "update", "delete", "discard"])
WRITES = st.sampled_from([*THINGS, *FOLLOWS]).flatmap(lambda path: st.tuples(ACTIONS, st.just(path), VALUES[path]))


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    return record_from_json(deepcopy(value))


def blobs_of(value: dict[str, Any]) -> set[str]:
    return {ref["ref"]["$link"] for ref in value.get("blobs", ())}


class RepositoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="repository-")
        self.path = Path(self.folder.name)
        self.loop = asyncio.new_event_loop()
        self.records: dict[str, dict[str, Any]] = {}
        self.here: set[str] = set()
        """CIDs of blobs that were uploaded and not dropped since."""
        self.open()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self) -> None:
        self.stack = contextlib.AsyncExitStack()
        self.repo: Repo = self.run(self.stack.enter_async_context(open_repo(self.path)))

    def close(self) -> None:
        self.run(self.stack.aclose())  # the store is checked here

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(number=st.integers(0, 3))
    def upload(self, number: int) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield BLOBS[number]

        self.run(self.repo.blobs.upload(body(), "text/plain", len(BLOBS[number])))
        self.here.add(str(cid_of(BLOBS[number])))

    @rule(writes=st.lists(WRITES, min_size=1, max_size=6))
    def write(self, writes: list[tuple[str, str, dict[str, Any]]]) -> None:
        after = self.expected(writes)
        step = self.repo.writer.apply_writes([self.record_write(*write) for write in writes])
        if after is None:
            try:
                self.run(step)
            except BadInput:
                return
            raise AssertionError("a wrong write was done")
        self.run(step)
        self.become(after)

    @staticmethod
    def record_write(action: Any, path: str, value: dict[str, Any]) -> RecordWrite:
        collection, _, rkey = path.partition("/")
        written = None if action in ("delete", "discard") else deepcopy(value)
        return RecordWrite(action, collection, rkey, written, validate=False)

    def expected(self, writes: list[tuple[str, str, dict[str, Any]]]) -> dict[str, dict[str, Any]] | None:
        """The records after these writes, None if they must be refused."""
        after = dict(self.records)
        for action, path, value in writes:
            there = path in after
            if (action == "create" and there) or (action in ("update", "delete") and not there):
                return None
            if action in ("delete", "discard"):
                after.pop(path, None)
            else:
                after[path] = value
        changed = [value for path, value in after.items() if value != self.records.get(path)]
        return after if all(blobs_of(value) <= self.here for value in changed) else None

    def become(self, after: dict[str, dict[str, Any]]) -> None:
        had, has = (set().union(*map(blobs_of, records.values())) for records in (self.records, after))
        self.records = after
        self.here -= had - has

    @rule(number=st.integers(0, 3), pair=st.lists(st.sampled_from(THINGS), min_size=2, max_size=2, unique=True))
    def move(self, number: int, pair: list[str]) -> None:
        """A record goes and another comes with the same blob, in one commit."""
        self.upload(number)
        source, target = pair
        self.write([("put", source, thing(0, [number]))])
        self.write([("delete", source, {}), ("put", target, thing(1, [number]))])

    @rule(subject=st.sampled_from(SUBJECTS), path=st.sampled_from(FOLLOWS))
    def follow_once(self, subject: str, path: str) -> None:
        """A client's follow takes the place of an older one of the same account."""
        if path in self.records:
            return
        after = {key: value for key, value in self.records.items() if value.get("subject") != subject}
        after[path] = follow(subject)
        rkey = path.partition("/")[2]
        write = RecordWrite("create", FOLLOW, rkey, follow(subject), replaces_duplicates=True)
        self.run(self.repo.writer.apply_writes([write]))
        self.become(after)

    @rule(data=st.data())
    def move_in(self, data: st.DataObject) -> None:
        """A repository with some of the records of this one, at other places too, is imported over it."""
        kept = data.draw(st.lists(st.sampled_from(THINGS), max_size=6, unique=True))
        values = [value for path, value in sorted(self.records.items()) if path.startswith(THING)]
        after = dict(zip(kept, values, strict=False))
        self.run(load(self.repo, self.path, make_car({path: as_stored(value) for path, value in after.items()})))
        self.become(after)

    @rule()
    def sweep(self) -> None:
        self.run(self.repo.blobs.sweep())
        for content in BLOBS:
            assert Path(self.repo.blobs.path(cid_of(content))).exists() == (str(cid_of(content)) in self.here)

    @invariant()
    def records_are_those_of_the_model(self) -> None:
        with self.repo.store.read() as txn:
            found = {path.decode(): record.block for path, record in repo_store.scan_records(txn)}
            subjects = {
                rkey
                for path, value in self.records.items()
                if path.startswith(FOLLOW)
                for rkey in backlink_store.rkeys_of(txn, subject_key(FOLLOW, value) or b"")
            }
        assert found == {path: dag_cbor.encode(as_stored(value)) for path, value in self.records.items()}
        assert subjects == {path.partition("/")[2] for path in self.records if path.startswith(FOLLOW)}

    @invariant()
    def blobs_are_counted_as_records_name_them(self) -> None:
        for content in BLOBS:
            cid = cid_of(content)
            row = self.repo.blobs.row(cid)
            assert (row is not None) == (str(cid) in self.here)
            if row is not None:
                assert row.refs == sum(str(cid) in blobs_of(value) for value in self.records.values())
                assert Path(self.repo.blobs.path(cid)).read_bytes() == content

    @invariant()
    def the_stream_is_one_chain_of_commits_that_can_be_undone(self) -> None:
        with self.repo.store.read() as txn:
            frames = [frame for _seq, frame in event_log.events(txn)]
        last = None
        for frame in frames:
            header, body = firehose.decode_frame(frame)
            if header["t"] == "#commit":
                firehose.check_commit_frame(frame, DID)
                assert last is None or (body["since"], body["prevData"]) == last
            if header["t"] in ("#commit", "#sync"):
                root, blocks = read_car(body["blocks"])
                last = (body["rev"], decode_commit(blocks[root]).data)

    def teardown(self) -> None:
        self.sweep()
        self.close()
        self.loop.close()
        self.folder.cleanup()


RepositoryMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRepository = RepositoryMachine.TestCase
