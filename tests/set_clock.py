"""A clock that stands where a test puts it."""

from pds_lite.clock import Clock


class SetClock(Clock):
    """`us` is the time in microseconds since the epoch; it goes on only by `forward`."""

    us = 1_800_000_000_000_000

    def forward(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)

    def now_us(self) -> int:
        return self.us

    def now(self) -> int:
        return self.us // 1_000_000

    def monotonic(self) -> float:
        return self.us / 1_000_000
