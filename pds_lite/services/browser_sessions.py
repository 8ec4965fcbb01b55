"""Browser sessions: the owner's own browsers, signed in to the account page and to OAuth's page.

Rules that hold here
- The cookie is 256 random bits and is kept as a digest; a new one is made at every sign-in, so that no cookie from
  before is worth anything after it.
- A session ends 30 days after the sign-in, or after 14 days without use, or when the password changes.
- What cannot be undone asks for the password again unless it was shown within the last 15 minutes (`is_fresh`).
- Live sessions are held in memory (bounded); when one was last used is written with the next housekeeping of the hour.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from pds_lite.storage import browser_session_store
from pds_lite.storage.browser_session_store import BrowserSession

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.storage.store import Store, WriteTxn

_DAY_US = 86_400_000_000
LIFE_US = 30 * _DAY_US
IDLE_US = 14 * _DAY_US
FRESH_US = 900_000_000
MAX_LIVE = 30
"""The longest unused one makes room."""
_SAVE_US = 3600 * 1_000_000
_MAX_COOKIE = 64
_MAX_CLIENT = 200


class BrowserSessions:
    """All live sessions. `start` reads them."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._live: dict[str, BrowserSession] = {}
        self._stored_use: dict[str, int] = {}

    def start(self) -> None:
        """Reads the sessions."""
        with self._store.read() as txn:
            rows = list(browser_session_store.list_browsers(txn))
        self._live = {row.id: row for row in rows}
        self._stored_use = {row.id: row.used_us for row in rows}

    def live(self) -> list[BrowserSession]:
        """Live sessions, the latest used first."""
        now = self._clock.now_us()
        found = [row for row in self._live.values() if not _is_over(row, now)]
        return sorted(found, key=lambda row: row.used_us, reverse=True)

    def find(self, cookie: str) -> BrowserSession | None:
        """The live session of a cookie; it counts as used now."""
        row = self._live.get(digest(cookie)) if len(cookie) <= _MAX_COOKIE else None
        now = self._clock.now_us()
        if row is None or _is_over(row, now):
            return None
        used = self._live[row.id] = replace(row, used_us=now)
        return used

    def is_fresh(self, session: BrowserSession) -> bool:
        """Whether its person has shown the password or a passkey within the last 15 minutes."""
        current = self._live.get(session.id, session)
        return 0 <= self._clock.now_us() - current.proved_us < FRESH_US

    def proved(self, session: BrowserSession) -> None:
        """Its person has shown the password again. In memory only: after a restart it is asked for once more."""
        if session.id in self._live:
            self._live[session.id] = replace(self._live[session.id], proved_us=self._clock.now_us())

    async def open(self, did: str, client: str, address: str) -> tuple[str, BrowserSession]:
        """A new session, durable: its cookie and its row."""
        cookie, now = secrets.token_urlsafe(32), self._clock.now_us()
        row = BrowserSession(digest(cookie), did, now, now, now, now + LIFE_US, client[:_MAX_CLIENT], address)
        gone = [old.id for old in self._live.values() if _is_over(old, now)]
        gone += [old.id for old in self.live()[MAX_LIVE - 1 :]]

        def change(txn: WriteTxn) -> None:
            for session_id in gone:
                browser_session_store.delete_browser(txn, session_id)
            browser_session_store.put_browser(txn, row)

        await self._store.write(change, "browser session", use_reserve=True)
        for session_id in gone:
            self._live.pop(session_id, None)
        self._live[row.id], self._stored_use[row.id] = row, now
        return cookie, row

    async def end(self, session_id: str) -> None:
        """Ends one session; ending one that is gone is no error."""
        await self._end([session_id])

    async def end_all(self) -> None:
        """Ends every session: after a change of the password."""
        await self._end(list(self._live))

    async def save(self) -> None:
        """Writes when sessions were last used, if that is an hour ago."""
        late = [row for row in self._live.values() if row.used_us - self._stored_use.get(row.id, 0) >= _SAVE_US]
        if not late:
            return

        def change(txn: WriteTxn) -> None:
            for row in late:
                if row.id in self._live:  # it may have ended since
                    browser_session_store.put_browser(txn, row)

        await self._store.write(change, "browser sessions used")
        self._stored_use.update({row.id: row.used_us for row in late})

    async def _end(self, session_ids: list[str]) -> None:
        ending = [session_id for session_id in session_ids if session_id in self._live]
        if not ending:
            return

        def change(txn: WriteTxn) -> None:
            for session_id in ending:
                browser_session_store.delete_browser(txn, session_id)

        for session_id in ending:
            self._live.pop(session_id, None)
            self._stored_use.pop(session_id, None)
        await self._store.write(change, "end browser sessions", use_reserve=True)


def digest(cookie: str) -> str:
    """How a cookie is known here."""
    return sha256(b"pds-lite browser " + cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _is_over(row: BrowserSession, now_us: int) -> bool:
    return row.expires_us <= now_us or row.used_us + IDLE_US <= now_us
