"""One node of a Merkle search tree and its block (specs/repository, "MST Structure").

A node holds the keys of one layer and the subtrees between them: `trees[i]` lies before `keys[i]`, `trees[i + 1]` after
it. A subtree that is not in memory is a Stub, which knows its CID and the open interval of keys it covers. Nodes are
immutable values with one exception: `seal` in mst.tree fills in cid, block and rev of nodes just made, once.

This module knows shapes and bytes of single nodes, not how trees change.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadData, BadTree

MAX_KEY = 1024
"""Bytes of a key in a foreign tree. By syntax a path has at most 830; the reference allows 1024."""
MAX_ENTRIES = 4096
"""Keys in one node. Four are usual and a hundred practically impossible, but keys can be mined to share a node."""
MAX_HEIGHT = 32
"""The highest layer. Ten is usual for a million records; one key of layer 32 costs 2^64 hashes to mine."""
UNSEALED = Cid(b"")
"""The CID of a node whose block was not made yet."""

_KEY = re.compile(rb"[A-Za-z0-9_~:.-]+/[A-Za-z0-9_~:.-]+")


class Node:
    """One node. Unsealed: cid is UNSEALED, block and rev empty. Sealed: cid set; block may have been dropped again."""

    __slots__ = ("block", "cid", "keys", "layer", "rev", "trees", "values")

    def __init__(
        self,
        layer: int,
        keys: tuple[bytes, ...],
        values: tuple[Cid, ...],
        trees: "tuple[Tree | None, ...]",
        cid: Cid = UNSEALED,
        block: bytes = b"",
        rev: str = "",
    ) -> None:
        self.layer = layer
        self.keys = keys
        self.values = values
        self.trees = trees
        self.cid = cid
        self.block = block
        self.rev = rev

    def __repr__(self) -> str:
        return f"Node(layer={self.layer}, keys={self.keys!r}, cid={self.cid!r})"


@dataclass(frozen=True, slots=True)
class Stub:
    """A subtree that is not in memory: all keys of the repo strictly between `low` and `high` (None: no bound).

    `rev` is that of the last commit that changed anything in it.
    """

    cid: Cid
    layer: int
    low: bytes | None
    high: bytes | None
    rev: str


Tree: TypeAlias = Node | Stub


def hash_layer(key: bytes) -> int:
    """key_layer for whoever walks over many keys and would only push others out of its memory."""
    digest = sha256(key).digest()
    if digest[0] >= 64:
        return 0
    return (256 - int.from_bytes(digest, "big").bit_length()) >> 1


@lru_cache(maxsize=1024)
def key_layer(key: bytes) -> int:
    """The layer of a key: pairs of leading zero bits in its sha256. Each layer has a quarter of the keys below it.

    Remembered, because every commit looks at the same upper keys and their newest neighbours again (about 200 KB).
    """
    return hash_layer(key)


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many leading bytes two keys have in common."""
    size = len(left)
    if size != len(right):
        size = min(size, len(right))
        left, right = left[:size], right[:size]
    difference = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return size - (difference.bit_length() + 7 >> 3)


def block_of(node: Node) -> bytes:
    """The block of a sealed node, made again if it was dropped to save memory."""
    return node.block or encode_node(
        node.keys, node.values, [None if tree is None else tree.cid for tree in node.trees]
    )


_LINK = b"\xd8\x2a\x58\x25\x00"
"""Tag 42, a byte string of 37 bytes, the multibase zero: what stands before every blessed CID."""
_NULL = b"\xf6"


def _head(major: int, number: int) -> bytes:
    """The shortest CBOR head, for numbers below 2^16."""
    if number < 24:
        return bytes((major | number,))
    return bytes((major | 24, number)) if number < 256 else bytes((major | 25, number >> 8, number & 255))


_SUFFIX = [b"\xa4\x61k" + _head(0x40, size) for size in range(MAX_KEY + 1)]
"""How an entry begins, by the length of its suffix."""
_SHARED = [b"\x61p" + _head(0x00, size) + b"\x61t" for size in range(MAX_KEY + 1)]


