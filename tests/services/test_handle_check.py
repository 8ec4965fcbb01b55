"""HandleCheck: right only if strangers find it right, and asked seldom whoever asks."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pds_lite.config import Config
from pds_lite.errors import NotFound, UpstreamFailure
from pds_lite.services import handle_check
from pds_lite.services.handle_check import AGAIN_S, HandleCheck
from pds_lite.storage.account_store import Account
from tests.set_clock import SetClock

DID = "did:plc:" + "a" * 24
HANDLE = "alice.example.com"


class World:
    """What the network says of handle and DID; `None` is silence."""

    def __init__(self, leads_to: str | None = DID, named: str | None = HANDLE) -> None:
        self.leads_to, self.named = leads_to, named
        self.asked = 0
        self.gate: asyncio.Event | None = None
        self.row = Account(DID, HANDLE, "", False, "", "active", 1)

    def require(self) -> Account:
        return self.row

    async def resolve_handle(self, handle: str, *, refresh: bool) -> str:
        assert refresh, "what the box believes is not asked"
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.leads_to is None:
            raise NotFound(f"nobody knows {handle}")
        return self.leads_to

    async def did_doc(self, did: str, *, refresh: bool) -> Any:
        assert refresh
        if self.named is None:
            raise UpstreamFailure("the directory does not answer")
        return SimpleNamespace(handle=self.named)

    def check(self, tmp_path: Path, clock: SetClock) -> HandleCheck:
        config = Config(data_dir=tmp_path, hostname="box.example.com", did_cache_s=3600.0)
        world: Any = self
        return HandleCheck(config, clock, world, world)


@pytest.mark.parametrize(
    ("leads_to", "named", "correct"),
    [
        (DID, HANDLE, True),
        (DID, "other.example.com", False),
        (DID, None, False),
        ("did:plc:" + "b" * 24, HANDLE, False),
        (None, HANDLE, False),
    ],
)
async def test_both_directions_must_hold(
    tmp_path: Path, clock: SetClock, leads_to: str | None, named: str | None, correct: bool
) -> None:
    assert await World(leads_to, named).check(tmp_path, clock).is_correct() is correct


async def test_the_boxs_own_name_is_right_though_the_box_cannot_reach_itself(tmp_path: Path, clock: SetClock) -> None:
    world = World(None, "box.example.com")
    world.row = replace(world.row, handle="box.example.com")
    assert await world.check(tmp_path, clock).is_correct()


async def test_a_did_that_is_not_published_is_right_for_nobody(tmp_path: Path, clock: SetClock) -> None:
    world = World()
    world.row = replace(world.row, plc_op=b"genesis")
    assert not await world.check(tmp_path, clock).is_correct()


async def test_strangers_cannot_make_the_box_ask_often(tmp_path: Path, clock: SetClock) -> None:
    world = World(None)
    check = world.check(tmp_path, clock)
    assert [await check.is_correct() for _ in range(5)] == [False] * 5
    assert world.asked == 1

    world.leads_to = DID
    clock.forward(AGAIN_S)
    assert await asyncio.gather(*(check.is_correct() for _ in range(5))) == [True] * 5
    clock.forward(AGAIN_S)
    assert await check.is_correct()
    assert world.asked == 2, "a right one is believed for longer"


async def test_another_handle_is_judged_for_itself(tmp_path: Path, clock: SetClock) -> None:
    world = World()
    check = world.check(tmp_path, clock)
    assert await check.is_correct()
    world.row = replace(world.row, handle="new.example.com")
    assert not await check.is_correct()
    assert world.asked == 2


async def test_nobody_waits_long(tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_check, "WAIT_S", 0.01)
    world = World()
    world.gate = asyncio.Event()
    check = world.check(tmp_path, clock)
    assert not await check.is_correct(), "not known yet"
    assert not await check.is_correct()
    assert world.asked == 1

    world.gate.set()
    monkeypatch.setattr(handle_check, "WAIT_S", 5.0)
    assert await check.is_correct()
