"""Group commit: who shares a fate with whom, and when somebody is told."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from pds_lite.errors import StoreBroken, StoreFull, Unavailable
from pds_lite.storage.writer import MAX_GROUP, Job, MapFilled, Writer


class Recorder:
    """A Backing that keeps a journal and fails when told."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.commit_failures: list[Exception] = []
        self.growth = 0
        self.gate = threading.Event()
        self.gate.set()
        self.committing = threading.Event()

    def begin(self) -> "Group":
        self.journal.append("begin")
        return Group(self)

    def admit(self, use_reserve: bool) -> None:
        if not use_reserve and "full" in self.journal:
            raise StoreFull("full")

    def fault(self, problem: Exception, committing: bool) -> Exception:
        return StoreBroken(str(problem)) if committing and isinstance(problem, OSError) else problem

    def grow(self) -> bool:
        self.growth -= 1
        return self.growth >= 0

    def settled(self) -> None:
        self.journal.append("settled")


class Group:
    def __init__(self, backing: Recorder) -> None:
        self.backing = backing

    def child(self) -> "Child":
        return Child(self.backing)

    def commit(self) -> None:
        self.backing.committing.set()
        self.backing.gate.wait()
        if self.backing.commit_failures:
            raise self.backing.commit_failures.pop(0)
        self.backing.journal.append("commit")

    def abort(self) -> None:
        self.backing.journal.append("abort")


class Child:
    def __init__(self, backing: Recorder) -> None:
        self.backing = backing
        self.on_commit: list[Callable[[], None]] = []
        self.on_abort: list[Callable[[], None]] = []

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        self.backing.journal.append("child abort")


def queue_jobs(backing: Recorder, functions: list[Callable[[Child], object]]) -> list[Future]:
    """The futures of jobs that wait together behind a first, slow commit."""
    writer = Writer(backing)
    backing.gate.clear()
    blocker: Future = Future()
    writer.submit(Job(lambda txn: None, "", False, blocker, None))
    assert backing.committing.wait(60)
    futures: list[Future] = []
    for function in functions:
        future: Future = Future()
        writer.submit(Job(function, "", False, future, None))
        futures.append(future)
    backing.gate.set()
    blocker.result(60)
    writer.close()
    return futures


def noting(backing: Recorder, name: str, problem: Exception | None = None) -> Callable[[Child], str]:
    def run(txn: Child) -> str:
        backing.journal.append(name)
        txn.on_commit.append(lambda: backing.journal.append(f"{name} durable"))
        txn.on_abort.append(lambda: backing.journal.append(f"{name} undone"))
        if problem is not None:
            raise problem
        return name

    return run


def test_jobs_that_wait_share_one_commit_and_are_told_in_order_after_it() -> None:
    backing = Recorder()
    futures = queue_jobs(backing, [noting(backing, "a"), noting(backing, "b")])
    assert [future.result(0) for future in futures] == ["a", "b"]
    assert backing.journal[3:] == ["begin", "a", "b", "commit", "settled", "a durable", "b durable"]


def test_a_failing_job_takes_back_only_itself() -> None:
    backing = Recorder()
    first, bad, last = queue_jobs(
        backing, [noting(backing, "a"), noting(backing, "bad", ValueError("no")), noting(backing, "c")]
    )
    assert (first.result(0), last.result(0)) == ("a", "c")
    with pytest.raises(ValueError, match="no"):
        bad.result(0)
    assert backing.journal[3:] == [
        "begin", "a", "bad", "child abort", "bad undone", "c", "commit", "settled", "a durable", "c durable",
    ]  # fmt: skip


def test_a_failing_commit_fails_all_and_takes_memory_back_last_first() -> None:
    backing = Recorder()

    def break_commit(txn: Child) -> None:
        backing.commit_failures.append(OSError("torn cable"))

    futures = queue_jobs(backing, [break_commit, noting(backing, "a"), noting(backing, "b")])
    for future in futures:
        with pytest.raises(StoreBroken, match="torn cable"):
            future.result(0)
    assert backing.journal[-2:] == ["b undone", "a undone"]
    assert "a durable" not in backing.journal


def test_a_group_of_failures_alone_commits_nothing() -> None:
    backing = Recorder()
    (bad,) = queue_jobs(backing, [noting(backing, "bad", ValueError("no"))])
    assert isinstance(bad.exception(0), ValueError)
    assert backing.journal[3:] == ["begin", "bad", "child abort", "bad undone", "abort"]


def test_a_job_that_met_a_full_map_runs_again_alone_once_the_map_grew() -> None:
    backing = Recorder()
    backing.growth = 1
    attempts = []

    def hungry(txn: Child) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise MapFilled
        return "fits"

    other, fed = queue_jobs(backing, [noting(backing, "a"), hungry])
    assert (other.result(0), fed.result(0)) == ("a", "fits")
    assert backing.journal.count("a") == 1


def test_a_group_whose_commit_met_a_full_map_runs_again_job_by_job() -> None:
    backing = Recorder()
    backing.growth = 5

    def fill(txn: Child) -> str:
        if backing.journal.count("a") == 0:
            backing.commit_failures.append(MapFilled())
        return "fill"

    futures = queue_jobs(backing, [fill, noting(backing, "a")])
    assert [future.result(0) for future in futures] == ["fill", "a"]
    assert backing.journal.count("a undone") == 1
    assert backing.journal.count("a durable") == 1


def test_a_map_that_cannot_grow_is_a_full_store() -> None:
    backing = Recorder()
    futures = queue_jobs(backing, [noting(backing, "big", MapFilled()), noting(backing, "a")])
    with pytest.raises(StoreFull):
        futures[0].result(0)
    assert futures[1].result(0) == "a"


def test_a_group_is_bounded() -> None:
    backing = Recorder()
    futures = queue_jobs(backing, [lambda txn: None] * (MAX_GROUP * 2))
    assert all(future.done() for future in futures)
    assert backing.journal.count("commit") == 3


def test_a_callback_that_fails_reaches_its_caller_and_not_the_others() -> None:
    backing = Recorder()

    def broken(txn: Child) -> None:
        txn.on_commit.append(lambda: 1 / 0)  # type: ignore[arg-type,return-value]

    first, second = queue_jobs(backing, [broken, noting(backing, "b")])
    assert isinstance(first.exception(0), ZeroDivisionError)
    assert second.result(0) == "b"


def test_a_loop_wakes_once_for_a_whole_group_and_a_caller_that_gave_up_loses_nothing() -> None:
    backing = Recorder()
    writer = Writer(backing)

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        backing.gate.clear()
        futures: list[asyncio.Future] = [loop.create_future() for _ in range(4)]
        for number, future in enumerate(futures):
            writer.submit(Job(noting(backing, str(number)), "", False, future, loop))
        futures[2].cancel()
        backing.gate.set()
        return await asyncio.gather(*futures, return_exceptions=True)

    results = asyncio.run(main())
    writer.close()
    assert [results[0], results[1], results[3]] == ["0", "1", "3"]
    assert "2 durable" in backing.journal


def test_a_closed_writer_refuses_but_finishes_what_was_queued() -> None:
    backing = Recorder()
    writer = Writer(backing)
    future: Future = Future()
    writer.submit(Job(noting(backing, "a"), "", False, future, None))
    writer.close()
    assert future.result(0) == "a"
    with pytest.raises(Unavailable):
        writer.submit(Job(noting(backing, "b"), "", False, Future(), None))