_ENTRY_WITHOUT_TREE = b"%b%b%b\xf6\x61v\xd8\x2a\x58%%\x00%b"
_ENTRY_WITH_TREE = b"%b%b%b\xd8\x2a\x58%%\x00%b\x61v\xd8\x2a\x58%%\x00%b"
"""Entries whose CIDs are of the usual kind; the percent sign is the length, 37."""


def _link(cid: bytes | None) -> bytes:
    if cid is None:
        return _NULL
    return _LINK + cid if len(cid) == 36 else b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\0" + cid


def encode_node(keys: Sequence[bytes], values: Sequence[bytes], links: Sequence[bytes | None]) -> bytes:
    """The DAG-CBOR block of a node; `links` are the CIDs of its subtrees, one more than there are keys.

    Written out by hand because the shape is fixed and every write makes many: 3 µs against 55 for the general one.
    """
    out = [b"\xa2\x61e" + _head(0x80, len(keys))]
    add, to_number = out.append, int.from_bytes
    previous, last_size, last_number = b"", 0, 0
    for index, key in enumerate(keys, 1):
        value, link = values[index - 1], links[index]
        # What shared_prefix does, without making each number twice: keys of one node mostly have one length.
        size, number = len(key), to_number(key, "big")
        if size == last_size:
            shared = size - ((number ^ last_number).bit_length() + 7 >> 3)
        else:
            shared = shared_prefix(previous, key)
        if len(value) != 36:
            add(b"%b%b%b%b\x61v%b" % (_SUFFIX[size - shared], key[shared:], _SHARED[shared], _link(link), _link(value)))
        elif link is None:
            add(_ENTRY_WITHOUT_TREE % (_SUFFIX[size - shared], key[shared:], _SHARED[shared], value))
        else:
            add(_ENTRY_WITH_TREE % (_SUFFIX[size - shared], key[shared:], _SHARED[shared], link, value))
        previous, last_size, last_number = key, size, number
    add(b"\x61l" + _link(links[0]))
    return b"".join(out)


_START = re.compile(rb"\xa2\x61e([\x80-\x97]|\x98.|\x99..)", re.DOTALL)
_ENTRY = re.compile(
    rb"(\xa4\x61k(?:[\x40-\x57]|\x58.))([A-Za-z0-9_~:./-]*)\x61p([\x00-\x17]|\x18.)"
    rb"\x61t(?:\xf6|\xd8\x2a\x58\x25\x00(\x01\x71\x12\x20.{32}))"
    rb"\x61v\xd8\x2a\x58\x25\x00(\x01[\x71\x55]\x12\x20.{32})",
    re.DOTALL,
)
"""An entry with a suffix and a shared prefix below 256 bytes and a record CID of the usual kind: all but a few."""
_FIXED = 6 + 1 + 41
"""Bytes of an entry beside what the groups hold: three names, a null, the record's link. A subtree's link takes four
more than its CID and the null.
"""
_END = re.compile(rb"\x61l(?:\xf6|\xd8\x2a\x58\x25\x00(\x01\x71\x12\x20.{32}))", re.DOTALL)

Parts: TypeAlias = tuple[list[bytes], list[bytes], list[bytes | None]]


def parse_node(block: bytes) -> Parts:
    """(keys, values, links) of a node block, CIDs as plain bytes. Raises BadTree if it is not the shape of a node.

    Not strict about prefix compression, order and layers: use decode_node for what others made.
    """
    start = _START.match(block)
    if start is None:
        raise BadTree("MST node does not have the shape of one")
    position = start.end()
    key = b""
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = []
    # Found entries might have something between them: that their lengths add up to the whole says that nothing is.
    for head, suffix, shared, link, value in _ENTRY.findall(block, position):
        if head != _SUFFIX[len(suffix)]:
            return _parse_unusual(block)
        key = key[: shared[-1]] + suffix
        keys.append(key)
        values.append(value)
        links.append(link or None)
        position += len(head) + len(suffix) + len(shared) + _FIXED + (len(link) + 4 if link else 0)
    end = _END.fullmatch(block, position)
    if end is None or start[1] != _head(0x80, len(keys)):
        return _parse_unusual(block)
    links.insert(0, end[1])
    return keys, values, links


