"""From a record as a client sent it to what the repository stores: every check that needs no look into the store.

Rules that hold here (protocol digest 13, 17)
- Names are parsed once; the rest of the program trusts them. A missing $type is filled in, another one is refused.
- `validate` true needs a known lexicon, false checks the data model only, absent checks what is known. The answer says
  `valid`, `unknown`, or nothing when no check was asked for.
- Blob references of the old form are refused whatever `validate` says; so is a record over 1 MB.

What depends on the store (does it exist, do the blobs, do swaps match) is the repo writer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from pds_lite.atproto import dag_cbor, data
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import BlobRef
from pds_lite.atproto.lexicon.catalog import check_record
from pds_lite.atproto.syntax import is_at_uri, is_did, parse_nsid, parse_record_key
from pds_lite.errors import BadRecord, TooLarge

MAX_RECORD_BYTES = 1_000_000
LIKE = "app.bsky.feed.like"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
UNIQUE_BY_SUBJECT = frozenset({LIKE, REPOST, FOLLOW, BLOCK})
"""Collections in which a second record of the same subject takes the place of the first."""

Action = Literal["create", "update", "delete", "put", "discard"]
"""create needs a free key; update and delete an existing record; put makes or changes it; discard deletes it if it is
there."""


class Swap(Enum):
    """The absence of a swapRecord: None means that the record must not exist."""

    ANY = "any"


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """One write as asked for. `value` is the record as JSON, None for the two that delete."""

    action: Action
    collection: str
    rkey: str | None = None
    value: Any = None
    swap: Cid | Literal[Swap.ANY] | None = Swap.ANY
    validate: bool | None = None
    replaces_duplicates: bool = False
    """Deletes, in the same commit, other records of a UNIQUE_BY_SUBJECT collection with the same subject."""


@dataclass(frozen=True, slots=True)
class PreparedWrite:
    """A checked write: names parsed, record encoded."""

    action: Action
    collection: str
    rkey: str
    path: bytes
    swap: Cid | Literal[Swap.ANY] | None
    cid: Cid | None = None
    block: bytes | None = None
    status: str | None = None
    blobs: tuple[BlobRef, ...] = ()
    subject: bytes | None = None
    """Names collection and subject of a UNIQUE_BY_SUBJECT record, else None."""
    replaces_duplicates: bool = False


def prepare(write: RecordWrite, next_tid: Callable[[], str]) -> PreparedWrite:
    """Checks and encodes one write. Raises BadSyntax, BadData, BadRecord or TooLarge."""
    collection = parse_nsid(write.collection)
    if write.rkey is None and write.action != "create":
        raise BadRecord("Missing rkey")
    rkey = parse_record_key(write.rkey) if write.rkey is not None else next_tid()
    path = f"{collection}/{rkey}".encode()
    if write.action in ("delete", "discard"):
        return PreparedWrite(write.action, collection, rkey, path, write.swap)
    value = _typed(write.value, collection)
    if data.has_legacy_blob(value):
        raise BadRecord("Legacy blob references can no longer be written")
    status = check_record(collection, rkey, value, write.validate)
    block = dag_cbor.encode(value)
    if len(block) > MAX_RECORD_BYTES:
        raise TooLarge(f"A record may have {MAX_RECORD_BYTES} bytes, this one has {len(block)}")
    return PreparedWrite(
        action=write.action,
        collection=collection,
        rkey=rkey,
        path=path,
        swap=write.swap,
        cid=Cid.of_cbor(block),
        block=block,
        status=status,
        blobs=tuple(data.find_blob_refs(value)),
        subject=subject_key(collection, value) if collection in UNIQUE_BY_SUBJECT else None,
        replaces_duplicates=write.replaces_duplicates,
    )


def _typed(value: Any, collection: str) -> dict[str, dag_cbor.Value]:
    """The record in the data model, with the $type of its collection."""
    record = data.record_from_json(value)
    found = record.setdefault("$type", collection)
    if found != collection:
        raise BadRecord(f"Invalid $type: expected {collection}, got {str(found)[:100]}")
    return record


def subject_key(collection: str, record: Any) -> bytes | None:
    """16 bytes that name collection and subject of a like, repost, follow or block; None where there is no subject."""
    subject = record.get("subject") if isinstance(record, dict) else None
    if collection in (LIKE, REPOST):
        subject = subject.get("uri") if isinstance(subject, dict) else None
        if not isinstance(subject, str) or not is_at_uri(subject):
            return None
    elif not isinstance(subject, str) or not is_did(subject):
        return None
    return hashlib.sha256(f"{collection} {subject}".encode()).digest()[:16]
