"""Comparison of two repositories, byte for byte: two CARs, or the same account on two hosts with its blobs.

Rules that hold here
- Every block is compared with its CID as it comes in, so equal CIDs are equal bytes; every blob is hashed the same way.
- Memory holds a packed index of each side and one path of each tree; the blocks lie in spool files.
- What differs is data, not an error; what cannot be read (a CAR cut short, a tree that is not whole) is.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.car import CarReader
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import Commit, decode_commit
from pds_lite.atproto.mst.node import Node, Stub, decode_node
from pds_lite.atproto.mst.tree import walk
from pds_lite.errors import BadCar, UpstreamFailure
from pds_lite.services.import_spool import ImportSpool

if TYPE_CHECKING:
    from pds_lite.services.migration.old_host import OldHost

Entry = tuple[bytes, Cid]
PAGE = 500
MAX_BLOBS = 500_000
"""Listed by one host, some 80 MB of names; one that goes on listing is not believed."""
_CID_LETTERS = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` is "record", "blob" or "preferences"; a CID is empty on the side that does not have it."""

    kind: str
    name: str
    """Path of a record; CID of a blob."""
    left: str
    right: str


class Repository:
    """One side: a whole repository in a spool file."""

    def __init__(self, spool: ImportSpool, root: Cid) -> None:
        self._spool = spool
        self.root = root
        self.commit: Commit = decode_commit(self._block(root))
        self.records = 0
        """Of those that were walked so far."""

    def entries(self) -> Iterator[Entry]:
        """(path, CID) of every record in order. Raises BadTree or BadCar where the tree or a record is not whole."""
        top = decode_node(self._block(self.commit.data), cid=self.commit.data)
        for path, cid in walk(top, self._load):
            self._block(cid)
            self.records += 1
            yield path, cid

    def _load(self, stub: Stub) -> Node:
        return decode_node(self._block(stub.cid), stub.layer, stub.low, stub.high, stub.cid)

    def _block(self, cid: Cid) -> bytes:
        block = self._spool.get(cid)
        if block is None:
            raise BadCar(f"the CAR lacks the block {cid}")
        return block


@contextmanager
def spool() -> Iterator[ImportSpool]:
    """A spool file in the system's place for such, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pds-lite-diff-") as folder:
        blocks = ImportSpool(Path(folder))
        try:
            yield blocks
        finally:
            blocks.close()


async def read(chunks: AsyncIterator[bytes], blocks: ImportSpool) -> Repository:
    """The repository of a CAR, its blocks in `blocks`. Raises BadCar, BadCommit."""
    reader = CarReader()
    async for chunk in chunks:
        for cid, block in reader.feed(chunk):
            blocks.add(cid, block)
    root = reader.finish()
    blocks.seal()
    return Repository(blocks, root)


def diff_records(left: Repository, right: Repository) -> Iterator[Difference]:
    """Records that are not the same on both sides, in order of their paths."""
    ours, theirs = left.entries(), right.entries()
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            yield Difference("record", a[0].decode(), str(a[1]), "")
            a = next(ours, None)
        elif a is None or b[0] < a[0]:
            yield Difference("record", b[0].decode(), "", str(b[1]))
            b = next(theirs, None)
        else:
            if a[1] != b[1]:
                yield Difference("record", a[0].decode(), str(a[1]), str(b[1]))
            a, b = next(ours, None), next(theirs, None)


async def diff_blobs(left: OldHost, right: OldHost, did: str) -> AsyncIterator[Difference]:
    """Blobs that only one host lists, or that one of them does not serve as its CID says.

    Raises UpstreamFailure, also for a host that lists without end.
    """
    here, there = await _blobs(left, did), await _blobs(right, did)
    for cid in sorted(here | there):
        found = [
            await _served(host, did, cid) if cid in known else "" for host, known in ((left, here), (right, there))
        ]
        if found != [cid, cid]:
            yield Difference("blob", cid, found[0], found[1])


async def diff_preferences(left: OldHost, right: OldHost) -> AsyncIterator[Difference]:
    """One difference if the preferences are not the same list; both hosts are signed in to."""
    found: list[Any] = [await host.get("app.bsky.actor.getPreferences") for host in (left, right)]
    if found[0] != found[1]:
        yield Difference("preferences", "", "", "")


async def _blobs(host: OldHost, did: str) -> set[str]:
    found: set[str] = set()
    cursor: dict[str, Any] = {}
    while True:
        page = await host.get("com.atproto.sync.listBlobs", did=did, limit=PAGE, **cursor)
        cids = page.get("cids") if isinstance(page, dict) else None
        found.update(cid for cid in cids or () if isinstance(cid, str) and len(cid) <= _CID_LETTERS)
        if len(found) > MAX_BLOBS:
            raise UpstreamFailure(f"{host.url} lists more than {MAX_BLOBS} blobs", status=400)
        following = page.get("cursor") if isinstance(page, dict) else None
        if not cids or not isinstance(following, str) or following == cursor.get("cursor"):
            return found
        cursor = {"cursor": following}


async def _served(host: OldHost, did: str, cid: str) -> str:
    """The CID of the bytes that the host serves for `cid`, empty if it serves none."""
    digest = sha256()
    try:
        async with host.stream("com.atproto.sync.getBlob", did=did, cid=cid) as answer:
            async for chunk in answer:
                digest.update(chunk)
    except UpstreamFailure as problem:
        if problem.status >= 500:
            raise
        return ""
    return str(Cid.of_raw_digest(digest.digest()))
