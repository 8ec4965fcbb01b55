"""Revs, keys and seqs only grow, whatever the clock does, and a clock nobody stands behind makes no commits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.tid import is_tid, make_tid, tid_microseconds
from pds_lite.clock import BUILD_US, Clock
from pds_lite.errors import ClockUntrusted
from pds_lite.services.commit_clock import MAX_SILENCE_US, CommitClock, iso_time

NOW = BUILD_US + 10**9


class SetClock(Clock):
    """Says what it is told."""

    def __init__(self, now: int = NOW, trusted: bool = False) -> None:
        self.us, self.sure = now, trusted

    def now_us(self) -> int:
        return self.us

    def trusted(self) -> bool:
        return self.sure


@given(st.lists(st.integers(0, 2**52), min_size=1, max_size=50))
def test_tids_and_seqs_only_grow_under_any_clock(times: list[int]) -> None:
    clock = SetClock()
    made = CommitClock(clock, dev=True)
    tids, seqs = [], []
    for clock.us in times:
        tids.append(made.next_tid())
        seqs.append(made.next_seq())
    assert tids == sorted(set(tids))
    assert seqs == sorted(set(seqs))
    assert all(is_tid(tid) for tid in tids)


def test_a_restart_goes_on_above_the_last_rev_and_seq_though_the_clock_went_back() -> None:
    clock = SetClock()
    first = CommitClock(clock, dev=True)
    rkey, rev, seq = first.next_tid(), first.next_tid(), first.next_seq()
    clock.us -= 10**9
    second = CommitClock(clock, dev=True)
    second.resume(rev, seq)
    assert second.next_tid() > rev > rkey
    assert second.next_seq() > seq


@pytest.mark.parametrize(
    ("now", "last", "trusted", "dev", "refused"),
    [
        (NOW, NOW - MAX_SILENCE_US + 1000, False, False, False),
        (NOW, NOW - MAX_SILENCE_US - 1000, False, False, True),
        (NOW, NOW - MAX_SILENCE_US - 1000, True, False, False),
        (NOW, NOW - MAX_SILENCE_US - 1000, False, True, False),
        (BUILD_US - 1, BUILD_US - 2, False, False, True),
        (BUILD_US - 1, None, False, True, False),
        (BUILD_US - 1, None, True, False, True),  # a clock chip with an empty battery
        (NOW, None, False, False, False),
    ],
)
def test_an_unconfirmed_clock_may_not_jump(now: int, last: int | None, trusted: bool, dev: bool, refused: bool) -> None:
    made = CommitClock(SetClock(now, trusted), dev=dev)
    made.resume(None if last is None else make_tid(last, 0), 0)
    if refused:
        with pytest.raises(ClockUntrusted):
            made.check()
    else:
        made.check()


def test_the_day_is_counted_from_the_last_commit_not_from_the_last_key() -> None:
    clock = SetClock()
    made = CommitClock(clock, dev=False)
    made.committed(make_tid(NOW, 1))
    clock.us += MAX_SILENCE_US + 5
    assert tid_microseconds(made.next_tid()) == clock.us
    with pytest.raises(ClockUntrusted):
        made.check()


def test_times_are_written_with_milliseconds() -> None:
    assert iso_time(1_700_000_000_123_999) == "2023-11-14T22:13:20.123Z"
    assert iso_time(1_700_000_000_000_000) == "2023-11-14T22:13:20.000Z"
