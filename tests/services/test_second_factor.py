"""The second factor: RFC 6238's own vectors, each code once, recovery codes that are spent by their use."""

import pytest

from pds_lite.errors import BadInput
from pds_lite.services.second_factor import (
    RECOVERY_CODES,
    STEP_S,
    SecondFactor,
    otpauth_url,
    secret_text,
    totp,
)
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Store
from tests.set_clock import SetClock


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(at: int, code: str) -> None:
    secret = b"12345678901234567890"

    assert totp(secret, at // STEP_S, 8) == code
    assert totp(secret, at // STEP_S) == code[2:]


def test_codes_agree_with_another_implementation() -> None:
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.totp import TOTP

    secret = bytes(range(20))
    other = TOTP(secret, 6, SHA1(), 30)
    for at in range(1_800_000_000, 1_800_000_000 + 300 * STEP_S, STEP_S):
        assert totp(secret, at // STEP_S) == other.generate(at).decode()


async def switched_on(clock: SetClock, store: Store) -> tuple[SecondFactor, bytes, list[str]]:
    factor = SecondFactor(clock, store)
    factor.start()
    secret = factor.begin()
    codes = await factor.switch_on(totp(secret, clock.now() // STEP_S))
    return factor, secret, codes


async def test_it_is_off_until_a_code_proves_the_secret(clock: SetClock, store: Store) -> None:
    factor = SecondFactor(clock, store)
    factor.start()
    secret = factor.begin()
    assert factor.begin() == secret

    with pytest.raises(BadInput):
        await factor.switch_on("000000" if totp(secret, clock.now() // STEP_S) != "000000" else "000001")
    assert not factor.required
    assert not await factor.check(totp(secret, clock.now() // STEP_S))
    clock.forward(601)
    assert factor.begin() != secret

    await factor.switch_on(totp(factor.begin(), clock.now() // STEP_S))
    assert factor.required
    again = SecondFactor(clock, store)
    again.start()
    assert again.required


async def test_each_code_is_taken_once_within_one_step_of_now(clock: SetClock, store: Store) -> None:
    factor, secret, _ = await switched_on(clock, store)
    now = clock.now() // STEP_S
    assert not await factor.check(totp(secret, now)), "the code that switched it on"

    clock.forward(10 * STEP_S)
    now += 10
    assert not await factor.check(totp(secret, now - 2))
    assert not await factor.check(totp(secret, now + 2))
    assert await factor.check(totp(secret, now - 1))
    assert await factor.check(f" {totp(secret, now)[:3]} {totp(secret, now)[3:]} ")
    assert not await factor.check(totp(secret, now))
    assert not await factor.check(totp(secret, now - 1))
    restarted = SecondFactor(clock, store)
    restarted.start()
    assert not await restarted.check(totp(secret, now))
    assert await restarted.check(totp(secret, now + 1))


async def test_two_requests_at_once_cannot_both_use_a_code(clock: SetClock, store: Store) -> None:
    import asyncio

    factor, secret, codes = await switched_on(clock, store)
    clock.forward(5 * STEP_S)
    for code in (totp(secret, clock.now() // STEP_S), codes[0]):
        assert sorted(await asyncio.gather(factor.check(code), factor.check(code))) == [False, True]


async def test_a_recovery_code_is_spent_by_its_use(clock: SetClock, store: Store) -> None:
    factor, _, codes = await switched_on(clock, store)
    assert len(set(codes)) == RECOVERY_CODES == factor.recovery_codes_left()

    assert await factor.check(codes[3].lower().replace("-", " "))
    assert not await factor.check(codes[3])
    assert factor.recovery_codes_left() == RECOVERY_CODES - 1
    fresh = await factor.new_recovery_codes()
    assert not await factor.check(codes[4])
    assert await factor.check(fresh[0])


async def test_no_recovery_code_is_kept_readable(clock: SetClock, store: Store) -> None:
    _, _, codes = await switched_on(clock, store)

    with store.read() as txn:
        stored = b"".join(value for _key, value in txn.scan(Table.SIGN_IN))
    for code in codes:
        assert code.encode() not in stored
        assert code.replace("-", "").encode() not in stored


async def test_wrong_codes_write_nothing(clock: SetClock, store: Store) -> None:
    factor, _, _ = await switched_on(clock, store)
    with store.read() as txn:
        before = list(txn.scan(Table.SIGN_IN))

    for wrong in ("", "12345", "1234567", "AAAAA-AAAAA", "x" * 1000, "\N{ARABIC-INDIC DIGIT ONE}" * 6, "\ud800"):
        assert not await factor.check(wrong), wrong
    with store.read() as txn:
        assert list(txn.scan(Table.SIGN_IN)) == before


async def test_switched_off_nothing_is_asked_for_and_nothing_is_right(clock: SetClock, store: Store) -> None:
    factor, secret, codes = await switched_on(clock, store)
    await factor.switch_off()
    clock.forward(5 * STEP_S)

    assert not factor.required
    assert not await factor.check(codes[0])
    assert not await factor.check(totp(secret, clock.now() // STEP_S))
    with pytest.raises(BadInput):
        await factor.new_recovery_codes()


def test_the_url_in_the_qr_code() -> None:
    url = otpauth_url(b"12345678901234567890", "alice.test", "pds.example.com")

    assert url == (
        "otpauth://totp/pds.example.com:alice.test?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=pds.example.com"
    )
    assert secret_text(b"12345678901234567890") == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