def _parse_unusual(block: bytes) -> Parts:
    """parse_node for what the patterns do not know: very long keys, odd record CIDs and all that is wrong."""
    try:
        node = dag_cbor.decode(block)
    except BadData as problem:
        raise BadTree(f"MST node is {problem.message}") from None
    if type(node) is not dict or node.keys() != {"e", "l"} or type(node["e"]) is not list:
        raise BadTree("MST node does not have the shape of one")
    key = b""
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = [_subtree_link(node["l"])]
    for entry in node["e"]:
        if type(entry) is not dict or entry.keys() != {"k", "p", "t", "v"}:
            raise BadTree("MST entry does not have the shape of one")
        suffix, shared, value = entry["k"], entry["p"], entry["v"]
        if type(suffix) is not bytes or type(shared) is not int or type(value) is not Cid:
            raise BadTree("MST entry does not have the shape of one")
        if not 0 <= shared <= len(key) or shared + len(suffix) > MAX_KEY:
            raise BadTree("MST key is too long, or shares more than there is")
        key = key[:shared] + suffix
        keys.append(key)
        values.append(value)
        links.append(_subtree_link(entry["t"]))
    return keys, values, links


def _subtree_link(value: dag_cbor.Value) -> Cid | None:
    if value is not None and not (type(value) is Cid and value.is_cbor):
        raise BadTree("MST node links to a subtree by something else than a CID of one")
    return value


def decode_node(
    block: bytes,
    layer: int | None = None,
    low: bytes | None = None,
    high: bytes | None = None,
    cid: Cid | None = None,
) -> Node:
    """A node that someone else made, its subtrees as Stubs. Raises BadTree for everything but the one canonical form.

    `layer` is None for a root, else the layer its parent implies; `low` and `high` are the parent's keys around it;
    `cid` is given when the caller has already compared it with the block. Keys must be canonical in prefix compression,
    strictly ascending within the bounds, and all of the layer that their hash says.
    """
    keys, values, links = parse_node(block)
    if len(keys) > MAX_ENTRIES:
        raise BadTree(f"MST node has more than {MAX_ENTRIES} keys")
    layer = _check_layer(keys, links, layer)
    _check_keys(keys, layer, low, high)
    if encode_node(keys, values, links) != block:
        raise BadTree("MST node is not in canonical form")
    bounds = [low, *keys, high]
    trees = tuple(
        None if link is None else Stub(Cid(link), layer - 1, bounds[index], bounds[index + 1], "")
        for index, link in enumerate(links)
    )
    return Node(layer, tuple(keys), tuple(map(Cid, values)), trees, cid or Cid.of_cbor(block), block)


def _check_layer(keys: list[bytes], links: list[bytes | None], layer: int | None) -> int:
    if layer is None:
        if not keys and links[0] is not None:
            raise BadTree("MST root has no key but a subtree: it should have been trimmed")
        layer = key_layer(keys[0]) if keys else 0
        if layer > MAX_HEIGHT:
            raise BadTree(f"MST is higher than {MAX_HEIGHT} layers")
    elif not keys and links[0] is None:
        raise BadTree("MST holds an empty node below its root")
    if layer == 0 and any(link is not None for link in links):
        raise BadTree("MST node of layer 0 has a subtree")
    return layer


def _check_keys(keys: list[bytes], layer: int, low: bytes | None, high: bytes | None) -> None:
    previous = low
    for key in keys:
        if len(key) > MAX_KEY or _KEY.fullmatch(key) is None:
            raise BadTree("MST key is not a record path")
        if previous is not None and key <= previous:
            raise BadTree("MST keys are not in ascending order")
        if key_layer(key) != layer:
            raise BadTree("MST key lies in a layer that is not its own")
        previous = key
    if high is not None and previous is not None and previous >= high:
        raise BadTree("MST keys are not in ascending order")
