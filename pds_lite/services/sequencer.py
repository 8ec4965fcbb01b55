"""The event stream: what subscribers get, from the log first and then live, without gap or repeat.

Rules that hold here
- An event is announced only once it is durable, and its frame is what the log holds. `publish` is called on the
  writer thread in the order of commits; everything else runs on the event loop.
- Subscribers pull. Each has nothing but its place in the stream: newest frames come from one shared buffer, older ones
  from the log in batches. So a slow subscriber costs no memory.
- The shared buffer is also the measure of slowness: who was live and falls out of it is told ConsumerTooSlow and
  closed, as is a replaying one that retention overtakes. The buffer is kept only while somebody subscribes.
- Retention is by age and by bytes; what is outside the window is not replayed even before it is pruned.

It must not know about websockets; xrpc/subscribe_repos carries the frames.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pds_lite.atproto import firehose
from pds_lite.errors import BadInput, RateLimited
from pds_lite.storage import event_log

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.storage.store import Store, Txn, WriteTxn

log = logging.getLogger(__name__)

MAX_RECENT_EVENTS = 2000
MAX_RECENT_BYTES = 8 << 20
BATCH_BYTES = 256 << 10
BATCH_EVENTS = 500
PRUNE_BUDGET = 500
"""Events dropped in one transaction, so that pruning never holds up a write for long."""


class ConsumerTooSlow(BadInput):
    """The subscriber fell behind what is kept for it."""

    error = "ConsumerTooSlow"


class FutureCursor(BadInput):
    """The cursor is ahead of the newest event."""

    error = "FutureCursor"


class StreamEnded(Exception):
    """The server is stopping: not an error, so not of the error tree."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much of the stream is kept."""

    age_us: int
    max_bytes: int


class Subscription:
    """One subscriber's place in the stream. Made by Sequencer.subscribe, given back with `close`."""

    def __init__(self, sequencer: Sequencer, cursor: int, *, outdated: bool) -> None:
        self._sequencer = sequencer
        self._greeting = outdated
        self.cursor = cursor
        """The last sequence number handed out, or the one to start after."""
        self.live = False
        self.failed: asyncio.Future[ConsumerTooSlow] = asyncio.get_running_loop().create_future()
        """Done as soon as the subscriber is too slow, so that a send that hangs can be given up."""

    async def next_batch(self) -> list[bytes]:
        """The next frames, one or more, waiting for the first. Raises ConsumerTooSlow, or StreamEnded at shutdown."""
        if self._greeting:
            self._greeting = False
            return [firehose.info_frame("OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events")]
        while True:
            if self.failed.done():
                raise self.failed.result()
            frames = self._sequencer.frames_after(self)
            if frames:
                return frames
            await self._sequencer.changed()

    def fail(self) -> None:
        """Marks the subscriber as too slow."""
        if not self.failed.done():
            self.failed.set_result(ConsumerTooSlow("Stream consumer too slow"))

    def close(self) -> None:
        """Gives the place back; harmless twice."""
        self._sequencer.forget(self)


