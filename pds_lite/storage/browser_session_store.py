"""Browser sessions: who is signed in to the pages of this box. One small row each, under a digest of the cookie.

At most MAX_BROWSERS rows; the caller makes room. Times are microseconds since the epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.errors import TooLarge
from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_BROWSERS = 100


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A browser that is signed in. `id` is the hex digest of its cookie; `proved_us` is when its person last showed
    the password or a passkey.
    """

    id: str
    did: str
    created_us: int
    used_us: int
    proved_us: int
    expires_us: int
    client: str = ""
    address: str = ""


def put_browser(txn: "WriteTxn", session: BrowserSession) -> None:
    """Store a session. Raises TooLarge for a new one over MAX_BROWSERS."""
    key = session.id.encode()
    if txn.count(Table.BROWSER_SESSIONS) >= MAX_BROWSERS and txn.get(Table.BROWSER_SESSIONS, key) is None:
        raise TooLarge(f"there are at most {MAX_BROWSERS} browser sessions")
    txn.put(Table.BROWSER_SESSIONS, key, encode_row(session))


def delete_browser(txn: "WriteTxn", session_id: str) -> bool:
    """True if it was there."""
    return txn.delete(Table.BROWSER_SESSIONS, session_id.encode())


def list_browsers(txn: "Txn") -> Iterator[BrowserSession]:
    """All sessions, expired ones too."""
    for _key, value in txn.scan(Table.BROWSER_SESSIONS):
        yield decode_row(BrowserSession, value)
