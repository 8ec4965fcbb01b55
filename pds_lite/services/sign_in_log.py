"""Sign-in log: the last 200 attempts to sign in, the refused ones with who asked and the exact reason.

Rules that hold here
- Attempts that are alike are one line with a count: somebody who guesses all night does not push the others out.
- A stranger does not wear the card: lines are written together, within a minute after a sign-in that was let in, and at
  most every ten minutes for refusals. A power cut loses what was not written yet, and nothing else.
- What was typed as a name is kept only if it has the form of one: people type passwords into the wrong field.
- Addresses from which the owner signed in are remembered apart from the log (bounded), for `throttle`. An app password
  makes none known: whoever has found one must not get tries of their own at the owner's password.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from pds_lite.atproto.syntax import is_did, is_handle
from pds_lite.http.client_address import rate_key
from pds_lite.storage import sign_in_store
from pds_lite.storage.sign_in_store import MAX_ATTEMPTS, Attempt

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.storage.store import Store, WriteTxn

MAX_KNOWN = 64
ASKING = "asking"
"""The way of apps that were refused before their owner was asked: a wrong OAuth request. Anybody can send those."""
MAX_ASKING = 60
REFUSALS_EVERY_S = 600.0
_ALIKE_WITHIN = 20
"""Lines among the latest that an attempt may be counted on."""
_MAX_TEXT = 200


class SignInLog:
    """The log. `start` reads it; `save` is called by housekeeping and at the end."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._attempts: deque[Attempt] = deque(maxlen=MAX_ATTEMPTS)
        self._known: dict[str, None] = {}
        self._let_in = False
        self._refused = False
        self._saved = clock.monotonic()

    def start(self) -> None:
        """Reads the log and the known addresses."""
        with self._store.read() as txn:
            rows = sorted(sign_in_store.list_attempts(txn), key=lambda row: row.time_us)
            self._attempts.extend(rows)
            self._known = dict.fromkeys(sign_in_store.get_known_addresses(txn))

    def attempts(self) -> list[Attempt]:
        """The latest first."""
        return sorted(self._attempts, key=lambda row: row.time_us, reverse=True)

    def is_known(self, address: str) -> bool:
        """Whether an address (as `rate_key` writes it) signed in before."""
        return address in self._known

    def let_in(self, way: str, client: str, address: str, name: str, *, by_owner: bool = True) -> None:
        """Notes a sign-in, and its address as known if it was the owner's own and not by an app password."""
        self._note(way, client, address, name, "")
        self._let_in = True
        if not by_owner:
            return
        key = rate_key(address)
        self._known.pop(key, None)
        self._known[key] = None
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def refused(self, way: str, client: str, address: str, name: str, reason: str) -> None:
        """Notes a refusal. `reason` is for the owner: what exactly was wrong."""
        self._note(way, client, address, name, reason)
        self._refused = True

    async def forget(self) -> None:
        """The account is gone, and with it who signed in to it and from where."""
        self._attempts.clear()
        self._known.clear()
        self._let_in = self._refused = False
        await self._store.write(_nothing, "sign-in log")

    async def save(self, *, now: bool = False) -> None:
        """Writes what is new, if it is due."""
        due = self._clock.monotonic() - self._saved >= REFUSALS_EVERY_S
        if not (self._let_in or (self._refused and (due or now))):
            return
        attempts, known = list(self._attempts), list(self._known)

        def change(txn: WriteTxn) -> None:
            sign_in_store.put_attempts(txn, attempts)
            sign_in_store.put_known_addresses(txn, known)

        self._let_in = self._refused = False
        self._saved = self._clock.monotonic()
        await self._store.write(change, "sign-in log")

    def _note(self, way: str, client: str, address: str, name: str, reason: str) -> None:
        row = Attempt(
            time_us=self._clock.now_us(),
            way=way,
            client=_printable(client),
            address=address,
            name=name.strip()[:_MAX_TEXT] if _is_name(name) else "",
            reason=_printable(reason),
        )
        for place in range(len(self._attempts) - 1, max(-1, len(self._attempts) - 1 - _ALIKE_WITHIN), -1):
            other = self._attempts[place]
            if replace(other, time_us=row.time_us, count=1) == row:
                self._attempts[place] = replace(other, time_us=row.time_us, count=other.count + 1)
                return
        if row.way == ASKING:
            self._make_room_for_asking()
        self._attempts.append(row)

    def _make_room_for_asking(self) -> None:
        """Strangers' lines push out strangers' lines, not sign-ins."""
        asking = [other for other in self._attempts if other.way == ASKING]
        if len(asking) >= MAX_ASKING:
            self._attempts.remove(asking[0])


def _nothing(txn: WriteTxn) -> None:
    sign_in_store.put_attempts(txn, [])
    sign_in_store.put_known_addresses(txn, [])


def _is_name(text: str) -> bool:
    name = text.strip().removeprefix("@")
    return is_handle(name) or is_did(name)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_TEXT]).strip()
