"""Subscribers get every event once and in order, from wherever they begin; slow ones are told and let go."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import firehose
from pds_lite.clock import Clock
from pds_lite.errors import RateLimited
from pds_lite.services import sequencer as module
from pds_lite.services.sequencer import ConsumerTooSlow, FutureCursor, StreamEnded, Subscription, Window
from pds_lite.storage import event_log

from .conftest import Repo, open_repo

HOUR = 3600 * 1_000_000
READERS = 3


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def logged(repo: Repo) -> list[int]:
    with repo.store.read() as txn:
        return [seq for seq, _frame in event_log.read_after(txn, 0, 1 << 30, 1 << 20)]


async def take(subscription: Subscription, number: int) -> list[int]:
    """The seqs of the next events."""
    seqs: list[int] = []
    while len(seqs) < number:
        async with asyncio.timeout(10):
            seqs += [firehose.decode_frame(frame)[1]["seq"] for frame in await subscription.next_batch()]
    return seqs


def test_from_any_cursor_the_rest_follows_without_gap_or_repeat_while_writes_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            for i in range(20):
                await repo.create({"i": i})
            known = logged(repo)
            starts = [0, known[0], known[10], known[-1], None]
            readers = [repo.sequencer.subscribe(start) for start in starts]
            writing = asyncio.gather(*(repo.create({"i": i}) for i in range(100)))
            got = [
                asyncio.create_task(take(reader, n))
                for reader, n in zip(readers, (124, 123, 113, 100, 100), strict=True)
            ]
            await writing
            everything = logged(repo)
            for start, seqs in zip(starts, await asyncio.gather(*got), strict=True):
                begin = known[-1] if start is None else start
                assert seqs == [seq for seq in everything if seq > begin]

    run(story())


def test_all_subscribers_have_the_event_before_its_writer_has_the_answer(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            told: list[str] = []

            async def listen(reader: Subscription) -> None:
                while True:
                    told.extend("event" for _ in await reader.next_batch())

            listening = [asyncio.create_task(listen(repo.sequencer.subscribe(None))) for _ in range(READERS)]
            await asyncio.sleep(0)
            for i in range(10):
                await repo.create({"i": i})
                told.append("answer")
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
            assert told == (["event"] * READERS + ["answer"]) * 10

    run(story())


def test_an_event_that_becomes_durable_while_somebody_subscribes_is_not_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            for i in range(50):
                writing = asyncio.create_task(repo.create({"i": i}))
                await asyncio.sleep(0.0002 * (i % 7))
                reader = repo.sequencer.subscribe(None)
                start = reader.cursor
                await writing
                behind = [seq for seq in logged(repo) if seq > start]
                assert await take(reader, len(behind)) == behind
                reader.close()

    run(story())


def test_a_future_cursor_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            with pytest.raises(FutureCursor):
                repo.sequencer.subscribe(logged(repo)[-1] + 1)
            assert repo.sequencer.subscribers == 0

    run(story())


class _Ahead(Clock):
    ahead = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead


def test_what_left_the_window_is_announced_not_replayed_even_before_it_is_pruned(tmp_path: Path) -> None:
    async def story() -> None:
        clock = _Ahead()
        async with open_repo(tmp_path, clock=clock, window=Window(HOUR, 1 << 30)) as repo:
            old = logged(repo)
            clock.ahead = 2 * HOUR
            await repo.create({"a": 1})
            new = logged(repo)[-1]
            for cursor in (0, old[0]):
                reader = repo.sequencer.subscribe(cursor)
                first = firehose.decode_frame((await reader.next_batch())[0])
                assert (first[0]["t"], first[1]["name"]) == ("#info", "OutdatedCursor")
                assert await take(reader, 1) == [new]
                reader.close()
            assert await take(repo.sequencer.subscribe(old[-1]), 1) == [new]
            await repo.sequencer.prune()
            assert logged(repo) == [new]
            reader = repo.sequencer.subscribe(0)
            assert firehose.decode_frame((await reader.next_batch())[0])[0]["t"] == "#info"

    run(story())


def test_a_cursor_of_zero_gives_all_there_ever_was_without_a_warning(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            assert await take(repo.sequencer.subscribe(0), 4) == logged(repo)

    run(story())


def test_who_was_live_and_falls_out_of_the_buffer_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECENT_EVENTS", 10)

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            slow, quick = repo.sequencer.subscribe(None), repo.sequencer.subscribe(None)
            reading = asyncio.create_task(take(quick, 31))
            await repo.create({"i": -1})
            await take(slow, 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.next_batch(), 0.01)
            for i in range(30):
                await repo.create({"i": i})
            assert len(await reading) == 31
            assert slow.failed.done()
            with pytest.raises(ConsumerTooSlow):
                await slow.next_batch()

    run(story())


def test_a_replaying_reader_that_retention_overtakes_is_too_slow(tmp_path: Path) -> None:
    async def story() -> None:
        clock = _Ahead()
        async with open_repo(tmp_path, clock=clock, window=Window(HOUR, 1 << 30)) as repo:
            reader = repo.sequencer.subscribe(0)
            clock.ahead = 2 * HOUR
            await repo.create({"a": 1})
            await repo.sequencer.prune()
            with pytest.raises(ConsumerTooSlow):
                await reader.next_batch()

    run(story())


def test_subscribers_are_bounded_and_a_place_given_back_is_free(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            readers = [repo.sequencer.subscribe(None) for _ in range(10)]
            with pytest.raises(RateLimited):
                repo.sequencer.subscribe(None)
            readers[0].close()
            repo.sequencer.subscribe(None)

    run(story())


def test_the_end_of_the_server_ends_every_wait(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            waits = [asyncio.create_task(repo.sequencer.subscribe(None).next_batch()) for _ in range(3)]
            await asyncio.sleep(0.01)
            repo.sequencer.stop()
            for outcome in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(outcome, StreamEnded)

    run(story())
