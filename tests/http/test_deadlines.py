"""A deadline that was moved back does not fire early, and one that was moved forward does not fire late."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pds_lite.http.deadlines import Deadlines


class Loop:
    """Time that a test turns on; one timer at most may be set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Any:
        loop = self

        class Timer:
            def when(self) -> float:
                return when

            def cancel(self) -> None:
                loop.timers.remove(self)

            def fire(self) -> None:
                loop.timers.remove(self)
                callback()

        timer = Timer()
        self.timers.append(timer)
        assert len(self.timers) == 1
        return timer

    def run_until(self, when: float) -> None:
        while self.timers and self.timers[0].when() <= when:
            self.now = max(self.now, self.timers[0].when())
            self.timers[0].fire()
        self.now = when


@given(st.lists(st.tuples(st.sampled_from(["in", "out", "none"]), st.integers(1, 20), st.integers(0, 15)), max_size=30))
def test_each_deadline_fires_at_its_time_and_only_then(steps: list[tuple[str, int, int]]) -> None:
    loop: Any = Loop()
    fired: list[tuple[str, float]] = []
    deadlines = Deadlines(loop, lambda: fired.append(("in", loop.now)), lambda: fired.append(("out", loop.now)))
    expected: list[tuple[str, float]] = []
    due = {"in": inf, "out": inf}
    for kind, seconds, passing in steps:
        if kind == "in":
            deadlines.input_in(seconds)
            due["in"] = loop.now + seconds
        elif kind == "out":
            deadlines.output_in(seconds)
            due["out"] = loop.now + seconds
        else:
            deadlines.input_by = due["in"] = inf
        end = loop.now + passing
        for name in sorted(due, key=lambda name: (due[name], name == "in")):
            if due[name] <= end:
                expected.append((name, due[name]))
                due[name] = inf
        loop.run_until(end)
    assert sorted(fired) == sorted(expected)
    deadlines.cancel()
    assert loop.timers == []


def test_it_runs_on_a_real_loop() -> None:
    async def work() -> None:
        late = asyncio.Event()
        deadlines = Deadlines(asyncio.get_running_loop(), late.set, lambda: None)
        deadlines.input_in(60)
        deadlines.input_in(0.01)
        await asyncio.wait_for(late.wait(), 50)

    asyncio.run(work())
