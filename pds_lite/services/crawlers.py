"""Crawlers: telling relays that this host is there (com.atproto.sync.requestCrawl).

A relay that lost us never dials again by itself, and ignores a request while it still believes to be subscribed. So
each relay is asked at start, on activation and after an outage, and then twice more, when it may have noticed; and
after a write, at most every 20 minutes. A failure is tried again with growing pauses, for each relay by itself. An
outage shows in two ways: this process slept much longer than it asked for, or all who followed the stream are gone.
A box that nobody could crawl (no account, not active, not published) asks nobody.

It must not delay or fail what it follows: `wrote` and `ask_now` only set flags for the tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pds_lite.errors import PdsError
from pds_lite.net.relay import request_crawl

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.net.http_client import HttpClient

log = logging.getLogger(__name__)

AFTER_WRITE_S = 20 * 60.0
REPEATS_S = (5 * 60.0, 20 * 60.0)
"""Pauses before a relay that took the request is asked again: it goes on redialling for up to five minutes first."""
FIRST_RETRY_S = 15.0
LAST_RETRY_S = 3600.0
OUTAGE_S = 180.0
"""A task that slept this much longer than it asked for shows that the box hung or was suspended."""


class Crawlers:
    """Asks each configured relay to crawl `hostname`.

    `crawlable` says whether there is anything to be found here; `followers` counts the stream's subscribers.
    """

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        relays: Sequence[str],
        hostname: str,
        *,
        crawlable: Callable[[], bool] = lambda: True,
        followers: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock
        self._crawlable = crawlable
        self._relays = [_Relay(http, clock, relay, hostname, followers) for relay in relays]
        self._wrote_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Asks now, and goes on listening for reasons to ask again."""
        self._tasks = [asyncio.create_task(relay.run(), name="crawlers") for relay in self._relays]
        self.ask_now()

    async def stop(self) -> None:
        """Ends the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask_now(self) -> None:
        """For the start, for activation, and for the end of an outage."""
        if not self._crawlable():
            return
        for relay in self._relays:
            relay.ask(REPEATS_S)

    def wrote(self) -> None:
        """A record changed: a relay that lost us should learn that there is something new."""
        if not self._crawlable():
            return
        now = self._clock.monotonic()
        if self._wrote_at is None or now - self._wrote_at >= AFTER_WRITE_S:
            self._wrote_at = now
            for relay in self._relays:
                relay.ask(())


class _Relay:
    """One relay and what is still to be asked of it."""

    def __init__(self, http: HttpClient, clock: Clock, relay: str, hostname: str, followers: Callable[[], int]) -> None:
        self._http = http
        self._clock = clock
        self._relay = relay
        self._hostname = hostname
        self._followers = followers
        self._was_followed = False
        self._wanted = asyncio.Event()
        self._repeats: list[float] = []

    def ask(self, repeats: Sequence[float]) -> None:
        """Asks soon, and again after these pauses."""
        self._repeats = list(repeats) or self._repeats
        self._wanted.set()

    async def run(self) -> None:
        """Asks whenever there is a reason."""
        while True:
            await self._wait_for_reason()
            await self._ask()

    async def _wait_for_reason(self) -> None:
        """Until somebody wants it, a repeat is due, or this very wait took much longer than it should have."""
        while not self._wanted.is_set():
            pause = self._repeats[0] if self._repeats else OUTAGE_S
            began = self._clock.now_us()
            try:
                await asyncio.wait_for(self._wanted.wait(), pause)
            except TimeoutError:
                if self._clock.now_us() - began > (pause + OUTAGE_S) * 1_000_000 or self._lost_everybody():
                    self._repeats = list(REPEATS_S)
                    return
                if self._repeats:
                    self._repeats.pop(0)
                    return

    def _lost_everybody(self) -> bool:
        """True once, at the first look after the last follower left: then our line was down, not one of theirs."""
        followed = self._followers() > 0
        lost = self._was_followed and not followed
        self._was_followed = followed
        return lost

    async def _ask(self) -> None:
        """Tries until the relay took the request; a new reason to ask does not wait for the pause to end."""
        pause = FIRST_RETRY_S
        while True:
            self._wanted.clear()
            try:
                await request_crawl(self._http, self._relay, self._hostname)
            except PdsError as problem:
                log.info("%s did not take requestCrawl: %s; again in %d s", self._relay, problem, pause)
            else:
                log.info("%s was asked to crawl %s", self._relay, self._hostname)
                return
            try:
                await asyncio.wait_for(self._wanted.wait(), pause)
                pause = FIRST_RETRY_S
            except TimeoutError:
                pause = min(LAST_RETRY_S, pause * 2)
