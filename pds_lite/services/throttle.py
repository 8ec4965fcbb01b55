"""Throttle: how often a stranger may guess a password or a code, whatever addresses the guesses come from.

Limits per name and address (rate_limits) do not stop somebody with many addresses. So all addresses that never signed
in here share one budget, which refills slowly and never ends for good.

Rules that hold here
- It never locks the owner out: an address that signed in before, and an address of the home network, has a budget of
  its own, and the console needs none. Strangers can only use up what strangers share.
- A try is counted before the password is looked at, so that many at once are counted too; one that was right is given
  back.
- An app password that is right is let in without asking here: nobody guesses 80 random bits. It gives nothing back
  either, nor does it make an address known.
- Memory is bounded; nothing here touches the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from math import ceil
from typing import TYPE_CHECKING

from pds_lite.errors import RateLimited
from pds_lite.http.client_address import rate_key

if TYPE_CHECKING:
    from pds_lite.clock import Clock

MAX_ADDRESSES = 256
"""Own budgets remembered at once; the one longest unused is forgotten, which refills it."""
_STRANGERS = "strangers"
_HOME = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


@dataclass(frozen=True, slots=True)
class Budget:
    """`burst` tries at once, then one in `seconds`."""

    burst: int
    seconds: float


PASSWORDS = {True: Budget(60, 10.0), False: Budget(60, 30.0)}
"""By whether the address has a budget of its own. Strangers together: 2,940 tries on the first day, then 2,880."""
CODES = {True: Budget(10, 300.0), False: Budget(10, 1800.0)}
"""Wrong codes after the right password. Strangers together: 58 on the first day, then 48, of a million codes."""


class _Bucket:
    __slots__ = ("at", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at


class Throttle:
    """The budgets of one server."""

    def __init__(self, clock: Clock, is_known: Callable[[str], bool], *, enabled: bool = True) -> None:
        """`is_known` says whether an address (as `rate_key` writes it) signed in before."""
        self._enabled = enabled
        self._clock = clock
        self._is_known = is_known
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take_password(self, address: str) -> None:
        """Counts a try to guess the password. Raises RateLimited when the address's budget is empty."""
        self._take("password", address, PASSWORDS)

    def take_code(self, address: str) -> None:
        """Counts a try to guess a code. Raises RateLimited when the address's budget is empty."""
        self._take("code", address, CODES)

    def take_admin(self, address: str) -> None:
        """Counts a try to guess the administrator's password, apart from the owner's. Raises RateLimited."""
        self._take("admin", address, PASSWORDS)

    def give_back(self, address: str) -> None:
        """The address has signed in: its tries were no guesses."""
        self._give_back(address, ("password", "code"))

    def give_back_admin(self, address: str) -> None:
        """The same for the administrator."""
        self._give_back(address, ("admin",))

    def _give_back(self, address: str, kinds: tuple[str, ...]) -> None:
        for kind in kinds:
            self._buckets.pop((kind, rate_key(address)), None)
            shared = self._buckets.get((kind, _STRANGERS))
            if shared is not None and not self._has_own(address):
                shared.left += 1

    def _take(self, kind: str, address: str, budgets: dict[bool, Budget]) -> None:
        if not self._enabled:
            return
        own = self._has_own(address)
        budget = budgets[own]
        bucket = self._bucket((kind, rate_key(address) if own else _STRANGERS), budget)
        if bucket.left < 1:
            raise RateLimited(
                "Too many failed sign-ins; wait, or sign in from a network that was used before",
                retry_after=max(1, ceil((1 - bucket.left) * budget.seconds)),
            )
        bucket.left -= 1

    def _bucket(self, key: tuple[str, str], budget: Budget) -> _Bucket:
        now = self._clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(budget.burst, now)
        bucket.left = min(budget.burst, bucket.left + (now - bucket.at) / budget.seconds)
        bucket.at = now
        if key[1] != _STRANGERS:
            self._buckets.move_to_end(key)
        while len(self._buckets) > MAX_ADDRESSES:
            oldest = next(key for key in self._buckets if key[1] != _STRANGERS)
            del self._buckets[oldest]
        return bucket

    def _has_own(self, address: str) -> bool:
        return is_home(address) or self._is_known(rate_key(address))


def is_home(address: str) -> bool:
    """True for an address of this machine or of a home network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _HOME)
