"""The upper part of the MST between two starts: keys of layer 2 and above, and the CID of each gap between them.

The tree in memory is 1/16 of the keys; building it anew reads every record, so it is saved now and then, and at a clean
stop. A saved tree belongs to an event of the log. `load` brings it up to date: the operations of later events say which
keys and gaps changed, those are read again from the records, and all nodes are encoded anew. The root must then be the
tree that the head's commit signs; if not (or nothing was saved, or the events are gone), every record is read once.

Saved form, cut into chunks: the event's seq; then alternately gap and key, beginning and ending with a gap. Each
carries the rev that last changed it, for getRepo's `since`; a node's rev is the newest in it. Trees without a key of
layer 2 are too small to be saved. An import drops what was saved, so events here only ever tell of single operations.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from pds_lite.atproto import firehose
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.node import Node, Stub, key_layer
from pds_lite.atproto.mst.tree import CUT, EMPTY, Tree, build, build_sparse, seal, sparsify
from pds_lite.atproto.repo import Head
from pds_lite.errors import BadData, BadInput, StoreBroken
from pds_lite.storage import event_log, failpoints, repo_store
from pds_lite.storage.keys import Table, rev_bytes, rev_text, sparse_key

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

CHUNK_BYTES = 32 << 10
_NO_REV = bytes(8)
_SIZE = struct.Struct(">H")


_UNKNOWN = Cid(b"")


@dataclass(slots=True)
class _Gap:
    """A subtree of layer CUT - 1 between two upper keys: its CID, None for an empty one, _UNKNOWN if it changed."""

    cid: Cid | None
    rev: bytes


@dataclass(slots=True)
class _Flat:
    """The upper tree laid flat, as of the event `seq`. gaps[i] lies before keys[i]."""

    seq: int
    keys: list[bytes] = field(default_factory=list)
    cids: list[Cid] = field(default_factory=list)
    revs: list[bytes] = field(default_factory=list)
    gaps: list[_Gap] = field(default_factory=list)


def load(txn: "Txn") -> Node:
    """The sparse tree of the live head, EMPTY without one. Raises StoreBroken if the records do not make the head."""
    head = repo_store.read_head(txn)
    if head is None:
        return EMPTY
    root = load_saved(txn)
    if root is None or root.cid != head.data:
        root = build_sparse(repo_store.scan_entries(txn), head.rev)
    if root.cid != head.data:
        raise StoreBroken(
            f"the records make the tree {root.cid}, but the head signs {head.data}", hint="pds-lite doctor --store"
        )
    return root


def load_saved(txn: "Txn") -> Node | None:
    """The saved tree brought up to date by the event log, not compared with the head; None if there is none to use."""
    saved = b"".join(value for _key, value in txn.scan(Table.SPARSE))
    if not saved:
        return None
    try:
        flat = _decode(saved)
        if flat.seq < event_log.pruned_through(txn):
            return None
        _replay(txn, flat)
        return _assemble(flat)
    except (BadInput, StoreBroken, struct.error, IndexError, KeyError):
        return None  # what is saved here is a short cut only: the records are the truth


def save(txn: "WriteTxn", root: Node, head: Head) -> None:
    """Save the tree of `head`, as of the newest event in the log."""
    chunks: list[bytes] = []
    if root.layer >= CUT and root.cid == head.data:
        encoded = _encode(_flatten(root, event_log.last_seq(txn)))
        chunks = [encoded[start : start + CHUNK_BYTES] for start in range(0, len(encoded), CHUNK_BYTES)]
    for number, chunk in enumerate(chunks):
        txn.put(Table.SPARSE, sparse_key(number), chunk)
    for key, _value in list(txn.scan(Table.SPARSE, sparse_key(len(chunks)))):
        txn.delete(Table.SPARSE, key)
    failpoints.hit("sparse.saved")


# -- between a tree and its flat form


def _flatten(root: Node, seq: int) -> _Flat:
    flat = _Flat(seq)
    _flatten_into(flat, root)
    return flat


def _flatten_into(flat: _Flat, node: Node) -> None:
    rev = rev_bytes(node.rev)
    for index, tree in enumerate(node.trees):
        if isinstance(tree, Node):
            _flatten_into(flat, tree)
        else:
            # A gap of layer 1, or nothing at all from some higher layer down: one gap either way.
            flat.gaps.append(_Gap(None, rev) if tree is None else _Gap(tree.cid, rev_bytes(tree.rev)))
        if index < len(node.keys):
            flat.keys.append(node.keys[index])
            flat.cids.append(node.values[index])
            flat.revs.append(rev)


def _assemble(flat: _Flat) -> Node:
    """The sealed tree with its Stubs."""
    layers = [key_layer(key) for key in flat.keys]
    if not layers:
        raise BadData("a saved tree has no keys")
    root, _rev = _subtree(flat, layers, 0, len(layers), max(layers))
    assert isinstance(root, Node)
    return sparsify(root)


def _subtree(flat: _Flat, layers: list[int], low: int, high: int, layer: int) -> tuple[Tree | None, bytes]:
    """(the subtree of this layer over keys[low:high] and the gaps around them, its newest rev)."""
    if layer < CUT:
        gap = flat.gaps[low]
        bounds = (flat.keys[low - 1] if low else None, flat.keys[low] if low < len(flat.keys) else None)
        return (None if gap.cid is None else Stub(gap.cid, layer, *bounds, rev_text(gap.rev))), gap.rev
    own = [index for index in range(low, high) if layers[index] == layer]
    trees, newest = [], _NO_REV
    for before, after in pairwise([low - 1, *own, high]):
        tree, rev = _subtree(flat, layers, before + 1, after, layer - 1)
        trees.append(tree)
        newest = max(newest, rev)
    if not own and trees[0] is None:
        return None, newest
    newest = max([newest, *(flat.revs[index] for index in own)])
    node = Node(layer, tuple(flat.keys[index] for index in own), tuple(flat.cids[index] for index in own), tuple(trees))
    seal(node, rev_text(newest))
    return node, newest


# -- the saved form


def _encode(flat: _Flat) -> bytes:
    parts = [flat.seq.to_bytes(8, "big"), len(flat.keys).to_bytes(4, "big")]
    for index, gap in enumerate(flat.gaps):
        parts += (gap.rev, b"\0" if gap.cid is None else b"\1" + gap.cid.digest)
        if index < len(flat.keys):
            key, cid = flat.keys[index], flat.cids[index]
            parts += (_SIZE.pack(len(key)), key, flat.revs[index], bytes((len(cid),)), cid)
    return b"".join(parts)


def _decode(saved: bytes) -> _Flat:
    """Raises IndexError, struct.error or BadData for what is not of this form."""
    flat = _Flat(int.from_bytes(saved[:8], "big"))
    left, at = int.from_bytes(saved[8:12], "big"), 12
    while True:
        rev, there, at = saved[at : at + 8], saved[at + 8], at + 9
        flat.gaps.append(_Gap(Cid.of_cbor_digest(saved[at : at + 32]) if there else None, rev))
        at += 32 if there else 0
        if not left:
            break
        left -= 1
        size = _SIZE.unpack_from(saved, at)[0]
        start, at = at + 2, at + 2 + size
        flat.keys.append(saved[start:at])
        flat.revs.append(saved[at : at + 8])
        size = saved[at + 8]
        flat.cids.append(Cid.decode(saved[at + 9 : at + 9 + size]))
        at += 9 + size
    if at != len(saved):
        raise BadData("a saved tree is of the wrong length")
    return flat


# -- what happened since


def _replay(txn: "Txn", flat: _Flat) -> None:
    """Bring `flat` up to date with the records, as far as the log says that they changed."""
    for path, rev in _changed_paths(txn, flat.seq):
        index = bisect_left(flat.keys, path)
        if key_layer(path) >= CUT:
            _update_key(txn, flat, index, path, rev)
        else:
            flat.gaps[index] = _Gap(_UNKNOWN, rev)
    for index, gap in enumerate(flat.gaps):
        if gap.cid is _UNKNOWN:
            gap.cid = _read_gap(txn, flat, index)


def _changed_paths(txn: "Txn", after: int) -> Iterator[tuple[bytes, bytes]]:
    """(path, rev) of each operation that the log tells of after this seq."""
    for _seq, frame in event_log.events(txn, after):
        header, body = firehose.decode_frame(frame)
        if header.get("t") == "#commit":
            rev = rev_bytes(body["rev"])
            for op in body["ops"]:
                yield op["path"].encode(), rev


def _update_key(txn: "Txn", flat: _Flat, index: int, path: bytes, rev: bytes) -> None:
    """A key of an upper layer came, changed or went: its own row, and the gaps beside it."""
    there = index < len(flat.keys) and flat.keys[index] == path
    record = repo_store.get_record(txn, path)
    if record is not None and there:
        flat.cids[index], flat.revs[index] = record.cid, rev
    elif record is not None:
        flat.keys.insert(index, path)
        flat.cids.insert(index, record.cid)
        flat.revs.insert(index, rev)
        flat.gaps[index : index + 1] = [_Gap(_UNKNOWN, rev), _Gap(_UNKNOWN, rev)]
    elif there:
        del flat.keys[index], flat.cids[index], flat.revs[index]
        flat.gaps[index : index + 2] = [_Gap(_UNKNOWN, rev)]
    else:
        flat.gaps[index].rev = rev  # came and went: the nodes above were new both times


def _read_gap(txn: "Txn", flat: _Flat, index: int) -> Cid | None:
    """The CID that the records between two upper keys make."""
    low = flat.keys[index - 1] if index else None
    high = flat.keys[index] if index < len(flat.keys) else None
    entries = [(path, record.cid) for path, record in repo_store.scan_records(txn, low, high)]
    if not entries:
        return None
    node = build(entries, CUT - 1)
    seal(node, rev_text(flat.gaps[index].rev))
    return node.cid
