"""Windows refuse at their limit, open again in time, and no stranger's key touches another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.clock import Clock
from pds_lite.errors import RateLimited
from pds_lite.services.rate_limits import LOGIN, METHOD_RULES, WRITES, RateLimits, Rule

RULE = Rule("test", 3, 60)


class StillClock(Clock):
    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> int:
        return 1_700_000_000


def test_a_window_refuses_at_its_limit_and_opens_again() -> None:
    clock = StillClock()
    limits = RateLimits(clock)
    for _ in range(3):
        limits.take((RULE,), "a")
    clock.seconds += 20
    with pytest.raises(RateLimited) as caught:
        limits.take((RULE,), "a")
    assert caught.value.retry_after == 40
    limits.take((RULE,), "b")
    clock.seconds += 40
    limits.take((RULE,), "a")


def test_a_refused_call_counts_nothing_under_any_rule() -> None:
    limits = RateLimits(StillClock())
    wide = Rule("wide", 10, 3600)
    for _ in range(3):
        limits.take((RULE, wide), "a")
    for _ in range(20):
        with pytest.raises(RateLimited):
            limits.take((RULE, wide), "a")
    assert limits.headers([(wide, "a")])["RateLimit-Remaining"] == "7"


def test_headers_tell_of_the_rule_with_least_left() -> None:
    limits = RateLimits(StillClock())
    other = Rule("other", 100, 3600)
    limits.take((RULE, other), "a")
    assert limits.headers([(other, "a"), (RULE, "a")]) == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "2",
        "RateLimit-Reset": "1700000060",
        "RateLimit-Policy": "3;w=60",
    }
    assert limits.headers([(RULE, "unknown")]) == {}


def test_off_counts_and_refuses_nothing() -> None:
    limits = RateLimits(StillClock(), enabled=False)
    for _ in range(1000):
        limits.take((RULE,), "a")
        limits.check_login("me", "192.0.2.1")
    assert not limits.exhausted(RULE, "a")
    assert limits.headers([(RULE, "a")]) == {}


def test_the_number_of_keys_is_bounded_and_the_oldest_goes_first() -> None:
    limits = RateLimits(StillClock(), max_keys=100)
    for number in range(10_000):
        limits.take((RULE,), str(number), 3)
    assert len(limits._tables["test"]) == 100
    assert limits.exhausted(RULE, "9999")
    assert not limits.exhausted(RULE, "0")


def test_a_flood_under_one_rule_forgets_nothing_of_another() -> None:
    limits = RateLimits(StillClock(), max_keys=10)
    for _ in range(30):
        limits.check_login("me", "192.0.2.1")
    for number in range(1000):
        limits.take((RULE,), str(number))
    with pytest.raises(RateLimited):
        limits.check_login("ME", "192.0.2.1")
    limits.check_login("me", "192.0.2.2")


def test_ended_windows_are_dropped_when_new_ones_open() -> None:
    clock = StillClock()
    limits = RateLimits(clock)
    for number in range(50):
        limits.take((RULE,), str(number))
    clock.seconds += 61
    limits.take((RULE,), "new")
    assert list(limits._tables["test"]) == ["new"]


def test_writes_cost_their_points() -> None:
    limits = RateLimits(StillClock())
    limits.spend_writes("did:plc:a", 3)
    assert limits.headers([(rule, "did:plc:a") for rule in WRITES])["RateLimit-Remaining"] == "4997"


def test_the_numbers_are_the_references() -> None:
    assert [rule.policy for rule in LOGIN] == ["30;w=300", "300;w=86400"]
    assert [rule.policy for rule in WRITES] == ["5000;w=3600", "35000;w=86400"]
    assert METHOD_RULES["com.atproto.repo.uploadBlob"][0].policy == "1000;w=86400"
    resets = METHOD_RULES["com.atproto.server.requestPasswordReset"]
    assert [rule.policy for rule in resets] == ["15;w=3600", "50;w=86400"]
    deletions = METHOD_RULES["com.atproto.server.requestAccountDelete"]
    assert [rule.policy for rule in deletions] == ["5;w=3600", "15;w=86400"]


def test_each_method_counts_for_itself() -> None:
    names = [rule.name for rules in METHOD_RULES.values() for rule in rules]
    assert len(names) == len(set(names))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 30)), max_size=60))
def test_counting_equals_a_plain_model(calls: list[tuple[str, int, int]]) -> None:
    clock = StillClock()
    limits = RateLimits(clock)
    windows: dict[str, tuple[float, int]] = {}
    for key, points, pause in calls:
        clock.seconds += pause
        ends, used = windows.get(key, (0.0, 0))
        if ends <= clock.seconds:
            ends, used = clock.seconds + 60, 0
        try:
            limits.take((RULE,), key, points)
            used += points
        except RateLimited:
            assert used + points > 3
        assert used <= 3
        windows[key] = (ends, used)
        assert limits.exhausted(RULE, key) == (used == 3)
