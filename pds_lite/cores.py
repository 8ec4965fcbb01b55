"""Which core runs what, on a board with several.

The event loop and the store's writer take turns, because the interpreter runs one of them at a time, and each write
goes from one to the other and back. On one core each finds warm what the other used, and no sleeping core has to be
woken between them. The other cores stay asleep, or do what does not need the interpreter.
"""

from __future__ import annotations

import contextlib
import os

_allowed: set[int] = set()


def stay() -> None:
    """Keeps the calling thread on one core, and with it every thread it starts from now on that does not `roam`.

    It is the last core that the process may use, as interrupts go to the first. Nothing happens where the system knows
    no such thing or does not permit it.
    """
    with contextlib.suppress(AttributeError, OSError):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        _allowed.update(cores)


def roam() -> None:
    """Lets the calling thread run on every core again: for threads that hash, compress or wait for files."""
    if _allowed:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _allowed)
