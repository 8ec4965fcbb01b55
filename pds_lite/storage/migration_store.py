"""The job of moving an account in: where it stands, and a ledger of the blobs it has asked the old host for.

One row and a row for each blob. They hold the old host's tokens, as the file they lie in holds the keys. What a step
means is the business of services/migration.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table, blob_cid, blob_key

if TYPE_CHECKING:
    from pds_lite.atproto.cid import Cid
    from pds_lite.storage.store import Txn, WriteTxn

_JOB = b"job"
_BLOB = b"blob"

HERE, WAITING, MISSING = "here", "waiting", "missing"
"""States of a blob: copied; to be tried again; not to be had, for the reason noted."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The job. Times are microseconds since the epoch; texts are empty until they are known."""

    did: str
    handle: str
    """The one that the account will have here."""
    old_url: str
    """Origin of the old host; empty when the account comes from files."""
    step: str
    """The next one to do."""
    started_us: int
    rehearse: bool = False
    """Stop before the identity changes."""
    ignore_preflight: bool = False
    """The owner knows better than the checks of this box's reachability."""
    accept_missing: bool = False
    access_jwt: str = ""
    refresh_jwt: str = ""
    """Of the session at the old host."""
    is_running: bool = False
    """Nobody has to give anything: after a restart it goes on by itself."""
    code_asked_us: int = 0
    """When the old host was asked to send a code for the identity; 0 before."""
    signed_op: bytes = b""
    """The old host's signed operation, from before it is published; DAG-CBOR."""
    is_moved: bool = False
    """The identity leads here: there is no way back but moving out."""
    is_old_inactive: bool = False
    """The account is deactivated at the old host."""
    problem: str = ""
    """What ended the last run, in words."""
    recovery_key: str = ""
    """did:key that the owner wants first among the identity's keys; kept for the account's row."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What became of one blob."""

    state: str
    tries: int = 0
    reason: str = ""


def get_migration(txn: "Txn") -> Migration | None:
    """The job, None if there is none."""
    value = txn.get(Table.MIGRATION, _JOB)
    return None if value is None else decode_row(Migration, value)


def put_migration(txn: "WriteTxn", row: Migration) -> None:
    """Store the job."""
    txn.put(Table.MIGRATION, _JOB, encode_row(row))


def delete_migration(txn: "WriteTxn") -> None:
    """The job and its ledger."""
    for key in [key for key, _value in txn.scan(Table.MIGRATION)]:
        txn.delete(Table.MIGRATION, key)


def get_entry(txn: "Txn", cid: "Cid") -> LedgerEntry:
    """What is known of a blob; a fresh entry if it was never tried."""
    value = txn.get(Table.MIGRATION, _BLOB + blob_key(cid))
    return LedgerEntry(WAITING) if value is None else decode_row(LedgerEntry, value)


def put_entry(txn: "WriteTxn", cid: "Cid", entry: LedgerEntry) -> None:
    """Store what became of a blob."""
    txn.put(Table.MIGRATION, _BLOB + blob_key(cid), encode_row(entry))


def ledger(txn: "Txn") -> "Iterator[tuple[Cid, LedgerEntry]]":
    """Every blob that was tried, by CID."""
    for key, value in txn.scan(Table.MIGRATION, _BLOB, _JOB):
        yield blob_cid(key[len(_BLOB) :]), decode_row(LedgerEntry, value)