class Sequencer:
    """The log's tail in memory, its subscribers, and retention."""

    def __init__(self, store: Store, clock: Clock, window: Window, max_subscribers: int) -> None:
        self._store = store
        self._clock = clock
        self._window = window
        self._max_subscribers = max_subscribers
        self._subscriptions: set[Subscription] = set()
        self._recent: deque[tuple[int, bytes]] = deque()
        self._recent_bytes = 0
        self._recent_after = 0  # the buffer holds every durable event above this
        self._listening = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._stopping = False

    def start(self) -> None:
        """Binds the stream to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Ends every subscription; they see StreamEnded."""
        self._stopping = True
        self._wake()

    @property
    def subscribers(self) -> int:
        """How many are connected."""
        return len(self._subscriptions)

    # Writing side

    def publish(self, seq: int, frame: bytes) -> None:
        """Announces a durable event; called on the writer thread, in order."""
        if self._listening and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._append, seq, frame)

    def _append(self, seq: int, frame: bytes) -> None:
        if not self._subscriptions:
            self._listening = False
            self._recent.clear()
            self._recent_bytes = 0
            return
        self._recent.append((seq, frame))
        self._recent_bytes += len(frame)
        while len(self._recent) > MAX_RECENT_EVENTS or self._recent_bytes > MAX_RECENT_BYTES:
            self._recent_after, old = self._recent.popleft()
            self._recent_bytes -= len(old)
        for subscription in self._subscriptions:
            if subscription.live and subscription.cursor < self._recent_after:
                subscription.fail()
        self._wake()

    def _wake(self) -> None:
        # Straight to each waiting task: one more hop of the loop, and the writer's answer would overtake the event.
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    # Reading side

    def subscribe(self, cursor: int | None) -> Subscription:
        """A place in the stream: after `cursor`, at the oldest kept event for 0, at the end for None.

        Raises FutureCursor, or RateLimited when as many subscribers are connected as the board bears.
        """
        if len(self._subscriptions) >= self._max_subscribers:
            raise RateLimited("Too many subscribers", retry_after=30)
        # Before the read: an event that becomes durable after it is announced to us, one before it is read.
        self._listening = True
        with self._store.read() as txn:
            last = event_log.last_seq(txn)
            if cursor is None:
                start, outdated = last, False
            elif cursor > last:
                raise FutureCursor("Cursor in the future.")
            else:
                start = max(cursor, event_log.pruned_through(txn), self._window_start())
                outdated = start > cursor and self._missed_any(txn, cursor, start)
        if not self._subscriptions:
            # Nobody listened, so nothing was buffered: the buffer begins with the next event after the newest one.
            self._recent.clear()
            self._recent_bytes = 0
            self._recent_after = last
        subscription = Subscription(self, start, outdated=outdated)
        self._subscriptions.add(subscription)
        return subscription

    @staticmethod
    def _missed_any(txn: Txn, cursor: int, start: int) -> bool:
        """Whether there were events after `cursor`, up to `start`."""
        if event_log.pruned_through(txn) > cursor:
            return True
        following = event_log.read_after(txn, cursor, 1, 1)
        return bool(following) and following[0][0] <= start

    def forget(self, subscription: Subscription) -> None:
        """Lets a subscriber go."""
        self._subscriptions.discard(subscription)

    def frames_after(self, subscription: Subscription) -> list[bytes]:
        """Frames above the subscriber's cursor, which moves on; none if it has them all."""
        if self._stopping:
            raise StreamEnded
        cursor = subscription.cursor
        if cursor < self._recent_after:
            frames = self._from_log(cursor)
            if frames:
                subscription.cursor = frames[-1][0]
                return [frame for _seq, frame in frames]
        subscription.live = True
        if not self._recent or self._recent[-1][0] <= cursor:
            return []
        fresh: list[bytes] = []
        for seq, frame in reversed(self._recent):
            if seq <= cursor:
                break
            fresh.append(frame)
        subscription.cursor = self._recent[-1][0]
        fresh.reverse()
        return fresh

    async def changed(self) -> None:
        """Waits for a new event or the end of the stream."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _from_log(self, cursor: int) -> list[tuple[int, bytes]]:
        with self._store.read() as txn:
            if cursor < event_log.pruned_through(txn):
                raise ConsumerTooSlow("The events this consumer waits for are no longer kept")
            return event_log.read_after(txn, cursor, BATCH_BYTES, BATCH_EVENTS)

    # Retention

    def _window_start(self) -> int:
        return max(0, self._clock.now_us() - self._window.age_us)

    async def prune(self) -> int:
        """Drops events outside the window in small transactions; how many went."""
        gone = 0
        while True:
            start = self._window_start()
            with self._store.read() as txn:
                if not event_log.needs_pruning(txn, start, self._window.max_bytes):
                    return gone
            dropped = await self._store.write(partial(self._prune_some, start), "prune events", use_reserve=True)
            gone += dropped
            if not dropped:
                return gone

    async def forget_before(self, seq: int) -> None:
        """Drops every event before this one: the account they tell of is gone."""
        step = partial(event_log.prune, before_us=seq, max_total_bytes=1 << 60, budget=PRUNE_BUDGET)
        while await self._store.write(step, "prune events", use_reserve=True):
            pass

    def _prune_some(self, start: int, txn: WriteTxn) -> int:
        return event_log.prune(txn, start, self._window.max_bytes, PRUNE_BUDGET)
