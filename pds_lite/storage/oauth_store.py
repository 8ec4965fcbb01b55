"""What OAuth must remember across a restart: the grants the owner made, and the last good copies of others' documents.

Only what the owner agreed to is written: requests and codes live in memory for minutes, so that no stranger wears the
card. Both tables are bounded; their services make room. Documents are client metadata, key sets and permission sets,
as JSON, under a key that says which kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from pds_lite.errors import TooLarge
from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_GRANTS = 500
MAX_DOCUMENTS = 300
MAX_DOCUMENT_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class Grant:
    """An app's session: what the owner agreed to, and which tokens of it are good. Times are microseconds.

    `agreed` holds the scopes as asked for (`include:` ones too), `scope` what they amount to. `client_key` is
    "kid alg thumbprint" of the key a confidential client is held to, "" for a public one. `refresh_number` counts the
    refresh tokens: only the latest is good. `code_hash` and `code_challenge` make the code that began it known again.
    """

    id: str
    client_id: str
    client_name: str
    sub: str
    agreed: str
    scope: str
    dpop_jkt: str
    client_key: str
    code_hash: bytes
    code_challenge: str
    created_us: int
    used_us: int
    refreshed_us: int
    expires_us: int
    """When the refresh token lapses unless used."""
    ends_us: int
    """When the session ends however much it is used."""
    refresh_number: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """The last good copy of a document; `name` is its URL or NSID, `kind` "client", "keys" or "set"."""

    kind: str
    name: str
    body: bytes
    fetched_us: int


def put_grant(txn: "WriteTxn", grant: Grant) -> None:
    """Store a grant. Raises TooLarge for a new one over MAX_GRANTS."""
    key = grant.id.encode()
    if txn.count(Table.OAUTH_GRANTS) >= MAX_GRANTS and txn.get(Table.OAUTH_GRANTS, key) is None:
        raise TooLarge(f"there are at most {MAX_GRANTS} grants")
    txn.put(Table.OAUTH_GRANTS, key, encode_row(grant))


def delete_grant(txn: "WriteTxn", grant_id: str) -> bool:
    """True if it was there."""
    return txn.delete(Table.OAUTH_GRANTS, grant_id.encode())


def list_grants(txn: "Txn") -> Iterator[Grant]:
    """All grants, expired ones too."""
    for _key, value in txn.scan(Table.OAUTH_GRANTS):
        yield decode_row(Grant, value)


def get_document(txn: "Txn", kind: str, name: str) -> Document | None:
    """The last good copy, None if there never was one."""
    value = txn.get(Table.OAUTH_DOCUMENTS, _document_key(kind, name))
    return None if value is None else decode_row(Document, value)


def put_document(txn: "WriteTxn", document: Document) -> None:
    """Store a copy in place of an older one; the oldest of all makes room. One over MAX_DOCUMENT_BYTES is not kept."""
    if len(document.body) > MAX_DOCUMENT_BYTES:
        return
    key = _document_key(document.kind, document.name)
    if txn.count(Table.OAUTH_DOCUMENTS) >= MAX_DOCUMENTS and txn.get(Table.OAUTH_DOCUMENTS, key) is None:
        rows = [(decode_row(Document, value).fetched_us, row) for row, value in txn.scan(Table.OAUTH_DOCUMENTS)]
        txn.delete(Table.OAUTH_DOCUMENTS, min(rows)[1])
    txn.put(Table.OAUTH_DOCUMENTS, key, encode_row(document))


def _document_key(kind: str, name: str) -> bytes:
    return sha256(f"{kind} {name}".encode()).digest()
