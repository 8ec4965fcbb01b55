"""Erasing the account: everything in the store that is the account's goes in one transaction, the bulk of it by a flip.

Rules that hold here
- A table is emptied unless it stands in `_KEPT`, so that what is added later is erased, too.
- The records are left behind in the generation that is idle afterwards, where repo_store.drop_idle finds them; the
  blobs go to the trash, where the sweep finds their files. Both go on after a power cut.
- The box's keys stay (the caller changes those that were the account's), and so do the events: the newest one says
  that the account is gone, and sequence numbers go on from it. The older ones are the caller's to prune.
"""

from typing import TYPE_CHECKING

from pds_lite.errors import Unavailable
from pds_lite.storage import failpoints, repo_store
from pds_lite.storage.keys import BACKLINKS, LONG_BODIES, RECORDS, Table

if TYPE_CHECKING:
    from pds_lite.storage.store import WriteTxn

_KEPT = frozenset({Table.META, Table.EVENTS, Table.BLOBS_TRASH, Table.KEYS, *RECORDS, *LONG_BODIES, *BACKLINKS})


_SIGN_INS = (Table.SESSIONS, Table.BROWSER_SESSIONS, Table.OAUTH_GRANTS)


def erase_sign_ins(txn: "WriteTxn") -> None:
    """Nobody is signed in any more, by whatever way: one step with the change of the password that ends it."""
    for table in _SIGN_INS:
        _empty(txn, table)


def erase_account(txn: "WriteTxn") -> None:
    """Leave an empty box. Raises Unavailable while the idle generation still holds records of an earlier import."""
    idle = 1 - repo_store.read_generation(txn)
    if any(txn.count(table) for table in (RECORDS[idle], LONG_BODIES[idle], BACKLINKS[idle])):
        raise Unavailable("what an earlier import replaced is still being dropped; try again soon")
    for table in (Table.BLOBS, Table.BLOBS_TEMPORARY):
        for key, _value in txn.scan(table):
            txn.put(Table.BLOBS_TRASH, key, b"")
    for table in Table:
        if table not in _KEPT:
            _empty(txn, table)
    repo_store.flip_to_nothing(txn)
    failpoints.hit("account.erased")


def _empty(txn: "WriteTxn", table: Table) -> None:
    for key in [key for key, _value in txn.scan(table)]:
        txn.delete(table, key)
