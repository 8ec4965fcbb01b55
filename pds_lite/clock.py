"""Time, which a board without a real-time clock gets wrong.

Everything that needs the time is given a Clock; nothing below `app` reads it elsewhere, and tests pass their own.
`trusted` says whether something outside the kernel's guess stands behind the time: a real-time clock or a kernel
that reports itself synchronised (adjtimex). The commit rules built on it live in services/repo_writer.
"""

import ctypes
import time
from pathlib import Path

BUILD_US = 1_795_305_600_000_000
"""Microseconds since the epoch of 2026-11-22: any clock earlier than the code itself is wrong."""

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class Clock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    def now(self) -> int:
        """Whole seconds since the Unix epoch, for JWTs."""
        return time.time_ns() // 1_000_000_000

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back, for deadlines."""
        return time.monotonic()

    def trusted(self) -> bool:
        """True with a hardware clock, or once the kernel says that the clock is synchronised."""
        return _has_rtc() or _kernel_synchronised()


def _has_rtc() -> bool:
    return any(Path("/sys/class/rtc").glob("rtc*"))


def _kernel_synchronised() -> bool:
    """adjtimex(2) without changing anything: unsynchronised kernels answer TIME_ERROR or set STA_UNSYNC."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = (ctypes.c_byte * 512)()
        state = libc.adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    # struct timex: unsigned int modes, then longs offset, freq, maxerror, esterror, then int status.
    status = ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(ctypes.c_long)).value
    return state not in (-1, _TIME_ERROR) and not status & _STA_UNSYNC
