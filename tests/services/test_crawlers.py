"""Relays are asked when there is a reason, again until they take it, and not for every write."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pds_lite.clock import Clock
from pds_lite.errors import UpstreamFailure
from pds_lite.services import crawlers as module
from pds_lite.services.crawlers import AFTER_WRITE_S, Crawlers


class _Clock(Clock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class _Relays:
    """What each relay was asked; `failing` ones refuse so many times first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: dict[str, int] = {}

    async def request_crawl(self, _http: Any, relay: str, hostname: str) -> None:
        assert hostname == "pds.example.com"
        self.asked.append(relay)
        if self.failing.get(relay, 0) > 0:
            self.failing[relay] -= 1
            raise UpstreamFailure("down")


@pytest.fixture
def relays(monkeypatch: pytest.MonkeyPatch) -> _Relays:
    fake = _Relays()
    monkeypatch.setattr(module, "request_crawl", fake.request_crawl)
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.005)
    return fake


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def until(true: Callable[[], bool]) -> None:
    """Waits for what is to happen, and a moment longer for what is not."""
    for _ in range(12_000):
        if true():
            break
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)


def made(clock: Clock, *names: str) -> Crawlers:
    http: Any = None
    return Crawlers(http, clock, names, "pds.example.com")


def test_each_relay_is_asked_at_start_and_a_failing_one_holds_up_nobody(relays: _Relays) -> None:
    relays.failing["one"] = 3

    async def story() -> None:
        service = made(Clock(), "one", "two")
        service.start()
        await until(lambda: len(relays.asked) >= 5)
        await service.stop()
        assert sorted(relays.asked) == ["one"] * 4 + ["two"]

    run(story())


def test_writes_ask_at_most_every_twenty_minutes(relays: _Relays) -> None:
    async def story() -> None:
        clock = _Clock()
        service = made(clock, "one")
        service.start()
        await until(lambda: len(relays.asked) >= 1)
        for _ in range(5):
            service.wrote()
            await asyncio.sleep(0.005)
        await until(lambda: len(relays.asked) >= 2)
        assert len(relays.asked) == 2
        clock.ahead = AFTER_WRITE_S + 1
        service.wrote()
        await until(lambda: len(relays.asked) >= 3)
        await service.stop()
        assert len(relays.asked) == 3

    run(story())


def test_an_activation_does_not_wait_for_the_end_of_a_long_pause(
    relays: _Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 3600.0)
    relays.failing["one"] = 1

    async def story() -> None:
        service = made(Clock(), "one")
        service.start()
        await until(lambda: len(relays.asked) >= 1)
        service.ask_now()
        await until(lambda: len(relays.asked) >= 2)
        await service.stop()
        assert len(relays.asked) == 2

    run(story())


def test_who_took_the_request_is_asked_again_later_since_it_may_have_ignored_it(
    relays: _Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEATS_S", (0.01, 0.02))

    async def story() -> None:
        service = made(Clock(), "one")
        service.start()
        await until(lambda: len(relays.asked) >= 3)
        await service.stop()
        assert len(relays.asked) == 3

    run(story())


def test_without_relays_nothing_is_asked(relays: _Relays) -> None:
    async def story() -> None:
        service = made(Clock())
        service.start()
        service.wrote()
        await asyncio.sleep(0.01)
        await service.stop()
        assert relays.asked == []

    run(story())


def test_a_box_that_nobody_could_crawl_asks_nobody(relays: _Relays) -> None:
    async def story() -> None:
        http: Any = None
        service = Crawlers(http, Clock(), ["one"], "pds.example.com", crawlable=lambda: False)
        service.start()
        service.ask_now()
        service.wrote()
        await asyncio.sleep(0.05)
        await service.stop()
        assert relays.asked == []

    run(story())


def test_when_the_last_follower_left_the_relays_are_asked_once(
    relays: _Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead line shows only in that nobody follows the stream any more."""
    monkeypatch.setattr(module, "OUTAGE_S", 0.5)  # and no pause of a busy machine is as long
    monkeypatch.setattr(module, "REPEATS_S", ())

    async def story() -> None:
        http: Any = None
        followers, looks = 1, 0

        def look() -> int:
            nonlocal looks
            looks += 1
            return followers

        service = Crawlers(http, Clock(), ["one"], "pds.example.com", followers=look)
        service.start()
        await until(lambda: looks >= 1)
        assert len(relays.asked) == 1
        followers = 0
        await until(lambda: len(relays.asked) >= 2)
        await service.stop()
        assert len(relays.asked) == 2

    run(story())
