"""Every key layout of the store, and nothing else: which tables there are, how their keys are made and read.

Two rules hold here. Keys sort as what they stand for (paths in MST order, events by seq, references by blob), so a
range in the store is a range of the thing. And LMDB takes keys of 1 to 511 bytes while a repo path may have 830: a
path under 500 bytes is its own key; longer ones share a bucket keyed by their first 500 bytes, whose value lists the
rest of each path with the id of its body. A bucket's key sorts between all shorter paths exactly where its members
belong, so MST order survives (a hashed tail would lose it). Values are the business of the modules that own a table.
"""

from collections.abc import Sequence
from enum import IntEnum
from hashlib import sha256
from struct import Struct

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.tid import Tid, int_to_tid, tid_to_int
from pds_lite.errors import BadData, StoreBroken, TooLarge


class Table(IntEnum):
    """The sub-databases. META is LMDB's unnamed database, whose one page every commit rewrites anyway: the head lives
    there at no cost. Only fixed keys may be used in it, since LMDB keeps the other tables' roots beside them.
    """

    META = 0
    RECORDS_A = 1
    RECORDS_B = 2
    LONG_A = 3
    LONG_B = 4
    EVENTS = 5
    SPARSE = 6
    BLOBS = 7
    BLOB_REFS = 8
    BLOBS_TEMPORARY = 9
    BLOBS_MISSING = 10
    BLOBS_TRASH = 11
    ACCOUNT = 12
    APP_PASSWORDS = 13
    SESSIONS = 14
    CODES = 15
    KEYS = 16
    BACKLINKS_A = 17
    BACKLINKS_B = 18
    IDENTITY = 19
    TAKEDOWNS = 20
    OAUTH_GRANTS = 21
    OAUTH_DOCUMENTS = 22
    BROWSER_SESSIONS = 23
    SIGN_IN = 24
    MIGRATION = 25


def table_name(table: Table) -> bytes | None:
    """How LMDB knows the table; None is the unnamed database."""
    return None if table is Table.META else table.name.lower().encode()


META_FORMAT = b".format"
META_HEAD = b".head"
META_GENERATION = b".generation"
META_BUCKETS = (b".buckets_a", b".buckets_b")
META_PRUNED = b".pruned"

RECORDS = (Table.RECORDS_A, Table.RECORDS_B)
LONG_BODIES = (Table.LONG_A, Table.LONG_B)
BACKLINKS = (Table.BACKLINKS_A, Table.BACKLINKS_B)
"""Indexed by record generation, 0 or 1."""

BUCKET_KEY_BYTES = 500
MAX_BUCKET_PATHS = 1024
_TAIL = Struct(">H")
_ID_BYTES = 8


def is_bucket(key: bytes) -> bool:
    """True for a key of a record table that stands for a bucket of long paths."""
    return len(key) == BUCKET_KEY_BYTES


def bucket_key(path: bytes) -> bytes | None:
    """The bucket of a long path, None for a path that is its own key."""
    return path[:BUCKET_KEY_BYTES] if len(path) >= BUCKET_KEY_BYTES else None


def encode_bucket(paths: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The value of a bucket from (full path, id) sorted by path. Raises TooLarge over MAX_BUCKET_PATHS."""
    if len(paths) > MAX_BUCKET_PATHS:
        raise TooLarge(f"more than {MAX_BUCKET_PATHS} record paths share their first {BUCKET_KEY_BYTES} bytes")
    parts: list[bytes] = []
    for path, body_id in paths:
        parts += (_TAIL.pack(len(path) - BUCKET_KEY_BYTES), path[BUCKET_KEY_BYTES:], body_id)
    return b"".join(parts)


def decode_bucket(key: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """The (full path, id) pairs of a bucket, sorted by path. Raises StoreBroken."""
    paths, offset = [], 0
    while offset < len(value):
        start = offset + _TAIL.size
        end = start + int.from_bytes(value[offset:start], "big")
        offset = end + _ID_BYTES
        paths.append((key + value[start:end], value[end:offset]))
    if offset != len(value):
        raise StoreBroken("a bucket of long record paths is cut short")
    return paths


def next_body_id(last: bytes | None) -> bytes:
    """The id after the highest one in use."""
    return (int.from_bytes(last, "big") + 1 if last else 1).to_bytes(_ID_BYTES, "big")


def path_after_collection(path: bytes) -> bytes:
    """The lowest key beyond the collection of `path`: '0' is the letter after '/'."""
    return path[: path.index(b"/")] + b"0"


def rev_bytes(rev: str) -> bytes:
    """A rev as its 8 bytes, which sort alike; the top bit is free. Raises BadData for one that has it set.

    The syntax of a TID allows that, its meaning does not: it would be a moment after the year 2255.
    """
    number = tid_to_int(Tid(rev))
    if number >> 63:
        raise BadData(f"rev {rev} lies beyond the range of TIDs")
    return number.to_bytes(8, "big")


def rev_text(data: bytes) -> str:
    """The inverse of rev_bytes."""
    return int_to_tid(int.from_bytes(data, "big"))


def event_key(seq: int) -> bytes:
    """The key of an event; `seq` is in microseconds since the epoch, below 2^53."""
    return seq.to_bytes(8, "big")


def event_seq(key: bytes) -> int:
    """The inverse of event_key."""
    return int.from_bytes(key, "big")


_BLESSED_BLOB = b"\x00"
_OTHER_BLOB = b"\x01"


def blob_key(cid: Cid) -> bytes:
    """The key of a blob: a marker and its digest; a CID of another kind (in foreign records) is kept whole."""
    if cid.is_raw:
        return _BLESSED_BLOB + cid.digest
    return _OTHER_BLOB + bytes((len(cid),)) + cid


def blob_cid(key: bytes) -> Cid:
    """The inverse of blob_key; also reads the start of a reference key. Raises StoreBroken."""
    if key[:1] == _BLESSED_BLOB:
        return Cid.of_raw_digest(key[1:33])
    try:
        return Cid.decode(key[2 : 2 + key[1]])
    except (BadData, IndexError):
        raise StoreBroken("a blob row has a key that is no CID") from None


def blob_ref_key(cid: Cid, path: bytes) -> bytes:
    """One reference: the blob's key and a fingerprint of the record's path (which is in the value)."""
    return blob_key(cid) + sha256(path).digest()[:16]


def sparse_key(chunk: int) -> bytes:
    """The key of a piece of the saved tree."""
    return chunk.to_bytes(2, "big")


def key_after(prefix: bytes) -> bytes | None:
    """The lowest key that does not start with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
