"""Sessions that refresh tokens live in, one row each. Which tokens are good is the services' business.

At most MAX_SESSIONS rows; the caller makes room by deleting the longest unused, so that no sign-in is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.errors import TooLarge
from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """A session; times are in microseconds since the epoch.

    `app_password` is the name of the one that opened it, None for the owner's own. `previous_jti` is the last spent
    refresh token, which may be shown again until `grace_until_us`. `client` is the User-Agent that signed in, as it
    calls itself.
    """

    id: str
    app_password: str | None
    privileged: bool
    created_us: int
    used_us: int
    expires_us: int
    refresh_jti: str
    previous_jti: str | None = None
    grace_until_us: int = 0
    client: str = ""


def get_session(txn: "Txn", session_id: str) -> Session | None:
    """The session of that id, expired or not."""
    value = txn.get(Table.SESSIONS, session_id.encode())
    return None if value is None else decode_row(Session, value)


def put_session(txn: "WriteTxn", session: Session) -> None:
    """Store a session. Raises TooLarge for a new one over MAX_SESSIONS."""
    key = session.id.encode()
    if txn.count(Table.SESSIONS) >= MAX_SESSIONS and txn.get(Table.SESSIONS, key) is None:
        raise TooLarge(f"there are at most {MAX_SESSIONS} sessions")
    txn.put(Table.SESSIONS, key, encode_row(session))


def delete_session(txn: "WriteTxn", session_id: str) -> bool:
    """True if it was there."""
    return txn.delete(Table.SESSIONS, session_id.encode())


def list_sessions(txn: "Txn") -> Iterator[Session]:
    """All sessions, expired ones too."""
    for _key, value in txn.scan(Table.SESSIONS):
        yield decode_row(Session, value)
