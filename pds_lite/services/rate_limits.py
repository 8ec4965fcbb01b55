"""Rate limits: fixed windows counted in memory, and which method has which.

The numbers are the reference's (protocol digest 15), so that clients and tools meet nothing new here.

Rules that hold here
- A rule counts per key: an address (an IPv6 /64), the account, or a login name at an address. What a stranger does is
  counted under the stranger's key, never under the owner's, so strangers cannot use up the owner's share.
- A table holds a bounded number of keys and forgets the oldest window first, which is also the first to end.
- A refused call is not counted, so whoever keeps calling gets in when the window ends.
- Off (dev mode only) means that nothing is counted or refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from pds_lite.clock import Clock
from pds_lite.errors import RateLimited
from pds_lite.http.client_address import rate_key

MAX_KEYS = 4096
"""Keys a rule remembers: about 0.5 MB when every one of a rule's keys is in use."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class Rule:
    """`points` in `window` seconds for each key."""

    name: str
    points: int
    window: int

    @property
    def policy(self) -> str:
        """As in the RateLimit-Policy header."""
        return f"{self.points};w={self.window}"


EVERYTHING = Rule("everything", 3000, 5 * _MINUTE)
EXPORTS = Rule("exports", 6000, 5 * _MINUTE)
LOGIN = (Rule("login", 30, 5 * _MINUTE), Rule("login-day", 300, _DAY))
WRITES = (Rule("writes", 5000, _HOUR), Rule("writes-day", 35000, _DAY))
"""In points: 3 for a create, 2 for an update, 1 for a delete."""
OAUTH = Rule("oauth", 300, 5 * _MINUTE)
"""Requests of apps to OAuth's endpoints, by address: the first one makes us fetch what its client_id names."""


def _mails(name: str, hourly: int = 5, daily: int = 15) -> tuple[Rule, Rule]:
    """Of a method that sends a mail; each counts for itself: codes for one thing do not use up those for another."""
    return Rule(name, hourly, _HOUR), Rule(f"{name}-day", daily, _DAY)


_SERVER, _IDENTITY, _REPO = "com.atproto.server.", "com.atproto.identity.", "com.atproto.repo."

METHOD_RULES: Mapping[str, tuple[Rule, ...]] = {
    _SERVER + "createAccount": (Rule("sign-up", 100, 5 * _MINUTE),),
    _SERVER + "resetPassword": (Rule("reset", 50, 5 * _MINUTE),),
    _SERVER + "deleteAccount": (Rule("delete", 50, 5 * _MINUTE),),
    _IDENTITY + "refreshIdentity": (Rule("refresh", 30, 5 * _MINUTE),),
    _IDENTITY + "updateHandle": (Rule("handle", 10, 5 * _MINUTE), Rule("handle-day", 50, _DAY)),
    _REPO + "uploadBlob": (Rule("blobs", 1000, _DAY),),
    _SERVER + "requestPasswordReset": _mails("mail-reset", 15, 50),
    _SERVER + "requestEmailConfirmation": _mails("mail-confirm"),
    _SERVER + "requestEmailUpdate": _mails("mail-update"),
    _SERVER + "requestAccountDelete": _mails("mail-delete"),
    _IDENTITY + "requestPlcOperationSignature": _mails("mail-plc"),
}
"""One point a call, counted by the router under whoever calls."""

WRITE_METHODS = frozenset(_REPO + name for name in ("createRecord", "putRecord", "deleteRecord", "applyWrites"))
LOGIN_METHOD = _SERVER + "createSession"
EXPORT_METHODS = frozenset({"com.atproto.sync.getRepo"})
"""Counted under EXPORTS instead of EVERYTHING."""


class _Window:
    __slots__ = ("ends", "used")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.used = 0


_NO_WINDOWS: dict[str, _Window] = {}


class RateLimits:
    """The counters of one server."""

    def __init__(self, clock: Clock, *, enabled: bool = True, max_keys: int = MAX_KEYS) -> None:
        self.enabled = enabled
        self._clock = clock
        self._max_keys = max_keys
        self._tables: dict[str, dict[str, _Window]] = {}

    def take(self, rules: tuple[Rule, ...], key: str, points: int = 1) -> None:
        """Counts `points` for `key` under every rule. Raises RateLimited, having counted nothing, if one has less
        left.
        """
        if not self.enabled:
            return
        now = self._clock.monotonic()
        windows = [self._window(rule, key, now) for rule in rules]
        for rule, window in zip(rules, windows, strict=True):
            if window.used + points > rule.points:
                raise RateLimited(retry_after=max(1, ceil(window.ends - now)))
        for window in windows:
            window.used += points

    def exhausted(self, rule: Rule, key: str) -> bool:
        """True if `take` of one point would be refused."""
        window = self._tables.get(rule.name, _NO_WINDOWS).get(key)
        return (
            self.enabled and window is not None and window.used >= rule.points and window.ends > self._clock.monotonic()
        )

    def check_login(self, identifier: str, client: str) -> None:
        """Counts one try to log in as `identifier` from the address `client`. Raises RateLimited."""
        self.take(LOGIN, login_key(identifier, client))

    def spend_writes(self, did: str, points: int) -> None:
        """Counts the points of a write to the account's repository. Raises RateLimited."""
        self.take(WRITES, did, points)

    def headers(self, used: Iterable[tuple[Rule, str]]) -> dict[str, str]:
        """RateLimit-* for the rule that has least left, counting nothing; empty when limits are off.

        As the reference writes them: the reset is a point in time (seconds since the epoch), not a delay.
        """
        tightest: tuple[int, Rule, _Window] | None = None
        for rule, key in used:
            window = self._tables.get(rule.name, _NO_WINDOWS).get(key)
            if window is not None and (tightest is None or rule.points - window.used < tightest[0]):
                tightest = rule.points - window.used, rule, window
        if tightest is None:
            return {}
        remaining, rule, window = tightest
        ends_in = max(0, ceil(window.ends - self._clock.monotonic()))
        return {
            "RateLimit-Limit": str(rule.points),
            "RateLimit-Remaining": str(remaining),
            "RateLimit-Reset": str(self._clock.now() + ends_in),
            "RateLimit-Policy": rule.policy,
        }

    def _window(self, rule: Rule, key: str, now: float) -> _Window:
        table = self._tables.setdefault(rule.name, {})
        window = table.get(key)
        if window is None or window.ends <= now:
            window = self._open(table, key, now + rule.window, now)
        return window

    def _open(self, table: dict[str, _Window], key: str, ends: float, now: float) -> _Window:
        table.pop(key, None)
        while table:
            oldest = next(iter(table))
            if table[oldest].ends > now and len(table) < self._max_keys:
                break
            del table[oldest]
        window = table[key] = _Window(ends)
        return window


def login_key(identifier: str, client: str) -> str:
    """One key for a login name, however it is spelt, at a household; bounded, since a stranger chose the name."""
    name = identifier.strip().removeprefix("@").lower()
    return f"{name[:256]} {rate_key(client)}"
