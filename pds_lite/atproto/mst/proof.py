"""Proofs over parts of a tree: what an inverter needs, and the inverter (specs/sync, "Validation").

The inverter deliberately shares no code with mst.tree. It reads the partial tree into one flat row of records and
closed subtrees, undoes the operations there, and builds the canonical tree of that row; the other way copies paths. So
a mistake in one does not hide itself in the other.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.diff import RecordOp
from pds_lite.atproto.mst.node import MAX_HEIGHT, Node, Parts, Stub, Tree, block_of, encode_node, key_layer, parse_node
from pds_lite.atproto.mst.tree import EMPTY, Load
from pds_lite.errors import BadTree


class InversionFailed(BadTree):
    """Undoing the operations of a commit in its partial tree did not give the tree before it."""


def path_nodes(root: Node, key: bytes, load: Load) -> list[Node]:
    """The nodes from the root to `key` or to where it would be: proof that it is, or is not, in the tree."""
    nodes = [root]
    while True:
        node = nodes[-1]
        index = bisect_left(node.keys, key)
        tree = node.trees[index]
        if tree is None or (index < len(node.keys) and node.keys[index] == key):
            return nodes
        nodes.append(load(tree) if isinstance(tree, Stub) else tree)


def covering_nodes(root: Node, key: bytes, load: Load) -> list[Node]:
    """path_nodes and, if the tree holds `key`, the inner edges of the subtrees on both sides of it.

    With these the key can be taken out again, or put back if it was taken out.
    """
    nodes = path_nodes(root, key, load)
    last = nodes[-1]
    index = bisect_left(last.keys, key)
    if index < len(last.keys) and last.keys[index] == key:
        nodes += _edge(last.trees[index], -1, load)
        nodes += _edge(last.trees[index + 1], 0, load)
    return nodes


def _edge(tree: Tree | None, side: int, load: Load) -> Iterator[Node]:
    """The nodes along one side of a subtree, from its top down; side 0 is left, -1 right."""
    while tree is not None:
        node = load(tree) if isinstance(tree, Stub) else tree
        yield node
        tree = node.trees[side]


def covering_proof(root: Node, key: bytes, load: Load) -> list[tuple[Cid, bytes]]:
    """covering_nodes of a sealed tree as (cid, block): what a commit carries for an operation on `key`."""
    return [(node.cid, block_of(node)) for node in covering_nodes(root, key, load)]


def path_proof(root: Node, key: bytes, load: Load) -> list[tuple[Cid, bytes]]:
    """path_nodes of a sealed tree as (cid, block): what sync.getRecord sends."""
    return [(node.cid, block_of(node)) for node in path_nodes(root, key, load)]


_Item: TypeAlias = tuple[bytes | None, bytes, int]
"""(key, record CID, layer), or (None, CID, layer) of a closed subtree: one whose block is not in the proof."""


def invert(ops: Sequence[RecordOp], blocks: Mapping[Cid, bytes], root: Cid) -> Cid:
    """The root that the tree `root` had before `ops`, from the blocks of a commit. Their order does not matter.

    Raises InversionFailed if a block is missing, if an operation contradicts the tree (a create it does not hold, a
    delete it still holds), or if what can be seen of the tree is not canonical. A wrong `prev` shows as another root.
    Blocks must match their CIDs: the caller checks.
    """
    return Cid(_build(_undo(ops, _Reader(blocks).read(root))))


class _Reader:
    """Reads a partial tree into a row in key order.

    Keys must ascend from the first node on: that also keeps a block that is linked twice from being read twice.
    """

    __slots__ = ("blocks", "last", "row")

    def __init__(self, blocks: Mapping[Cid, bytes]) -> None:
        self.blocks = cast(Mapping[bytes, bytes], blocks)
        self.row: list[_Item] = []
        self.last = b""

    def read(self, root: Cid) -> list[_Item]:
        block = self.blocks.get(root)
        if block is None:
            raise InversionFailed("the root of the tree is not among the blocks")
        parts = parse_node(block)
        keys, _, links = parts
        if keys:
            layer = key_layer(keys[0])
            if layer > MAX_HEIGHT:
                raise InversionFailed("tree is too high")
            self.read_node(parts, layer)
        elif links[0] is not None:
            raise InversionFailed("tree has a root without keys")
        return self.row

    def read_subtree(self, cid: bytes, layer: int) -> None:
        block = self.blocks.get(cid)
        if block is None:
            self.row.append((None, cid, layer))
            return
        parts = parse_node(block)
        if layer < 0 or not (parts[0] or parts[2][0]):
            raise InversionFailed("tree has an empty node, or one below layer 0")
        self.read_node(parts, layer)

    def read_node(self, parts: Parts, layer: int) -> None:
        keys, values, links = parts
        if links[0] is not None:
            self.read_subtree(links[0], layer - 1)
        add = self.row.append
        for index, key in enumerate(keys):
            if key <= self.last or key_layer(key) != layer:
                raise InversionFailed("tree has a key out of its order or layer")
            add((key, values[index], layer))
            self.last = key
            link = links[index + 1]
            if link is not None:
                self.read_subtree(link, layer - 1)


def _undo(ops: Sequence[RecordOp], row: list[_Item]) -> list[_Item]:
    """The row as it was before the operations."""
    open_ops = {op.path: op for op in ops}
    if len(open_ops) != len(ops):
        raise InversionFailed("two operations on one record")
    deleted = sorted((op.path for op in ops if op.action == "delete"), reverse=True)
    before: list[_Item] = []
    for item in row:
        key = item[0]
        if key is None:
            before.append(item)
            continue
        while deleted and deleted[-1] < key:
            _put_back(open_ops.pop(deleted.pop()), before)
        op = open_ops.pop(key, None)
        if op is None:
            before.append(item)
        elif op.action == "delete" or op.cid != item[1]:
            raise InversionFailed(f"the tree contradicts the {op.action} of {key!r}")
        elif op.prev is not None:
            before.append((key, op.prev, item[2]))
    while deleted:
        _put_back(open_ops.pop(deleted.pop()), before)
    if open_ops:
        raise InversionFailed(f"the tree does not show the operation on {min(open_ops)!r}")
    return before


def _put_back(op: RecordOp, before: list[_Item]) -> None:
    if op.prev is None:
        raise InversionFailed(f"the delete of {op.path!r} does not say what it deleted")
    if before and before[-1][0] is None:
        raise InversionFailed(f"the blocks do not reach the place of {op.path!r}")
    before.append((op.path, op.prev, key_layer(op.path)))


class _OpenNode:
    """A node being built: `tail` is the subtree behind its last key so far."""

    __slots__ = ("keys", "links", "tail", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.links: list[bytes | None] = []
        self.tail: bytes | None = None

    def hang(self, cid: bytes) -> None:
        if self.tail is not None:
            raise InversionFailed("two subtrees must be joined, and the blocks of one are missing")
        self.tail = cid

    def close(self) -> Cid:
        return Cid.of_cbor(encode_node(self.keys, self.values, [*self.links, self.tail]))


def _build(row: list[_Item]) -> bytes:
    """The CID of the canonical tree of a row."""
    if not row:
        return EMPTY.cid
    if len(row) == 1 and row[0][0] is None:
        return row[0][1]
    nodes = [_OpenNode() for _ in range(1 + max(layer + (key is None) for key, _cid, layer in row))]
    for key, cid, layer in row:
        if key is None:
            nodes[layer + 1].hang(cid)
            continue
        if layer:
            _close_below(layer, nodes)
        node = nodes[layer]
        node.keys.append(key)
        node.values.append(cid)
        node.links.append(node.tail)
        node.tail = None
    _close_below(len(nodes) - 1, nodes)
    if not nodes[-1].keys:
        raise InversionFailed("the tree before would have a root without keys, or one that the blocks do not show")
    return nodes[-1].close()


def _close_below(layer: int, nodes: list[_OpenNode]) -> None:
    """Finish the open nodes below `layer`, from the bottom, each hung behind the last key of the one above."""
    for below in range(layer):
        node = nodes[below]
        if node.keys or node.tail is not None:
            nodes[below + 1].hang(node.close())
            nodes[below] = _OpenNode()
