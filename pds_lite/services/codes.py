"""Codes: what the owner types to show that a request is their own (protocol digest 12). E-mail is only one way to them.

A code waits in the store until it is used, on the account page and in `pds-lite account codes`; `mailer` sends it too
where a mail server is configured.

Rules that hold here
- One code for each purpose, good for an hour, for one use and for few wrong guesses. Asking again while one waits gives
  the same code more time instead of another: a second request does not void what is in the mail already.
- Compared in constant time. A code that was never asked for and a wrong one are the same InvalidToken.
- The store holds a digest, to check by, and the code sealed, to show it to its owner; both by the box's keys
  (key_store), so that neither a copy of the row nor a search through the file gives a code away.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pds_lite.errors import BadInput
from pds_lite.services import passwords
from pds_lite.storage import account_store
from pds_lite.storage.account_store import PendingCode

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.key_store import Keys
    from pds_lite.storage.store import Store, WriteTxn

LIFE_US = 3600 * 1_000_000
"""The reference gives 15 minutes, which is too short for a migration whose blobs are still being copied."""
KEPT_US = 24 * LIFE_US
"""How long an expired code is remembered, so that it can be called expired and not wrong."""
MAX_ATTEMPTS = 20


class Purpose(StrEnum):
    """What a code confirms."""

    CONFIRM_EMAIL = "confirm_email"
    UPDATE_EMAIL = "update_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a name
    DELETE_ACCOUNT = "delete_account"
    PLC_OPERATION = "plc_operation"


WORDS = {
    Purpose.CONFIRM_EMAIL: "Confirm your e-mail address",
    Purpose.UPDATE_EMAIL: "Change your e-mail address",
    Purpose.RESET_PASSWORD: "Set a new password",
    Purpose.DELETE_ACCOUNT: "Delete your account",
    Purpose.PLC_OPERATION: "Change your identity or move to another host (PLC operation)",
}
"""What a code does, for its owner: the subject of the mail and the title on the page."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A code as its owner sees it."""

    purpose: Purpose
    code: str
    expires_us: int


class Codes:
    """Issues and checks codes."""

    def __init__(self, clock: Clock, store: Store, keys: Keys) -> None:
        self._clock = clock
        self._store = store
        self._keys = keys

    async def issue(self, purpose: Purpose) -> str:
        """The code for `purpose`, durable, with an hour to go."""
        fresh = passwords.make_code()

        def change(txn: WriteTxn) -> str:
            now = self._clock.now_us()
            for old in list(account_store.list_codes(txn)):
                if old.expires_us + KEPT_US <= now:
                    account_store.delete_code(txn, old.purpose)
            pending = account_store.get_code(txn, purpose)
            if pending is None or not _is_live(pending, now):
                digest, sealed = self._digest(purpose, fresh), self._keys.seal(f"code {purpose}", fresh)
                pending = PendingCode(purpose.value, now, 0, digest=digest, sealed=sealed)
            account_store.put_code(txn, replace(pending, expires_us=now + LIFE_US))
            return self._shown(pending).code

        return await self._store.write(change, "code")

    def pending(self) -> list[Shown]:
        """Those that wait to be used."""
        now = self._clock.now_us()
        with self._store.read() as txn:
            rows = list(account_store.list_codes(txn))
        return [self._shown(row) for row in rows if _is_live(row, now)]

    async def check(self, purpose: Purpose, code: str) -> None:
        """Whether it is right, without using it up. Raises BadInput: InvalidToken, ExpiredToken."""
        with self._store.read() as txn:
            pending = account_store.get_code(txn, purpose)
        if pending is not None and not self._matches(pending, code):
            await self._store.write(lambda txn: _count_attempt(txn, purpose), "code")
        self._judge(pending, code)

    def spend(self, txn: WriteTxn, purpose: Purpose, code: str) -> None:
        """Uses it up within the step that it allows. Raises BadInput: InvalidToken, ExpiredToken."""
        self._judge(account_store.get_code(txn, purpose), code)
        account_store.delete_code(txn, purpose)

    async def consume(self, purpose: Purpose, code: str) -> None:
        """Checks it and uses it up. Raises BadInput: InvalidToken, ExpiredToken."""
        await self.check(purpose, code)
        await self._store.write(lambda txn: self.spend(txn, purpose, code), "code")

    def _judge(self, pending: PendingCode | None, code: str) -> None:
        if pending is None or pending.attempts >= MAX_ATTEMPTS or not self._matches(pending, code):
            raise BadInput("Token is invalid", error="InvalidToken")
        if pending.expires_us <= self._clock.now_us():
            raise BadInput("Token is expired", error="ExpiredToken")

    def _matches(self, pending: PendingCode, code: str) -> bool:
        return hmac.compare_digest(pending.digest, self._digest(pending.purpose, code.strip().upper()[:64]))

    def _digest(self, purpose: str, code: str) -> bytes:
        return self._keys.digest(f"code {purpose}", code)

    def _shown(self, row: PendingCode) -> Shown:
        code = self._keys.unseal(f"code {row.purpose}", row.sealed)
        return Shown(Purpose(row.purpose), code, row.expires_us)


def forget_all(txn: WriteTxn) -> None:
    """No code of before is good any more: the address they went to has changed."""
    for code in list(account_store.list_codes(txn)):
        account_store.delete_code(txn, code.purpose)


def _is_live(row: PendingCode, now_us: int) -> bool:
    return bool(row.sealed) and row.expires_us > now_us and row.attempts < MAX_ATTEMPTS


def _count_attempt(txn: WriteTxn, purpose: Purpose) -> None:
    pending = account_store.get_code(txn, purpose)
    if pending is not None and pending.attempts < MAX_ATTEMPTS:
        account_store.put_code(txn, replace(pending, attempts=pending.attempts + 1))
