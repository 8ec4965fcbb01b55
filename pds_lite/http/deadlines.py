"""Deadlines: until when a connection must have said something, and until when it must have read something.

One timer for both. On the way of every request a deadline is only a number that changes: the timer is moved to fire
earlier, never later; when it fires too early it is set again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadlines:
    """Two deadlines in loop time; `inf` is none."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_late_input: Callable[[], None], on_late_output: Callable[[], None]
    ) -> None:
        self.input_by = inf
        self.output_by = inf
        self._loop = loop
        self._on_late_input = on_late_input
        self._on_late_output = on_late_output
        self._timer: asyncio.TimerHandle | None = None

    def input_in(self, seconds: float) -> None:
        """Something must come in within `seconds` from now."""
        self.input_by = self._loop.time() + seconds
        self._set_timer()

    def output_in(self, seconds: float) -> None:
        """The other side must have read within `seconds` from now."""
        self.output_by = self._loop.time() + seconds
        self._set_timer()

    def cancel(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        due = min(self.input_by, self.output_by)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._fired)

    def _fired(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now >= self.output_by:
            self.output_by = inf
            self._on_late_output()
        elif now >= self.input_by:
            self.input_by = inf
            self._on_late_input()
        if min(self.input_by, self.output_by) < inf:
            self._set_timer()
