"""Codes: one use, few guesses, an hour, and the same code when it is asked for twice."""

import asyncio

import pytest

from pds_lite.errors import BadInput, StoreBroken
from pds_lite.services import key_store
from pds_lite.services.codes import LIFE_US, MAX_ATTEMPTS, Codes, Purpose, forget_all
from pds_lite.storage import account_store
from pds_lite.storage.account_store import PendingCode
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store
from tests.set_clock import SetClock

KEYS = key_store.generate()
PLC, RESET = Purpose.PLC_OPERATION, Purpose.RESET_PASSWORD


@pytest.fixture
def codes(store: Store, clock: SetClock) -> Codes:
    return Codes(clock, store, KEYS)


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


async def test_no_code_lies_readable_in_the_store(codes: Codes, store: Store) -> None:
    code = await codes.issue(PLC)
    with store.read() as txn:
        rows = b"".join(bytes(value) for _key, value in txn.scan(Table.CODES))
    for form in (code, code.replace("-", ""), code.lower()):
        assert form.encode() not in rows


async def test_a_code_is_shown_and_good_after_a_restart(codes: Codes, store: Store, clock: SetClock) -> None:
    code = await codes.issue(PLC)
    again = Codes(clock, store, KEYS)

    assert [row.code for row in again.pending()] == [code]
    await again.consume(PLC, code)


async def test_another_boxs_keys_neither_show_nor_take_it(codes: Codes, store: Store, clock: SetClock) -> None:
    code = await codes.issue(PLC)
    other = Codes(clock, store, key_store.generate())

    with pytest.raises(StoreBroken):
        other.pending()
    assert await refused(other, PLC, code) == "InvalidToken"


async def test_a_row_of_an_older_version_is_good_for_nothing_and_in_nobodys_way(
    codes: Codes, store: Store, clock: SetClock
) -> None:
    old = PendingCode(PLC.value, clock.us, clock.us + LIFE_US)
    store.write_sync(lambda txn: account_store.put_code(txn, old))

    assert codes.pending() == []
    assert await refused(codes, PLC, "") == "InvalidToken"
    await codes.consume(PLC, await codes.issue(PLC))
