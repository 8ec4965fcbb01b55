"""The commit object: the signed statement of what a repo holds (specs/repository, "Commit Objects").

The signature covers the DAG-CBOR bytes of the object without `sig`; the CID is that of the object with it. `prev` is
kept for version 2's sake: present and null in what we write. Both encoders are written out by hand for the one fixed
shape, because every write makes a commit.

Knows no key: whoever signs or verifies passes a function or a did:key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.tid import is_tid
from pds_lite.errors import BadCommit, BadData

Sign: TypeAlias = Callable[[bytes], bytes]
"""Message bytes to a 64-byte low-S signature (r and s) of their sha256."""

VERSION: Final = 3
MAX_COMMIT: Final = 4096
"""Bytes of a commit block: a DID of 2048, and some 200 for the rest."""
_FIELDS = frozenset(("did", "version", "data", "rev", "prev", "sig"))
_LINK = b"\xd8\x2a\x58\x25\x00"


@dataclass(frozen=True, slots=True)
class Commit:
    """A version 3 commit. `sig` is 64 bytes, not verified yet."""

    did: str
    rev: str
    data: Cid
    sig: bytes
    prev: Cid | None = None


def _text(value: str) -> bytes:
    content = value.encode()
    size = len(content)
    if size < 24:
        return bytes((0x60 | size,)) + content
    return (bytes((0x78, size)) if size < 256 else bytes((0x79, size >> 8, size & 255))) + content


def _encode(did: str, rev: str, data: Cid, prev: Cid | None, sig: bytes | None) -> bytes:
    """DAG-CBOR with the fields in its order: shorter names first."""
    return b"".join(
        (
            b"\xa5\x63did" if sig is None else b"\xa6\x63did",
            _text(did),
            b"\x63rev",
            _text(rev),
            b"" if sig is None else b"\x63sig\x58\x40" + sig,
            b"\x64data" + _LINK,
            data,
            b"\x64prev\xf6" if prev is None else b"\x64prev" + _LINK + prev,
            b"\x67version\x03",
        )
    )


def unsigned_bytes(did: str, rev: str, data: Cid, prev: Cid | None = None) -> bytes:
    """What the signature is made over."""
    return _encode(did, rev, data, prev, None)


def sign_commit(did: str, rev: str, data: Cid, sign: Sign) -> tuple[Cid, bytes]:
    """(CID, block) of a new signed commit on the tree `data`. Raises BadCommit if `sign` does not give 64 bytes."""
    sig = sign(unsigned_bytes(did, rev, data))
    if len(sig) != 64:
        raise BadCommit("a commit signature has 64 bytes")
    block = _encode(did, rev, data, None, sig)
    return Cid.of_cbor(block), block


def decode_commit(block: bytes) -> Commit:
    """A commit from outside. Raises BadCommit unless it is canonical and holds the six fields of version 3, no others.

    The signature is not verified and the DID's syntax not checked: compare both with what you expect.
    """
    if len(block) > MAX_COMMIT:
        raise BadCommit("commit is too large")
    try:
        value = dag_cbor.decode_own(block)
    except BadData as problem:
        raise BadCommit(f"commit is {problem.message}") from None
    if type(value) is not dict or value.keys() != _FIELDS:
        raise BadCommit("commit does not have the fields of one")
    did, rev, data, prev, sig = (value[name] for name in ("did", "rev", "data", "prev", "sig"))
    if type(value["version"]) is not int or value["version"] != VERSION:
        raise BadCommit("commit is not of version 3")
    if type(did) is not str or type(rev) is not str or not is_tid(rev):
        raise BadCommit("commit has no DID, or a rev that is not a TID")
    if type(data) is not Cid or not data.is_cbor or not (prev is None or (type(prev) is Cid and prev.is_cbor)):
        raise BadCommit("commit does not link to a tree")
    if type(sig) is not bytes or len(sig) != 64:
        raise BadCommit("commit has no signature of 64 bytes")
    if _encode(did, rev, data, prev, sig) != block:
        raise BadCommit("commit is not canonical DAG-CBOR")
    return Commit(did, rev, data, sig, prev)


def verify_commit(commit: Commit, did_key: str) -> None:
    """Raises BadCommit unless the signature is by this key (did:key:z...), BadKey if that is not a usable key."""
    # Loads the curve libraries, which reading a commit does not need.
    from pds_lite.atproto.crypto.did_key import verify

    if not verify(did_key, unsigned_bytes(commit.did, commit.rev, commit.data, commit.prev), commit.sig):
        raise BadCommit("commit signature does not verify with the account's key")
