"""Backlinks: which records like, repost, follow or block a subject: a second one finds the first without a scan.

One row per subject, named by 16 bytes that its user makes of collection and subject; the value is the record keys,
separated by newlines (which no record key holds). Usually there is one. The rows of an import are written beside the
live ones, under the other generation of records, and count from the flip on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pds_lite.storage.keys import BACKLINKS
from pds_lite.storage.repo_store import read_generation

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_RKEYS = 100
"""Records of one subject that are remembered; a foreign repository may hold more, the rest just stays there."""


def rkeys_of(txn: Txn, subject: bytes) -> list[str]:
    """The keys of the live records of `subject`."""
    value = txn.get(BACKLINKS[read_generation(txn)], subject)
    return value.decode().split("\n") if value else []


def add(txn: WriteTxn, subject: bytes, rkey: str, generation: int | None = None) -> None:
    """Notes a record of `subject`, in the live generation unless told otherwise."""
    table = BACKLINKS[read_generation(txn) if generation is None else generation]
    value = txn.get(table, subject)
    rkeys = value.decode().split("\n") if value else []
    if rkey not in rkeys and len(rkeys) < MAX_RKEYS:
        txn.put(table, subject, "\n".join((*rkeys, rkey)).encode())


def remove(txn: WriteTxn, subject: bytes, rkey: str) -> None:
    """Forgets a record of `subject` in the live generation."""
    table = BACKLINKS[read_generation(txn)]
    rkeys = [held for held in rkeys_of(txn, subject) if held != rkey]
    if rkeys:
        txn.put(table, subject, "\n".join(rkeys).encode())
    else:
        txn.delete(table, subject)
