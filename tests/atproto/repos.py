"""Repos for tests: keys of every layer, a slow and obvious tree, and a repo kept beside a plain dict."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from hashlib import sha256, sha512

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.node import Node, Stub
from pds_lite.atproto.mst.tree import build, rebuild, seal
from pds_lite.atproto.repo import CommitPlan, Head, Write, build_commit
from pds_lite.atproto.tid import make_tid

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def slow_layer(key: bytes) -> int:
    """Pairs of leading zero bits, counted."""
    bits = "".join(f"{byte:08b}" for byte in sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def _mine() -> list[list[bytes]]:
    layers: list[list[bytes]] = [[] for _ in range(7)]
    for number in range(40_000):
        digest = sha256(b"%d" % number).hexdigest()
        key = f"com.example.{'abc'[number % 3]}/{digest[:10]}".encode()
        layer = slow_layer(key)
        if layer < len(layers) and len(layers[layer]) < 12:
            layers[layer].append(key)
    return layers


LAYERS = _mine()
"""Twelve keys (a few at the top) of each layer from 0 to 6."""
KEYS = [key for layer in LAYERS for key in layer]


def slow_root(records: Mapping[bytes, Cid]) -> Cid:
    """The root of a tree written from the definition, with the general codec: no code shared with mst."""
    top = max(map(slow_layer, records), default=0)
    cid = _slow_node(sorted(records.items()), top)
    return cid or Cid.of_cbor(dag_cbor.encode({"e": [], "l": None}))


def _slow_node(records: list[tuple[bytes, Cid]], layer: int) -> Cid | None:
    if not records:
        return None
    cuts = [index for index, (key, _) in enumerate(records) if slow_layer(key) == layer]
    entries: list[dag_cbor.Value] = []
    last = b""
    for cut, following in zip(cuts, [*cuts, len(records)][1:], strict=True):
        key, value = records[cut]
        shared = 0
        while shared < min(len(last), len(key)) and last[shared] == key[shared]:
            shared += 1
        subtree = _slow_node(records[cut + 1 : following], layer - 1)
        entries.append({"k": key[shared:], "p": shared, "t": subtree, "v": value})
        last = key
    left = _slow_node(records[: cuts[0]] if cuts else records, layer - 1)
    return Cid.of_cbor(dag_cbor.encode({"e": entries, "l": left}))


def full_tree(records: Mapping[bytes, Cid], rev: str = "") -> Node:
    """The sealed tree of these records, all in memory."""
    root = build(sorted(records.items()))
    seal(root, rev)
    return root


class Records:
    """Where `load` finds the records of a Stub. Counts what was loaded."""

    def __init__(self, records: Mapping[bytes, Cid]) -> None:
        self.entries = sorted(records.items())
        self.keys = [key for key, _ in self.entries]
        self.loads: list[Stub] = []

    def load(self, stub: Stub) -> Node:
        self.loads.append(stub)
        start = 0 if stub.low is None else bisect_right(self.keys, stub.low)
        stop = len(self.keys) if stub.high is None else bisect_left(self.keys, stub.high)
        return rebuild(stub, self.entries[start:stop])


def some_sign(message: bytes) -> bytes:
    """64 bytes in the place of a signature, for tests that do not verify it."""
    return sha512(message).digest()


def record(content: str) -> tuple[Cid, bytes]:
    block = dag_cbor.encode({"$type": "com.example.a", "text": content})
    return Cid.of_cbor(block), block


def create(path: bytes, content: str = "x") -> Write:
    return Write("create", path, *record(content))


def update(path: bytes, content: str) -> Write:
    return Write("update", path, *record(content))


def delete(path: bytes) -> Write:
    return Write("delete", path)


class ModelRepo:
    """A repo as the store keeps it: the records in a dict, the tree sparse."""

    def __init__(self, sign=some_sign) -> None:
        self.records: dict[bytes, Cid] = {}
        self.head: Head | None = None
        self.sign = sign
        self.commits = 0

    def plan(self, writes: Iterable[Write]) -> CommitPlan:
        rev = make_tid(1_700_000_000_000_000 + self.commits, 0)
        return build_commit(DID, self.head, list(writes), rev, self.sign, Records(self.records).load)

    def commit(self, writes: Iterable[Write]) -> CommitPlan:
        plan = self.plan(writes)
        for write in plan.writes:
            if write.cid is None:
                del self.records[write.path]
            else:
                self.records[write.path] = write.cid
        self.head = plan.head
        self.commits += 1
        return plan
