"""One node of a Merkle search tree and its block (specs/repository, "MST Structure").

A node holds the keys of one layer and the subtrees between them: `trees[i]` lies before `keys[i]`, `trees[i + 1]` after
it. A subtree that is not in memory is a Stub, which knows its CID and the open interval of keys it covers. Nodes are
immutable values with one exception: `seal` in mst.tree fills in cid, block and rev of nodes just made, once.

This module knows shapes and bytes of single nodes, not how trees change.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

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


def key_layer(key: bytes) -> int:
    """The layer of a key: pairs of leading zero bits in its sha256. Each layer has a quarter of the keys below it."""
    digest = sha256(key).digest()
    if digest[0] >= 64:
        return 0
    return (256 - int.from_bytes(digest, "big").bit_length()) >> 1


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many leading bytes two keys have in common."""
    size = min(len(left), len(right))
    difference = int.from_bytes(left[:size], "big") ^ int.from_bytes(right[:size], "big")
    return size - ((difference.bit_length() + 7) >> 3)


def block_of(node: Node) -> bytes:
    """The block of a sealed node, made again if it was dropped to save memory."""
    return node.block or encode_node(
        node.keys, node.values, [None if tree is None else tree.cid for tree in node.trees]
    )


_NULL = b"\xf6"
_LINK = b"\xd8\x2a\x58\x25\x00"
"""Tag 42, a byte string of 37 bytes, the multibase zero: what stands before every blessed CID."""


def _head(major: int, number: int) -> bytes:
    """The shortest CBOR head, for numbers below 2^16."""
    if number < 24:
        return bytes((major | number,))
    return bytes((major | 24, number)) if number < 256 else bytes((major | 25, number >> 8, number & 255))


_UINT = [_head(0x00, number) for number in range(MAX_KEY + 1)]
_BYTES = [_head(0x40, number) for number in range(MAX_KEY + 1)]


def _encode_link(cid: Cid | None) -> bytes:
    if cid is None:
        return _NULL
    return _LINK + cid if len(cid) == 36 else b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\0" + cid


def encode_node(keys: Sequence[bytes], values: Sequence[Cid], links: Sequence[Cid | None]) -> bytes:
    """The DAG-CBOR block of a node; `links` are the CIDs of its subtrees, one more than there are keys.

    Written out by hand because the shape is fixed and every write makes several: 4 µs against 55 for the general codec.
    """
    out = [b"\xa2\x61e", _head(0x80, len(keys))]
    previous = b""
    for key, value, link in zip(keys, values, links[1:], strict=True):
        shared = shared_prefix(previous, key) if previous else 0
        suffix = key[shared:]
        tree = b"\x61t\xf6\x61v" if link is None else b"\x61t" + _LINK + link + b"\x61v"
        out += (b"\xa4\x61k", _BYTES[len(suffix)], suffix, b"\x61p", _UINT[shared], tree, _encode_link(value))
        previous = key
    out += (b"\x61l", _encode_link(links[0]))
    return b"".join(out)


class _Reader:
    """Reads the fixed shape of a node block. What it lets through may still be non-canonical."""

    __slots__ = ("block", "position")

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.position = 0

    def expect(self, text: bytes) -> None:
        end = self.position + len(text)
        if self.block[self.position : end] != text:
            raise BadTree("MST node does not have the shape of one")
        self.position = end

    def head(self, major: int) -> int:
        """The number in a head of this major type, below 2^16."""
        block, position = self.block, self.position
        number = block[position] - major
        if 0 <= number < 24:
            self.position = position + 1
            return number
        if number == 24:
            self.position = position + 2
            return block[position + 1]
        if number == 25:
            self.position = position + 3
            return block[position + 1] << 8 | block[position + 2]
        raise BadTree("MST node holds something of the wrong type or size")

    def take(self, size: int) -> bytes:
        start = self.position
        self.position = start + size
        return self.block[start : start + size]

    def value(self) -> Cid:
        if self.block.startswith(_LINK, self.position):
            self.position += 5
            return Cid.decode(self.take(36))
        self.expect(b"\xd8\x2a")
        size = self.head(0x40)
        self.expect(b"\0")
        return Cid.decode(self.take(size - 1))

    def link(self) -> Cid | None:
        if self.block.startswith(_NULL, self.position):
            self.position += 1
            return None
        cid = self.value()
        if not cid.is_cbor:
            raise BadTree("MST node links to a subtree by a CID of another kind")
        return cid


def parse_node(block: bytes) -> tuple[list[bytes], list[Cid], list[Cid | None]]:
    """(keys, values, links) of a node block. Raises BadTree if it does not have the shape of a node.

    Not strict: use decode_node for what others made.
    """
    reader = _Reader(block)
    keys: list[bytes] = []
    values: list[Cid] = []
    links: list[Cid | None] = []
    try:
        reader.expect(b"\xa2\x61e")
        count = reader.head(0x80)
        if count > MAX_ENTRIES:
            raise BadTree(f"MST node has more than {MAX_ENTRIES} keys")
        key = b""
        for _ in range(count):
            reader.expect(b"\xa4\x61k")
            suffix = reader.take(reader.head(0x40))
            reader.expect(b"\x61p")
            key = key[: reader.head(0)] + suffix
            reader.expect(b"\x61t")
            links.append(reader.link())
            reader.expect(b"\x61v")
            keys.append(key)
            values.append(reader.value())
        reader.expect(b"\x61l")
        links.insert(0, reader.link())
    except IndexError:
        raise BadTree("MST node is cut short") from None
    except BadData as problem:
        raise BadTree(f"MST node holds a bad CID: {problem.message}") from None
    if reader.position != len(block):
        raise BadTree("MST node has bytes behind its end")
    return keys, values, links


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
    layer = _check_layer(keys, links, layer)
    _check_keys(keys, layer, low, high)
    if encode_node(keys, values, links) != block:
        raise BadTree("MST node is not in canonical form")
    bounds = [low, *keys, high]
    trees = tuple(
        None if link is None else Stub(link, layer - 1, bounds[index], bounds[index + 1], "")
        for index, link in enumerate(links)
    )
    return Node(layer, tuple(keys), tuple(values), trees, cid or Cid.of_cbor(block), block)


def _check_layer(keys: list[bytes], links: list[Cid | None], layer: int | None) -> int:
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
