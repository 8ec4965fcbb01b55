"""What one commit is made of: writes in, a plan out (specs/repository; specs/sync, "#commit").

`build_commit` changes nothing but the plan it returns: the store applies it, the stream announces it, and if either
fails the old Head is still the truth. Writes to the same record within one commit are reduced to their net effect,
because a consumer undoes operations by their paths and each path may occur once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pds_lite.atproto.car import encode_block, encode_header
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import Sign, sign_commit
from pds_lite.atproto.mst.diff import Action, RecordOp
from pds_lite.atproto.mst.node import Node, Stub, block_of
from pds_lite.atproto.mst.proof import covering_nodes
from pds_lite.atproto.mst.tree import CUT, EMPTY, Load, change, seal, sparsify
from pds_lite.errors import BadCommit, BadInput, TooLarge

MAX_OPS: Final = 200
MAX_BLOCKS: Final = 2_000_000
"""Bytes of a commit's CAR (specs/sync). What does not fit is refused: relays drop commits that say tooBig."""
MAX_LOADED: Final = 4
"""Subtrees that a Head keeps loaded, of some 15 records each: a person writes to few collections at a time."""
MAX_RECORD: Final = 1_000_000
"""Bytes of one record block."""

RepoOp: TypeAlias = RecordOp


@dataclass(frozen=True, slots=True)
class Write:
    """One wanted change. `cid` and `block` (DAG-CBOR, already checked against each other) are None for a delete."""

    action: Action
    path: bytes
    cid: Cid | None = None
    block: bytes | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A repo's state: its last commit and its tree. `root.cid` is `data`.

    `loaded` are the subtrees behind some of the root's Stubs that the latest commits had in hand, newest first: the
    next one, which mostly goes to the end of the same collection, need not rebuild them. It may be empty.
    """

    did: str
    rev: str
    commit: Cid
    commit_block: bytes
    data: Cid
    root: Node
    loaded: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """Everything that one commit changes and announces.

    `head` is the state after it, its tree sparsified. `since` and `prev_data` are the rev and tree before, None for a
    first commit. `ops` and `writes` are the net changes, one each a record, in the order first asked for. `blocks` is
    the CAR of the event: the commit, then in pre-order every new node and the old ones needed to undo the operations,
    each new record behind the node slot that links it.
    """

    head: Head
    since: str | None
    prev_data: Cid | None
    ops: tuple[RepoOp, ...]
    writes: tuple[Write, ...]
    blocks: bytes


def build_commit(did: str, head: Head | None, writes: Sequence[Write], rev: str, sign: Sign, load: Load) -> CommitPlan:
    """Plan the commit of `writes` (none: a fresh commit of the same tree) on `head` (None: a repo's first).

    Raises BadInput for a create of what exists or an update or delete of what does not, TooLarge over MAX_OPS,
    MAX_BLOCKS or MAX_RECORD, BadCommit if `rev` is not above the last.
    """
    if head is not None and rev <= head.rev:
        raise BadCommit(f"rev {rev} is not above the last, {head.rev}")
    if len(writes) > MAX_OPS:
        raise TooLarge(f"a commit holds at most {MAX_OPS} operations")
    load = _remember(load, () if head is None else head.loaded)
    root, before = _apply(EMPTY if head is None else head.root, writes, load)
    ops, net = _net_effect(writes, before)
    seal(root, rev)
    commit, commit_block = sign_commit(did, rev, root.cid, sign)
    needed = _needed_nodes(root, ops, load)
    blocks = _event_car(commit, commit_block, needed, root, net)
    loaded = [node for node in needed.values() if node.layer == CUT - 1 and _is_whole(node)]
    if head is not None:
        loaded += head.loaded
    after = Head(did, rev, commit, commit_block, root.cid, sparsify(root), tuple(loaded[:MAX_LOADED]))
    if head is None:
        return CommitPlan(after, None, None, ops, net, blocks)
    return CommitPlan(after, head.rev, head.data, ops, net, blocks)


def _is_whole(node: Node) -> bool:
    """True without Stubs in it. Theirs would be the bounds of today, and wrong once a key above comes or goes; a root
    of so low a layer has them.
    """
    return all(tree is None or (type(tree) is Node and _is_whole(tree)) for tree in node.trees)


def _remember(load: Load, known: Sequence[Node]) -> Load:
    """`load` that rebuilds each subtree once a commit: the writes of a batch tend to meet in the same few."""
    loaded = {node.cid: node for node in known}

    def load_once(stub: Stub) -> Node:
        node = loaded.get(stub.cid)
        if node is None:
            node = loaded[stub.cid] = load(stub)
        return node

    return load_once


def _apply(root: Node, writes: Sequence[Write], load: Load) -> tuple[Node, dict[bytes, Cid | None]]:
    """(the tree after all writes, what each path held before the first of them)."""
    before: dict[bytes, Cid | None] = {}
    for write in writes:
        if write.block is not None and len(write.block) > MAX_RECORD:
            raise TooLarge(f"a record has at most {MAX_RECORD} bytes")
        if (write.cid is None) != (write.action == "delete") or (write.cid is None) != (write.block is None):
            raise BadInput("a create or update needs a record, and a delete has none")
        root, previous = change(root, write.path, write.cid, load)
        if (previous is None) != (write.action == "create"):
            problem = "there is a record already" if previous is not None else "there is no record"
            raise BadInput(f"cannot {write.action} {write.path.decode('ascii', 'replace')}: {problem}")
        before.setdefault(write.path, previous)
    return root, before


def _net_effect(
    writes: Sequence[Write], before: Mapping[bytes, Cid | None]
) -> tuple[tuple[RepoOp, ...], tuple[Write, ...]]:
    """One operation and one write for each path whose record is another in the end."""
    last = {write.path: write for write in writes}
    ops, net = [], []
    for path, previous in before.items():
        write = last[path]
        if write.cid == previous:
            continue
        action: Action = "create" if previous is None else "delete" if write.cid is None else "update"
        ops.append(RecordOp(action, path, write.cid, previous))
        net.append(write if write.action == action else Write(action, path, write.cid, write.block))
    return tuple(ops), tuple(net)


def _needed_nodes(root: Node, ops: Sequence[RepoOp], load: Load) -> dict[Cid, Node]:
    """The nodes with which a consumer can undo `ops`, the new ones among them; the root in any case."""
    needed = {root.cid: root}
    for op in ops:
        for node in covering_nodes(root, op.path, load):
            needed[node.cid] = node
    return needed


def _event_car(
    commit: Cid, commit_block: bytes, needed: Mapping[Cid, Node], root: Node, writes: Sequence[Write]
) -> bytes:
    records = {write.path: write for write in writes if write.block is not None}
    pieces = [encode_header(commit), encode_block(commit, commit_block)]
    sent: set[Cid] = set()

    def add_subtree(node: Node) -> None:
        pieces.append(encode_block(node.cid, block_of(node)))
        for index, tree in enumerate(node.trees):
            if tree is not None and (child := needed.get(tree.cid)) is not None:
                add_subtree(child)
            if index < len(node.keys) and (write := records.get(node.keys[index])) is not None:
                add_record(write)

    def add_record(write: Write) -> None:
        if write.cid is not None and write.block is not None and write.cid not in sent:
            sent.add(write.cid)
            pieces.append(encode_block(write.cid, write.block))

    add_subtree(root)
    blocks = b"".join(pieces)
    if len(blocks) > MAX_BLOCKS:
        raise TooLarge(f"a commit has at most {MAX_BLOCKS} bytes of blocks")
    return blocks
