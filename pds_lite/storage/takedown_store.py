"""Records and blobs that the administrator hid: one small row each, bounded. Accounts have a field (account_store)."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from pds_lite.atproto.cid import Cid
from pds_lite.errors import TooLarge
from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_TAKEDOWNS = 5000


@dataclass(frozen=True, slots=True)
class Takedown:
    """A hidden record, by its path, or blob, by its CID as text; the other one is empty."""

    path: bytes
    blob: str
    ref: str
    """What the administrator gave as the reason, perhaps empty."""

    @property
    def key(self) -> bytes:
        """Of its row; a path may be longer than a key."""
        return b"r" + sha256(self.path).digest() if self.path else b"b" + self.blob.encode()


def list_takedowns(txn: "Txn") -> list[Takedown]:
    """All of them."""
    return [decode_row(Takedown, value) for _key, value in txn.scan(Table.TAKEDOWNS)]


def put_takedown(txn: "WriteTxn", takedown: Takedown) -> None:
    """Store one in place of any before. Raises TooLarge over MAX_TAKEDOWNS."""
    if txn.count(Table.TAKEDOWNS) >= MAX_TAKEDOWNS and txn.get(Table.TAKEDOWNS, takedown.key) is None:
        raise TooLarge(f"at most {MAX_TAKEDOWNS} records and blobs can be hidden")
    txn.put(Table.TAKEDOWNS, takedown.key, encode_row(takedown))


def delete_takedown(txn: "WriteTxn", takedown: Takedown) -> None:
    """It shows again."""
    txn.delete(Table.TAKEDOWNS, takedown.key)


def of_record(path: bytes, ref: str = "") -> Takedown:
    """The row of a record."""
    return Takedown(path, "", ref)


def of_blob(cid: Cid, ref: str = "") -> Takedown:
    """The row of a blob."""
    return Takedown(b"", str(cid), ref)
