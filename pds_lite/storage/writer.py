"""The one thread that changes the store, and group commit.

Jobs that arrive while a commit is being flushed share the next transaction. Each runs in a child transaction of it, so
a job that fails takes back only its own changes; when the outer commit fails, all of its jobs fail and what they
changed in memory is taken back by their on_abort callbacks, last first. Nothing is acknowledged before it is durable:
on_commit callbacks run in the order of the jobs, then all futures of a group are resolved in one step of the event
loop. A caller that gave up never cancels a queued job. A job that met a full map runs once more after the map grew.

This module knows transactions as things to begin, commit and abort; that LMDB is behind them is the store's business.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from pds_lite.errors import StoreFull, Unavailable
from pds_lite.storage import failpoints

MAX_GROUP = 64
"""Jobs in one transaction; bounds what an outer failure takes back and how long the first job waits for the last."""


class JobTransaction(Protocol):
    """What a job is given: a child transaction with its callbacks."""

    on_commit: list[Callable[[], None]]
    on_abort: list[Callable[[], None]]

    def commit(self) -> None: ...
    def abort(self) -> None: ...


class GroupTransaction(Protocol):
    """The outer transaction of one group."""

    def child(self) -> JobTransaction: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


class Backing(Protocol):
    """What the thread needs of the store."""

    def begin(self) -> GroupTransaction:
        """A new outer transaction."""

    def admit(self, use_reserve: bool) -> None:
        """Raises StoreFull or StoreBroken when a job must not run now; `use_reserve`: not for want of room."""

    def fault(self, problem: Exception, committing: bool) -> Exception:
        """MapFilled or a PdsError for an error of the storage engine; any other error as it is."""

    def grow(self) -> bool:
        """Make the map larger; False where that cannot be."""

    def settled(self) -> None:
        """Called after each durable commit, before its callbacks. Must not raise."""


class MapFilled(Exception):
    """The map had no room for a job or group. Never leaves this module: the job runs again or gets StoreFull."""


class Job:
    """One queued write and, once run, its outcome."""

    __slots__ = ("failure", "fn", "future", "label", "loop", "result", "retried", "txn", "use_reserve")

    def __init__(
        self,
        fn: Callable[[Any], Any],
        label: str,
        use_reserve: bool,
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.fn = fn
        self.label = label
        self.use_reserve = use_reserve
        self.future = future
        self.loop = loop
        self.retried = False
        self.result: Any = None
        self.failure: Exception | None = None
        self.txn: JobTransaction | None = None


class Writer:
    """The thread and its queue."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises Unavailable once the store is closing."""
        with self._gate:
            if self._closed:
                raise Unavailable("the store is closed")
            self._queue.put(job)

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def is_current(self) -> bool:
        """True when called on the writer thread itself."""
        return threading.get_ident() == self._thread.ident

    def _run(self) -> None:
        job = self._queue.get()
        while job is not None:
            job = self._run_group(job)

    def _run_group(self, first: Job) -> Job | None:
        """Run, commit and acknowledge `first` and what is waiting; then the next job to come, None at the end."""
        jobs = [first]
        group = self._run_job(None, first)
        try:
            while len(jobs) < MAX_GROUP:
                job = self._queue.get_nowait()
                if job is None:
                    self._finish(group, jobs)
                    return None
                jobs.append(job)
                group = self._run_job(group, job)
        except Empty:
            pass
        self._finish(group, jobs)
        return self._queue.get()

    def _run_job(self, group: GroupTransaction | None, job: Job) -> GroupTransaction | None:
        """Run a job in a child of `group`, begun here if it was not yet. Its outcome is left in the job."""
        txn: JobTransaction | None = None
        job.failure = job.txn = None
        try:
            self._backing.admit(job.use_reserve)
            group = group or self._backing.begin()
            txn = group.child()
            job.result = job.fn(txn)
            txn.commit()
            job.txn = txn
        except Exception as problem:  # noqa: BLE001 - whatever a job raises is its caller's
            if txn is not None:
                txn.abort()
                _call_all(reversed(txn.on_abort))
            job.failure = self._backing.fault(problem, committing=False)
        failpoints.hit("store.job")
        return group

    def _finish(self, group: GroupTransaction | None, jobs: list[Job]) -> None:
        problem = self._commit(group, jobs) if group is not None else None
        if problem is not None:
            for job in jobs:
                job.failure = job.failure or problem
        again = self._jobs_to_repeat(jobs)
        _acknowledge([job for job in jobs if job not in again] if again else jobs)
        for job in again:
            self._finish(self._run_job(None, job), [job])

    def _commit(self, group: GroupTransaction, jobs: list[Job]) -> Exception | None:
        """Make the group durable and run its callbacks; the error if that failed and all was taken back."""
        done = [job for job in jobs if job.txn is not None]
        if not done:
            group.abort()
            return None
        try:
            failpoints.hit("store.before_commit")
            group.commit()
            failpoints.hit("store.committed")
        except Exception as problem:  # noqa: BLE001 - passed on to every caller of the group
            for job in reversed(done):
                _call_all(reversed(job.txn.on_abort) if job.txn else ())
            return self._backing.fault(problem, committing=True)
        self._backing.settled()
        for job in done:
            self._announce(job)
        failpoints.hit("store.announced")
        return None

    @staticmethod
    def _announce(job: Job) -> None:
        try:
            _call_all(job.txn.on_commit if job.txn else ())
        except Exception as problem:  # noqa: BLE001 - durable already, but its caller must know that something is wrong
            job.failure = problem

    def _jobs_to_repeat(self, jobs: list[Job]) -> list[Job]:
        """Those that met a full map, if it could be made larger and they were not repeated before."""
        filled = [job for job in jobs if isinstance(job.failure, MapFilled)]
        grown = bool(filled) and self._backing.grow()
        again = [job for job in filled if grown and not job.retried]
        for job in filled:
            job.retried = True
            if job not in again:
                job.failure = StoreFull("the store has reached its largest size", hint="Raise the limit map_mb.")
        return again


def _acknowledge(jobs: list[Job]) -> None:
    """One wake-up of the event loop for the whole group (of each loop, should there be several)."""
    waiting: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is None:
            _resolve([job])
        else:
            waiting.setdefault(job.loop, []).append(job)
    for loop, its_jobs in waiting.items():
        try:
            loop.call_soon_threadsafe(_resolve, its_jobs)
        except RuntimeError:
            # The loop has closed: nobody is left to tell, and the commit stands.
            continue


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():  # the caller gave up
            continue
        if job.failure is not None:
            job.future.set_exception(job.failure)
        else:
            job.future.set_result(job.result)


def _call_all(callbacks: Iterable[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
