"""Verification of a repository as its CAR streams by: all a stranger could check, in the memory of one tree path.

Works on CARs in pre-order (commit, then each node followed by its subtrees and records in key order), which is what
this server exports. Each block must be the very one that the blocks before it announced; hashes are CarReader's
business, keys, layers and canonical form decode_node's, the signature verify_commit's. Imports take any order: see
repo_import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import CarReader
from pds_lite.atproto.commit import Commit, decode_commit, verify_commit
from pds_lite.atproto.mst.node import Node, Stub, decode_node
from pds_lite.errors import BadCar, BadCommit, BadTree

if TYPE_CHECKING:
    from pds_lite.atproto.cid import Cid


@dataclass(frozen=True, slots=True)
class Verified:
    """A repository in which nothing is wrong."""

    did: str
    rev: str
    commit: str
    records: int
    nodes: int


@dataclass(slots=True)
class _Counts:
    records: int = 0
    nodes: int = 0


async def verify_car(chunks: AsyncIterator[bytes], did: str, did_key: str) -> Verified:
    """Checks every block of the repository of `did`, whose commits `did_key` signs.

    Raises BadCar, BadCommit, BadTree or BadData with the first thing that is wrong.
    """
    reader = CarReader()
    commit: Commit | None = None
    awaited: list[Cid | Stub] = []  # the next block is the last of these
    counts = _Counts()
    async for chunk in chunks:
        for cid, block in reader.feed(chunk):
            if commit is None:
                commit = _check_commit(cid, block, reader.root, did, did_key)
                awaited.append(Stub(commit.data, -1, None, None, ""))
            elif not awaited:
                raise BadTree("there are blocks after the end of the tree")
            else:
                _check_block(cid, block, awaited, counts)
    root = reader.finish()
    if commit is None or awaited:
        raise BadTree("the tree is not complete")
    return Verified(did, commit.rev, str(root), counts.records, counts.nodes)


def _check_commit(cid: Cid, block: bytes, root: Cid | None, did: str, did_key: str) -> Commit:
    if cid != root:
        raise BadCar("the first block is not the commit")
    commit = decode_commit(block)
    if commit.did != did:
        raise BadCommit(f"this is the repository of {commit.did}")
    verify_commit(commit, did_key)
    return commit


def _check_block(cid: Cid, block: bytes, awaited: list[Cid | Stub], counts: _Counts) -> None:
    expected = awaited.pop()
    if cid != (expected.cid if isinstance(expected, Stub) else expected):
        raise BadTree(f"another block than the tree announced: {cid}")
    if not isinstance(expected, Stub):
        dag_cbor.decode_lenient(block)  # what was imported stays as it was signed, canonical or not
        counts.records += 1
        return
    layer = None if expected.layer < 0 else expected.layer
    awaited.extend(reversed(_announced(decode_node(block, layer, expected.low, expected.high, cid))))
    counts.nodes += 1


def _announced(node: Node) -> list[Cid | Stub]:
    """What follows a node in pre-order: its subtrees with its records between them."""
    follow: list[Cid | Stub] = []
    for index, tree in enumerate(node.trees):
        if tree is not None:
            assert isinstance(tree, Stub)
            follow.append(tree)
        if index < len(node.values):
            follow.append(node.values[index])
    return follow
