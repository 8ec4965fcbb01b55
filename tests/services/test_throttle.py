"""The throttle: however many addresses guess, guesses are few; and the owner's own network is never shut out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.clock import Clock
from pds_lite.errors import RateLimited
from pds_lite.services.throttle import CODES, MAX_ADDRESSES, PASSWORDS, Throttle, is_home


class SetClock(Clock):
    at = 1000.0

    def monotonic(self) -> float:
        return self.at


def tries(throttle: Throttle, addresses: list[str], what: str = "password") -> int:
    passed = 0
    for address in addresses:
        try:
            getattr(throttle, f"take_{what}")(address)
        except RateLimited:
            continue
        passed += 1
    return passed


def strangers(count: int) -> list[str]:
    return [f"2001:db8:{number:x}::1" for number in range(count)]


@pytest.mark.parametrize(("what", "budgets"), [("password", PASSWORDS), ("code", CODES)])
def test_a_thousand_addresses_have_one_budget_and_the_owner_another(what: str, budgets: dict[bool, object]) -> None:
    clock = SetClock()
    throttle = Throttle(clock, {"198.51.100.7"}.__contains__)

    assert tries(throttle, strangers(1000), what) == budgets[False].burst  # type: ignore[attr-defined]
    assert tries(throttle, ["203.0.113.5"], what) == 0
    for own in ("192.168.1.20", "fd00::7", "127.0.0.1", "198.51.100.7"):
        assert tries(throttle, [own] * 5, what) == 5, own


def test_strangers_wait_but_are_never_shut_out_for_good() -> None:
    clock = SetClock()
    throttle = Throttle(clock, set().__contains__)
    tries(throttle, strangers(500))

    day = 0
    for _ in range(24 * 3600 // 5):
        clock.at += 5
        day += tries(throttle, strangers(2))
    assert abs(day - 24 * 3600 / PASSWORDS[False].seconds) <= 1
    tries(throttle, strangers(3))
    assert tries(throttle, ["203.0.113.5"]) == 0
    clock.at += PASSWORDS[False].seconds
    assert tries(throttle, ["203.0.113.5"]) == 1


def test_codes_are_guessed_at_most_some_thousands_of_times_a_year() -> None:
    """Three of a million codes are right at a time: 0.1 % a week for somebody who has the password already."""
    clock = SetClock()
    throttle = Throttle(clock, set().__contains__)

    week = 0
    for _ in range(7 * 24 * 6):
        clock.at += 600
        week += tries(throttle, strangers(20), "code")
    assert week <= 350
    assert 1 - (1 - 3e-6) ** week < 0.0011


def test_a_sign_in_gives_its_tries_back() -> None:
    throttle = Throttle(SetClock(), set().__contains__)
    for _ in range(500):
        throttle.take_password("203.0.113.5")
        throttle.give_back("203.0.113.5")
    for _ in range(500):
        throttle.take_code("192.168.1.3")
        throttle.give_back("192.168.1.3")


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 400)), max_size=200))
def test_any_mix_stays_within_burst_and_refill(steps: list[tuple[bool, float]]) -> None:
    clock = SetClock()
    throttle = Throttle(clock, set().__contains__)
    passed = {True: 0, False: 0}
    for at_home, pause in steps:
        clock.at += pause
        passed[at_home] += tries(throttle, ["10.0.0.8" if at_home else "203.0.113.9"], "code")
    elapsed = clock.at - 1000.0
    for at_home, count in passed.items():
        assert count <= CODES[at_home].burst + elapsed / CODES[at_home].seconds + 1e-6


def test_memory_is_bounded_and_the_strangers_are_not_forgotten() -> None:
    clock = SetClock()
    throttle = Throttle(clock, set().__contains__)
    tries(throttle, ["203.0.113.9"] * 100)

    tries(throttle, [f"10.0.{number >> 8}.{number & 255}" for number in range(5000)])

    assert len(throttle._buckets) <= MAX_ADDRESSES
    assert tries(throttle, ["203.0.113.9"]) == 0


def test_off_counts_nothing() -> None:
    throttle = Throttle(SetClock(), set().__contains__, enabled=False)
    assert tries(throttle, strangers(500)) == 500


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::1", "8.8.8.8", "unix", "", "100.64.0.1", "172.32.0.1"])
def test_what_is_no_home_network(address: str) -> None:
    assert not is_home(address)
