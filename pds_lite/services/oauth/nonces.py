"""What makes a DPoP proof or client assertion fresh and single: nonces of the server, and a memory of what was used.

A nonce is a MAC over the number of its minute, so nothing is stored: the previous, the current and the next are good,
which gives each three minutes at most (protocol digest 11). They survive a restart, as their secret does.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING

from pds_lite.atproto.base64url import encode_base64url
from pds_lite.errors import RateLimited

if TYPE_CHECKING:
    from pds_lite.clock import Clock

ROTATION_S = 60


class Nonces:
    """The server's DPoP nonces."""

    def __init__(self, clock: Clock, secret: bytes) -> None:
        self._clock = clock
        self._secret = secret
        self._minute = -1
        self._good: tuple[str, ...] = ()

    def next(self) -> str:
        """The one to hand out: it stays good longest."""
        self._turn()
        return self._good[2]

    def is_current(self, nonce: str) -> bool:
        """Whether a proof may carry it now."""
        self._turn()
        return nonce in self._good

    def _turn(self) -> None:
        minute = self._clock.now() // ROTATION_S
        if minute != self._minute:
            self._minute = minute
            self._good = tuple(self._nonce(number) for number in (minute - 1, minute, minute + 1))

    def _nonce(self, minute: int) -> str:
        return encode_base64url(hmac.digest(self._secret, minute.to_bytes(8, "big"), "sha256")[:16])


class Replays:
    """Remembers for at least `seconds` what may be used once, in two generations of at most `limit` fingerprints."""

    def __init__(self, clock: Clock, seconds: float, limit: int, *, forget: bool) -> None:
        """A full memory forgets early if `forget` (where anyone may fill it); else it lets nobody in until it turns."""
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._forget = forget
        self._key = secrets.token_bytes(32)
        self._new: set[int] = set()
        self._old: set[int] = set()
        self._turned = clock.monotonic()

    def first_use(self, *parts: str) -> bool:
        """True the first time that these parts come together. Raises RateLimited when the memory is full."""
        self._turn()
        fingerprint = self._fingerprint(parts)
        if fingerprint in self._new or fingerprint in self._old:
            return False
        if len(self._new) >= self._limit:
            if not self._forget:
                raise RateLimited("Too many requests at once", retry_after=int(self._seconds))
            self._old, self._new = self._new, set()
        self._new.add(fingerprint)
        return True

    def _turn(self) -> None:
        age = self._clock.monotonic() - self._turned
        if age > self._seconds:
            self._old, self._new = (self._new if age < 2 * self._seconds else set()), set()
            self._turned = self._clock.monotonic()

    def _fingerprint(self, parts: tuple[str, ...]) -> int:
        """Eight bytes under a key of this process: nobody can aim at a collision."""
        digest = blake2b(key=self._key, digest_size=8)
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(4, "big") + raw)
        return int.from_bytes(digest.digest(), "big")
