"""Sessions that refresh tokens live in, one row each. Which tokens are good is the services' business.

At most MAX_SESSIONS rows; the caller makes room by deleting the longest unused, so that no sign-in is refused.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor
from pds_lite.errors import TooLarge
from pds_lite.storage.account_store import decode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_SESSIONS = 1000


@dataclass(frozen=True, slots=True)
class Spent:
    """A refresh token that was used, and until when it may be shown again."""

    jti: str
    until_us: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session; times are in microseconds since the epoch.

    `app_password` is the name of the one that opened it, None for the owner's own. `client` is the User-Agent that
    signed in, as it calls itself. `used_us` is written now and then, not with each use.
    """

    id: str
    app_password: str | None
    privileged: bool
    created_us: int
    used_us: int
    expires_us: int
    refresh_jti: str
    client: str = ""
    spent: tuple[Spent, ...] = ()
    """The refresh tokens before the present one, oldest first: the successor of each is the next."""
    taken_down: bool = False
    """Opened while the account was taken down: good for moving out alone."""


def get_session(txn: "Txn", session_id: str) -> Session | None:
    """The session of that id, expired or not."""
    value = txn.get(Table.SESSIONS, session_id.encode())
    return None if value is None else _decode(value)


def put_session(txn: "WriteTxn", session: Session) -> None:
    """Store a session. Raises TooLarge for a new one over MAX_SESSIONS."""
    key = session.id.encode()
    if txn.count(Table.SESSIONS) >= MAX_SESSIONS and txn.get(Table.SESSIONS, key) is None:
        raise TooLarge(f"there are at most {MAX_SESSIONS} sessions")
    row = asdict(session)
    txn.put(Table.SESSIONS, key, dag_cbor.encode({**row, "spent": list(row["spent"])}))


def delete_session(txn: "WriteTxn", session_id: str) -> bool:
    """True if it was there."""
    return txn.delete(Table.SESSIONS, session_id.encode())


def list_sessions(txn: "Txn") -> Iterator[Session]:
    """All sessions, expired ones too."""
    for _key, value in txn.scan(Table.SESSIONS):
        yield _decode(value)


def _decode(value: bytes) -> Session:
    session = decode_row(Session, value)
    stored: Any = session.spent
    return replace(session, spent=tuple(decode_row(Spent, dag_cbor.encode(entry)) for entry in stored))
