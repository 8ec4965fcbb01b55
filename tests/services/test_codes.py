"""Codes: one use, few guesses, an hour, and the same code when it is asked for twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pds_lite.clock import Clock
from pds_lite.errors import BadInput
from pds_lite.services.codes import LIFE_US, MAX_ATTEMPTS, Codes, Purpose, forget_all
from pds_lite.storage.store import Store

PLC, RESET = Purpose.PLC_OPERATION, Purpose.RESET_PASSWORD


class SetClock(Clock):
    us = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.us


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def codes(store: Store, clock: SetClock) -> Codes:
    return Codes(clock, store)


async def refused(codes: Codes, purpose: Purpose, code: str) -> str:
    with pytest.raises(BadInput) as caught:
        await codes.consume(purpose, code)
    return caught.value.error


async def test_a_code_is_good_once_however_it_is_typed(codes: Codes) -> None:
    code = await codes.issue(PLC)
    assert [(row.purpose, row.code) for row in codes.pending()] == [("plc_operation", code)]

    await codes.consume(PLC, f" {code.lower()} ")

    assert await refused(codes, PLC, code) == "InvalidToken"
    assert codes.pending() == []


async def test_a_code_is_for_its_purpose_alone(codes: Codes) -> None:
    code = await codes.issue(PLC)
    other = await codes.issue(RESET)

    assert await refused(codes, RESET, code) == "InvalidToken"
    assert code != other
    await codes.consume(PLC, code)


async def test_of_two_that_come_at_once_one_is_let_in(codes: Codes) -> None:
    code = await codes.issue(PLC)

    outcomes = await asyncio.gather(*(codes.consume(PLC, code) for _ in range(4)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(type(None)) == 1


async def test_asking_again_gives_the_same_code_more_time(codes: Codes, clock: SetClock) -> None:
    code = await codes.issue(PLC)
    clock.us += LIFE_US - 1
    assert await codes.issue(PLC) == code
    clock.us += LIFE_US - 1

    await codes.consume(PLC, code)
    assert await codes.issue(PLC) != code


async def test_an_expired_code_is_called_expired_and_then_forgotten(
    codes: Codes, clock: SetClock, store: Store
) -> None:
    code = await codes.issue(PLC)
    clock.us += LIFE_US
    assert codes.pending() == []
    assert await refused(codes, PLC, code) == "ExpiredToken"
    assert await refused(codes, PLC, "AAAAA-AAAAA") == "InvalidToken"
    assert await codes.issue(PLC) != code

    clock.us += 30 * LIFE_US
    await codes.issue(RESET)
    assert await refused(codes, PLC, code) == "InvalidToken"


async def test_guessing_ends_after_few_attempts(codes: Codes) -> None:
    code = await codes.issue(PLC)
    for number in range(MAX_ATTEMPTS):
        assert await refused(codes, PLC, f"AAAAA-AAA{number:02}") == "InvalidToken"

    assert await refused(codes, PLC, code) == "InvalidToken"
    assert codes.pending() == []
    fresh = await codes.issue(PLC)
    assert fresh != code
    await codes.consume(PLC, fresh)


async def test_checking_does_not_spend(codes: Codes) -> None:
    code = await codes.issue(PLC)
    await codes.check(PLC, code)
    await codes.check(PLC, code)
    with pytest.raises(BadInput):
        await codes.check(PLC, "é" * 2000)
    await codes.consume(PLC, code)


async def test_all_can_be_voided(codes: Codes, store: Store) -> None:
    code = await codes.issue(PLC)
    await store.write(forget_all)
    assert await refused(codes, PLC, code) == "InvalidToken"
