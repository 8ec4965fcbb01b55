"""Second factor: codes of an authenticator app (TOTP, RFC 6238) and ten recovery codes.

Rules that hold here
- It is on from the first right code of a new secret until it is switched off; a secret that was never proved is kept in
  memory only, for ten minutes.
- SHA-1, 6 digits, 30 seconds, because that is all that every authenticator app can do. The step before and after count
  too (clocks differ).
- A code is taken once: the time step of the last one is stored, and older ones are refused from then on. A recovery
  code is deleted by its use. Both are durable before the answer; a wrong code writes nothing.
- Who may try how often is `throttle`'s business, who is asked `sign_in`'s.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from base64 import b32encode
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from pds_lite.errors import BadInput
from pds_lite.services import passwords
from pds_lite.storage import sign_in_store
from pds_lite.storage.sign_in_store import Totp

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.storage.store import Store, WriteTxn

STEP_S = 30
DIGITS = 6
WINDOW = 1
RECOVERY_CODES = 10
PENDING_S = 600.0
MAX_CODE = 32
"""Characters of a code as typed."""


def totp(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of a time step: RFC 4226 5.3 over RFC 6238's counter."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


class SecondFactor:
    """The account's second factor. `start` reads whether there is one."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._totp: Totp | None = None
        self._pending: tuple[bytes, float] | None = None
        self._changing = asyncio.Lock()

    def start(self) -> None:
        """Reads the secret."""
        with self._store.read() as txn:
            self._totp = sign_in_store.get_totp(txn)

    async def reread(self) -> None:
        """Reads it again: the account, and its second factor, may be gone."""
        self.start()

    @property
    def required(self) -> bool:
        """Whether a password alone is not enough."""
        return self._totp is not None

    @property
    def since_us(self) -> int:
        """When it was switched on, 0 while it is off."""
        return self._totp.created_us if self._totp is not None else 0

    def recovery_codes_left(self) -> int:
        """How many recovery codes were not used yet."""
        with self._store.read() as txn:
            return len(sign_in_store.get_recovery_codes(txn))

    def begin(self) -> bytes:
        """The secret of a new authenticator; the same again while it waits to be proved."""
        now = self._clock.monotonic()
        if self._pending is None or self._pending[1] < now:
            self._pending = (secrets.token_bytes(20), now + PENDING_S)
        return self._pending[0]

    async def switch_on(self, code: str) -> list[str]:
        """Proves the secret of `begin` by a code: from now on it is asked for. The recovery codes, shown this once.

        Raises BadInput for a wrong code.
        """
        async with self._changing:
            if self._pending is None or self._pending[1] < self._clock.monotonic():
                raise BadInput("This took too long: scan the new code and try again")
            step = self._step_of(self._pending[0], code, 0)
            if step is None:
                raise BadInput("The code is not right: check that this device and the box have the right time")
            row = Totp(self._pending[0], self._clock.now_us(), step)
            codes = [passwords.make_code() for _ in range(RECOVERY_CODES)]

            def change(txn: WriteTxn) -> None:
                sign_in_store.put_totp(txn, row)
                sign_in_store.put_recovery_codes(txn, [_digest(text) for text in codes])

            await self._store.write(change, "second factor on")
            self._totp, self._pending = row, None
            return codes

    async def switch_off(self) -> None:
        """Takes the secret and the recovery codes away. That somebody may do so is for the caller to judge."""

        def change(txn: WriteTxn) -> None:
            sign_in_store.put_totp(txn, None)
            sign_in_store.put_recovery_codes(txn, [])

        async with self._changing:
            await self._store.write(change, "second factor off")
            self._totp = None

    async def new_recovery_codes(self) -> list[str]:
        """Ten new codes in place of the old ones, shown this once. Raises BadInput while the second factor is off."""
        if not self.required:
            raise BadInput("There is no second factor to recover from")
        codes = [passwords.make_code() for _ in range(RECOVERY_CODES)]
        digests = [_digest(text) for text in codes]
        await self._store.write(lambda txn: sign_in_store.put_recovery_codes(txn, digests), "recovery codes")
        return codes

    async def check(self, code: str) -> bool:
        """Whether `code` is right, of either kind, and takes it: it will not be right again."""
        typed = normal(code)
        async with self._changing:  # two requests with one code: the second must meet it taken
            if self._totp is None or len(typed) > MAX_CODE:
                return False
            if typed.isdecimal():
                return await self._take_totp(self._totp, typed)
            return await self._take_recovery_code(typed)

    async def _take_totp(self, row: Totp, code: str) -> bool:
        step = self._step_of(row.secret, code, row.last_step)
        if step is None:
            return False
        taken = replace(row, last_step=step)
        await self._store.write(lambda txn: sign_in_store.put_totp(txn, taken), "code taken", use_reserve=True)
        self._totp = taken
        return True

    async def _take_recovery_code(self, code: str) -> bool:
        digest = _digest(code)

        def change(txn: WriteTxn) -> None:
            left = [known for known in sign_in_store.get_recovery_codes(txn) if known != digest]
            sign_in_store.put_recovery_codes(txn, left)

        with self._store.read() as txn:
            known = sign_in_store.get_recovery_codes(txn)
        if not any([hmac.compare_digest(digest, one) for one in known]):  # noqa: C419 - looks at all of them
            return False
        await self._store.write(change, "recovery code taken", use_reserve=True)
        return True

    def _step_of(self, secret: bytes, code: str, last_step: int) -> int | None:
        """The time step whose code this is, if it is near and none from it on was taken; all are compared."""
        now = self._clock.now() // STEP_S
        typed = normal(code).encode()
        found = None
        for step in range(now - WINDOW, now + WINDOW + 1):
            if hmac.compare_digest(totp(secret, step).encode(), typed) and step > last_step:
                found = step
        return found


def normal(code: str) -> str:
    """As people type codes: spaces, hyphens and small letters make no difference. Codes are ASCII; the rest is "?"."""
    return "".join(code.split()).replace("-", "").upper().encode("ascii", "replace").decode("ascii")


def secret_text(secret: bytes) -> str:
    """The secret for typing into an app: base32 in groups of four."""
    text = b32encode(secret).decode("ascii").rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def otpauth_url(secret: bytes, account: str, issuer: str) -> str:
    """What the QR code holds (Key URI Format)."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    return f"otpauth://totp/{label}?secret={secret_text(secret).replace(' ', '')}&issuer={quote(issuer, safe='')}"


def _digest(code: str) -> bytes:
    return sha256(b"pds-lite recovery code " + normal(code).encode()).digest()
