"""What changed between two trees, as record operations. Costs what differs, not what the trees hold.

Both trees are read side by side in key order; a subtree that stands at the front of both is skipped unread. Knows
nothing of commits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.node import Node, Stub, Tree
from pds_lite.atproto.mst.tree import Load

Action: TypeAlias = Literal["create", "update", "delete"]


@dataclass(frozen=True, slots=True)
class RecordOp:
    """One record's change: `cid` is None for a delete, `prev` (what it held before) for a create."""

    action: Action
    path: bytes
    cid: Cid | None
    prev: Cid | None


_Leaf: TypeAlias = tuple[bytes, Cid]


class _Front:
    """The rest of a tree, as a stack of what comes next: a leaf or a subtree not yet looked into."""

    __slots__ = ("load", "stack")

    def __init__(self, root: Tree, load: Load) -> None:
        self.stack: list[Tree | _Leaf] = [root]
        self.load = load

    def expand(self, tree: Tree) -> None:
        """Put the parts of the subtree just popped in its place."""
        node = self.load(tree) if isinstance(tree, Stub) else tree
        for index in range(len(node.keys) - 1, -1, -1):
            self._push(node.trees[index + 1])
            self.stack.append((node.keys[index], node.values[index]))
        self._push(node.trees[0])

    def _push(self, tree: Tree | None) -> None:
        if tree is not None:
            self.stack.append(tree)


def diff(old: Node, new: Node, load: Load, load_new: Load | None = None) -> list[RecordOp]:
    """The operations, in key order, that turn `old` into `new`; `load_new` if Stubs of `new` have another source."""
    return list(iterate_diff(old, new, load, load_new or load))


def iterate_diff(old: Tree, new: Tree, load_old: Load, load_new: Load) -> Iterator[RecordOp]:
    """As `diff`, one at a time, with one path of each tree in memory."""
    before, after = _Front(old, load_old), _Front(new, load_new)
    while before.stack or after.stack:
        a = before.stack.pop() if before.stack else None
        b = after.stack.pop() if after.stack else None
        if isinstance(a, Node | Stub) or isinstance(b, Node | Stub):
            _open_higher(a, b, before, after)
        elif b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            yield RecordOp("delete", a[0], None, a[1])
            if b is not None:
                after.stack.append(b)
        elif a is None or a[0] > b[0]:
            yield RecordOp("create", b[0], b[1], None)
            if a is not None:
                before.stack.append(a)
        elif a[1] != b[1]:
            yield RecordOp("update", b[0], b[1], a[1])


def _open_higher(a: Tree | _Leaf | None, b: Tree | _Leaf | None, before: _Front, after: _Front) -> None:
    """Of two fronts, at least one a subtree: drop both if they are the same, else look into the higher or both."""
    layer_a = a.layer if isinstance(a, Node | Stub) else -1
    layer_b = b.layer if isinstance(b, Node | Stub) else -1
    if isinstance(a, Node | Stub) and isinstance(b, Node | Stub) and a.cid and a.cid == b.cid:
        return
    for front, tree, layer, other in ((before, a, layer_a, layer_b), (after, b, layer_b, layer_a)):
        if isinstance(tree, Node | Stub) and layer >= other:
            front.expand(tree)
        elif tree is not None:
            front.stack.append(tree)
