"""Named places where a test may cut the power. In production `hit` does nothing.

PDS_LITE_FAILPOINT=name[:n] kills the process, as kill -9 would, at the n-th time (default the first) it comes by.
"""

import os
import signal
from collections.abc import Callable


def _armed(setting: str) -> Callable[[str], None]:
    name, _, nth = setting.partition(":")
    left = int(nth or "1")

    def hit_armed(place: str) -> None:
        nonlocal left
        if place == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hit_armed


def _harmless(place: str) -> None:
    """Nothing is armed."""


_setting = os.environ.get("PDS_LITE_FAILPOINT", "")
hit: Callable[[str], None] = _armed(_setting) if _setting else _harmless
