"""Revs, record keys and sequence numbers: the three things made from the time that must never repeat or go back.

Rules that hold here (decisions: Storage)
- One source makes TIDs for record keys and revs. A rev is made after the keys of its commit, so on a restart the last
  commit's rev is above every TID ever handed out, and starting from it is enough.
- A sequence number is the time in microseconds, below 2^53, and above the last one: a restore from an old backup still
  moves forward.
- One jump of the clock ahead would poison both for good. So commits before this code was built are refused by name,
  and so are those more than a day after the last one unless something stands behind the clock. In dev mode nobody is
  harmed.

It knows nothing of the store; the writer tells it where to go on.
"""

import secrets
import threading
from datetime import UTC, datetime

from pds_lite.atproto.tid import Tid, make_tid, tid_microseconds
from pds_lite.clock import BUILD_US, Clock
from pds_lite.errors import ClockUntrusted, Unavailable

MAX_SILENCE_US = 24 * 3600 * 1_000_000
"""How far an unconfirmed clock may be ahead of the last commit."""
_LIMIT = 1 << 53


class CommitClock:
    """TIDs and sequence numbers that only grow. `next_tid` may be called from any thread."""

    def __init__(self, clock: Clock, *, dev: bool) -> None:
        self._clock = clock
        self._dev = dev
        self._clock_id = secrets.randbelow(1024)
        self._lock = threading.Lock()
        self._last_us = 0
        self._last_commit_us: int | None = None
        self._last_seq = 0

    def resume(self, last_rev: str | None, last_seq: int) -> None:
        """Goes on after the newest commit and event of the store; also called when an import brought a newer rev."""
        if last_rev is not None:
            self._last_commit_us = tid_microseconds(Tid(last_rev))
            with self._lock:
                self._last_us = max(self._last_us, self._last_commit_us)
        self._last_seq = max(self._last_seq, last_seq)

    def committed(self, rev: str) -> None:
        """Remembers the rev of the newest commit, from which the next day is counted."""
        self._last_commit_us = tid_microseconds(Tid(rev))

    def next_tid(self) -> Tid:
        """max(now, last + 1) as a TID."""
        with self._lock:
            self._last_us = max(self._clock.now_us(), self._last_us + 1)
            return make_tid(self._last_us, self._clock_id)

    def next_key(self) -> Tid:
        """A TID for a record key. Raises ClockUntrusted: a key of a wrong time would drag the next rev with it."""
        self.check()
        return self.next_tid()

    def next_seq(self) -> int:
        """max(now, last + 1). Only the writer thread asks."""
        self._last_seq = max(self._clock.now_us(), self._last_seq + 1)
        if self._last_seq >= _LIMIT:
            raise Unavailable("The sequence numbers of this event stream are used up")
        return self._last_seq

    def check(self) -> None:
        """Raises ClockUntrusted if a commit made now could carry a time that nobody stands behind."""
        now = self._clock.now_us()
        silence = 0 if self._last_commit_us is None else now - self._last_commit_us
        # A clock chip with an empty battery is no witness: nothing excuses a time before the code was written.
        if self._dev or (now >= BUILD_US and (silence <= MAX_SILENCE_US or self._clock.trusted())):
            return
        raise ClockUntrusted(
            f"The clock says {iso_time(now)}, and nothing confirms it; not writing until it is synchronised",
            hint="Connect the box to a network with a time server, or set the clock.",
        )


def iso_time(microseconds: int) -> str:
    """Microseconds since the epoch as events and blobs carry a time: UTC with milliseconds and a Z."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest // 1000:03d}Z"
