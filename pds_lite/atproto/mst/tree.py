"""A Merkle search tree: put, delete, get, walk (specs/repository, "MST Structure").

Trees are immutable: a change copies the path from the root and shares the rest, so an old root stays a valid snapshot.
Subtrees that are not in memory are Stubs; `load` rebuilds one when a change or a walk needs it. The shape depends on
the contents only, never on the history: links never skip a layer, empty nodes stand only between a key and a subtree
more than one layer below it, and the root has a key unless the tree is empty.

Nothing here knows where records live: a Stub's keys are exactly the repo's keys between its bounds at the time of its
root, and whoever gives `load` must see to that.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.node import (
    MAX_ENTRIES,
    MAX_HEIGHT,
    MAX_KEY,
    Node,
    Stub,
    Tree,
    block_of,
    decode_node,
    encode_node,
    hash_layer,
    key_layer,
)
from pds_lite.errors import BadTree, StoreBroken, TooLarge

Load: TypeAlias = Callable[[Stub], Node]
Entry: TypeAlias = tuple[bytes, Cid]

CUT = 2
"""Layers below this one are not kept in memory. A subtree of layer 1 holds about 15 records, one short range read."""

EMPTY = Node(0, (), (), (None,), Cid.of_cbor(encode_node((), (), (None,))))
"""The tree without keys."""


def no_load(stub: Stub) -> Node:
    """The `load` of a tree that is wholly in memory."""
    raise BadTree(f"subtree {stub.cid} is not in memory")


def checked_load(fetch: Callable[[Cid], bytes]) -> Load:
    """A `load` for a foreign tree: `fetch` gives a block that matches its CID; the node is checked strictly."""
    return lambda stub: decode_node(fetch(stub.cid), stub.layer, stub.low, stub.high, stub.cid)


def get(root: Node, key: bytes, load: Load) -> Cid | None:
    """The CID of the record at `key`, or None."""
    tree: Tree | None = root
    while tree is not None:
        node = load(tree) if isinstance(tree, Stub) else tree
        index = bisect_left(node.keys, key)
        if index < len(node.keys) and node.keys[index] == key:
            return node.values[index]
        tree = node.trees[index]
    return None


def put(root: Node, key: bytes, cid: Cid, load: Load) -> Node:
    """The tree with `key` at `cid`, new or replaced."""
    return change(root, key, cid, load)[0]


def delete(root: Node, key: bytes, load: Load) -> Node:
    """The tree without `key`; `root` itself if it was not there."""
    return change(root, key, None, load)[0]


def change(root: Node, key: bytes, cid: Cid | None, load: Load) -> tuple[Node, Cid | None]:
    """(the tree with `key` at `cid`, or without it for None; what it held before). One descent for both answers."""
    if cid is None:
        smaller, previous = _delete(root, key, load)
        return (root if previous is None else _trim(smaller, load)), previous
    layer = key_layer(key)
    if len(key) > MAX_KEY or layer > MAX_HEIGHT:
        raise TooLarge("record path is too long or its hash too rare for the tree")
    if layer <= root.layer:
        return _put(root, key, layer, cid, load)
    left, right = _split(None if root.cid == EMPTY.cid else root, key, load)
    return Node(layer, (key,), (cid,), (_raise(left, layer - 1), _raise(right, layer - 1))), None


def _put(node: Node, key: bytes, layer: int, cid: Cid, load: Load) -> tuple[Node, Cid | None]:
    keys, values, trees = node.keys, node.values, node.trees
    index = bisect_left(keys, key)
    previous: Cid | None = None
    if index < len(keys) and keys[index] == key:
        previous = values[index]
        if previous != cid:
            values = (*values[:index], cid, *values[index + 1 :])
            node = Node(node.layer, keys, values, trees)
        return node, previous
    child = trees[index]
    if layer == node.layer:
        pair = _split(child, key, load)
        keys = (*keys[:index], key, *keys[index:])
        values = (*values[:index], cid, *values[index:])
        return Node(layer, keys, values, (*trees[:index], *pair, *trees[index + 1 :])), None
    changed: Tree | None
    if child is None:
        changed = _raise(Node(layer, (key,), (cid,), (None, None)), node.layer - 1)
    else:
        loaded = load(child) if isinstance(child, Stub) else child
        changed, previous = _put(loaded, key, layer, cid, load)
        if changed is loaded:
            return node, previous
    return Node(node.layer, keys, values, (*trees[:index], changed, *trees[index + 1 :])), previous


def _raise(tree: Tree | None, layer: int) -> Tree | None:
    """`tree` below as many empty nodes as it takes to reach `layer`, because links never skip one."""
    if tree is not None:
        while tree.layer < layer:
            tree = Node(tree.layer + 1, (), (), (tree,))
    return tree


def _split(tree: Tree | None, key: bytes, load: Load) -> tuple[Tree | None, Tree | None]:
    """The parts of a subtree before and after a key that it does not hold.

    A part that is all of it stays as it is, unless it has a Stub beside the key: a Stub names its bounds, and the key
    is a new one. Such a Stub has been loaded on the way and takes its new bounds when the tree is sparsified.
    """
    if tree is None:
        return None, None
    node = load(tree) if isinstance(tree, Stub) else tree
    index = bisect_left(node.keys, key)
    left, right = _split(node.trees[index], key, load)
    if right is None and index == len(node.keys) and left is node.trees[index]:
        return node, None
    if left is None and index == 0 and right is node.trees[index]:
        return None, node
    before: Tree | None = None
    after: Tree | None = None
    if index or left is not None:
        before = Node(node.layer, node.keys[:index], node.values[:index], (*node.trees[:index], left))
    if index < len(node.keys) or right is not None:
        after = Node(node.layer, node.keys[index:], node.values[index:], (right, *node.trees[index + 1 :]))
    return before, after


def _delete(node: Node, key: bytes, load: Load) -> tuple[Node | None, Cid | None]:
    """(the node without the key, None if nothing is left of it; what the key held). (node, None) if it is not there."""
    keys, values, trees = node.keys, node.values, node.trees
    index = bisect_left(keys, key)
    child: Tree | None
    previous: Cid | None
    if index < len(keys) and keys[index] == key:
        previous = values[index]
        child = _merge(trees[index], trees[index + 1], load)
        keys = keys[:index] + keys[index + 1 :]
        values = values[:index] + values[index + 1 :]
        trees = (*trees[:index], child, *trees[index + 2 :])
    else:
        child = trees[index]
        if child is None:
            return node, None
        child, previous = _delete(load(child) if isinstance(child, Stub) else child, key, load)
        if previous is None:
            return node, None
        trees = (*trees[:index], child, *trees[index + 1 :])
    if not keys and trees[0] is None:
        return None, previous
    return Node(node.layer, keys, values, trees), previous


def _merge(left: Tree | None, right: Tree | None, load: Load) -> Tree | None:
    """One subtree of two neighbours of the same layer."""
    if left is None or right is None:
        return right if left is None else left
    a = load(left) if isinstance(left, Stub) else left
    b = load(right) if isinstance(right, Stub) else right
    middle = _merge(a.trees[-1], b.trees[0], load)
    return Node(a.layer, a.keys + b.keys, a.values + b.values, (*a.trees[:-1], middle, *b.trees[1:]))


def _trim(root: Node | None, load: Load) -> Node:
    """The root without the keyless nodes on top of it."""
    while root is not None and not root.keys:
        tree = root.trees[0]
        root = load(tree) if isinstance(tree, Stub) else tree
    return root or EMPTY


def seal(root: Node, rev: str) -> list[tuple[Cid, bytes]]:
    """Make block and CID of every new node, stamp `rev` on it, and give all (cid, block) in pre-order.

    Call it once per commit, however many changes went before. Raises TooLarge for a node over MAX_ENTRIES.
    """
    blocks: list[tuple[Cid, bytes]] = []
    if not root.cid:
        _seal(root, rev, blocks)
    return blocks


def _seal(node: Node, rev: str, blocks: list[tuple[Cid, bytes]]) -> None:
    place = len(blocks)
    blocks.append((node.cid, b""))  # a parent stands before its children but is made after them
    links: list[Cid | None] = []
    for tree in node.trees:
        if tree is None:
            links.append(None)
            continue
        if not tree.cid and isinstance(tree, Node):
            _seal(tree, rev, blocks)
        links.append(tree.cid)
    if len(node.keys) > MAX_ENTRIES:
        raise TooLarge(f"MST node would have more than {MAX_ENTRIES} keys")
    node.block = encode_node(node.keys, node.values, links)
    node.cid = Cid.of_cbor(node.block)
    node.rev = rev
    blocks[place] = (node.cid, node.block)


def sparsify(root: Node, cut: int = CUT) -> Node:
    """The same sealed tree for keeping in memory: subtrees below layer `cut` become Stubs, blocks are dropped.

    A node without a block has been through here and is not looked into again, so this costs only what was new.
    """
    return _sparsify(root, cut, None, None) if root.block else root


def _sparsify(node: Node, cut: int, low: bytes | None, high: bytes | None) -> Node:
    bounds = (low, *node.keys, high)
    trees: list[Tree | None] = []
    for index, tree in enumerate(node.trees):
        if not isinstance(tree, Node):
            trees.append(tree)
        elif tree.layer < cut:  # the root of a tree that was lower may come here without a block
            trees.append(Stub(tree.cid, tree.layer, bounds[index], bounds[index + 1], tree.rev))
        else:
            trees.append(_sparsify(tree, cut, bounds[index], bounds[index + 1]) if tree.block else tree)
    return Node(node.layer, node.keys, node.values, tuple(trees), node.cid, b"", node.rev)


def walk(root: Tree, load: Load) -> Iterator[Entry]:
    """Every (key, cid) in order. Holds one loaded path at a time."""
    stack: list[Tree | Entry] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            yield item
            continue
        node = load(item) if isinstance(item, Stub) else item
        for index in range(len(node.keys) - 1, -1, -1):
            _push(stack, node.trees[index + 1])
            stack.append((node.keys[index], node.values[index]))
        _push(stack, node.trees[0])


def _push(stack: list[Tree | Entry], tree: Tree | None) -> None:
    if tree is not None:
        stack.append(tree)


def walk_nodes(root: Tree, load: Load) -> Iterator[Node]:
    """Every node in pre-order. Holds one loaded path at a time."""
    stack: list[Tree] = [root]
    while stack:
        tree = stack.pop()
        node = load(tree) if isinstance(tree, Stub) else tree
        yield node
        stack.extend(child for child in reversed(node.trees) if child is not None)


class _Builder:
    """Builds a tree from sorted entries in one pass: one open node per layer, closed when a higher key comes.

    `fold` sees each finished subtree of layer `cut` - 1 with its bounds and gives what is kept of it.
    """

    def __init__(self, fold: "Callable[[Node, bytes | None, bytes | None], Tree] | None" = None, cut: int = 0) -> None:
        self.open: list[tuple[list[bytes], list[Cid], list[Tree | None]]] = [([], [], [])]
        self.fold = fold
        self.fold_layer = cut - 1
        self.low: bytes | None = None

    def add(self, key: bytes, cid: Cid) -> None:
        layer = hash_layer(key)
        while len(self.open) <= layer:
            self.open.append(([], [], []))
        tree = self.close(layer, key) if layer else None
        keys, values, trees = self.open[layer]
        keys.append(key)
        values.append(cid)
        trees.append(tree)
        if layer > self.fold_layer:
            self.low = key

    def close(self, layer: int, high: bytes | None) -> Tree | None:
        """Finish all open nodes below `layer`; the subtree of layer - 1 that they make, if any."""
        tree: Tree | None = None
        for below in range(layer):
            keys, values, trees = self.open[below]
            if keys or tree is not None:
                node = Node(below, tuple(keys), tuple(values), (*trees, tree))
                tree = self.fold(node, self.low, high) if self.fold and below == self.fold_layer else node
                self.open[below] = ([], [], [])
        return tree

    def finish(self, layer: int) -> Node | None:
        """The tree with its root at `layer`; what was folded stays below it. None if there is nothing in it."""
        while len(self.open) <= layer:
            self.open.append(([], [], []))
        tree = self.close(layer, None)
        keys, values, trees = self.open[layer]
        if not keys and tree is None:
            return None
        return Node(layer, tuple(keys), tuple(values), (*trees, tree))


def build(entries: Iterable[Entry], layer: int | None = None) -> Node:
    """The unsealed tree of sorted (key, cid); with `layer`, a subtree whose top is of that layer.

    Raises StoreBroken if a key is of a higher layer than that, or if a subtree would be empty.
    """
    builder = _Builder()
    for key, cid in entries:
        builder.add(key, cid)
    top = len(builder.open) - 1
    if layer is not None and layer < top:
        raise StoreBroken("a key lies in a layer above its subtree")
    root = builder.finish(top if layer is None else layer)
    if root is None and layer is not None:
        raise StoreBroken("a subtree has no keys")
    return root or EMPTY


def rebuild(stub: Stub, entries: Iterable[Entry]) -> Node:
    """What a Stub stands for, sealed, from its sorted (key, cid). Raises StoreBroken if they do not make its CID."""
    node = build(entries, stub.layer)
    seal(node, stub.rev)
    if node.cid != stub.cid:
        raise StoreBroken(f"the records between {stub.low!r} and {stub.high!r} do not make subtree {stub.cid}")
    return node


def build_sparse(entries: Iterable[Entry], rev: str, cut: int = CUT) -> Node:
    """The sealed and sparsified tree of a whole repo from sorted (key, cid), in memory for its upper layers only.

    Every node and Stub gets `rev`: when the true ones are lost, the head's is the safe answer.
    """

    def fold(node: Node, low: bytes | None, high: bytes | None) -> Tree:
        seal(node, rev)
        return Stub(node.cid, node.layer, low, high, rev)

    builder = _Builder(fold, cut)
    for key, cid in entries:
        builder.add(key, cid)
    root = builder.finish(len(builder.open) - 1)
    if root is None:
        return EMPTY
    seal(root, rev)
    return sparsify(root, cut)


__all__ = [
    "CUT",
    "EMPTY",
    "Entry",
    "Load",
    "Node",
    "Stub",
    "Tree",
    "block_of",
    "build",
    "build_sparse",
    "change",
    "checked_load",
    "delete",
    "get",
    "no_load",
    "put",
    "rebuild",
    "seal",
    "sparsify",
    "walk",
    "walk_nodes",
]
