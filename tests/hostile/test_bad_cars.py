"""Broken, foreign and mined repositories uploaded to a real server process: refused by name, nothing changed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import encode_block, encode_header, read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import sign_commit
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.mst.node import key_layer, shared_prefix
from pds_lite.atproto.mst.tree import build, seal
from pds_lite.atproto.tid import make_tid
from pds_lite.atproto.varint import encode_varint
from tests.hostile.answers import CAR, THING, R, refused, status_and_error
from tests.live_box import Answer
from tests.served_box import Client, ServedBox


class Made:
    """A repository made by hand: everything can be set wrong before `car`."""

    def __init__(self, box: ServedBox, count: int = 60) -> None:
        self.did = box.did
        self.key = box.signing_key
        self.rev = make_tid(int(time.time() * 1_000_000), 0)
        self.records: dict[bytes, bytes] = {}
        for number in range(count):
            block = dag_cbor.encode({"$type": THING, "n": number + 1000})
            self.records[f"{THING}/m{number}".encode()] = block
        self.root: Cid | None = None
        self.nodes: list[tuple[Cid, bytes]] | None = None

    def blocks(self) -> list[tuple[Cid, bytes]]:
        """Commit, nodes, records, in this order."""
        pairs = {path: (Cid.of_cbor(block), block) for path, block in self.records.items()}
        if self.nodes is None:
            root = build(sorted((path, cid) for path, (cid, _block) in pairs.items()))
            self.nodes = seal(root, "")
            self.root = self.root or root.cid
        assert self.root is not None
        commit = sign_commit(self.did, self.rev, self.root, self.key.sign)
        return [commit, *self.nodes, *pairs.values()]

    def car(self) -> bytes:
        blocks = self.blocks()
        return b"".join(write_car(blocks[0][0], blocks))


def bring(client: Client, car: bytes) -> Answer:
    return client.post(R + "importRepo", car, CAR)


def refused_import(client: Client, car: bytes) -> str:
    return refused(bring(client, car))


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_car(client: Client, box: ServedBox, part: float) -> None:
    car = Made(box).car()
    for cut in range(3):
        refused_import(client, car[: int(len(car) * part) + cut])


def test_a_car_with_a_wrong_bit_anywhere(client: Client, box: ServedBox) -> None:
    car = Made(box, 10).car()
    for place in range(0, len(car), 61):
        broken = bytearray(car)
        broken[place] ^= 0x10
        refused_import(client, bytes(broken))


def test_a_car_that_lacks_a_block(client: Client, box: ServedBox) -> None:
    blocks = Made(box, 30).blocks()
    for missing in range(len(blocks)):
        rest = blocks[:missing] + blocks[missing + 1 :]
        refused_import(client, b"".join(write_car(blocks[0][0], rest)))


def test_a_car_that_is_none(client: Client, box: ServedBox) -> None:
    cid = Made(box, 1).blocks()[0][0]
    for header in ({"version": 2, "roots": [cid]}, {"version": 1, "roots": []}, {"version": 1}, {"roots": [cid]}, {}):
        content = dag_cbor.encode(header)
        refused_import(client, encode_varint(len(content)) + content)
    for junk in (b"\0", b"\xff" * 10, b"\xff" * 100, encode_varint(1 << 40), b"\x05hello", os.urandom(5000), b"[]"):
        refused_import(client, junk)
    refused_import(client, encode_header(cid) + encode_varint(1 << 60) + b"x")
    refused_import(client, encode_header(cid) + encode_varint(3) + b"abc")
    refused_import(client, encode_header(cid) + b"\x00" * 1000)


def another_did(made: Made) -> None:
    made.did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def another_key(made: Made) -> None:
    made.key = K256Key.from_bytes(b"\x07" * 32)


def the_future(made: Made) -> None:
    made.rev = make_tid(int(time.time() * 1_000_000) + 3_600_000_000, 0)


def the_past(made: Made) -> None:
    made.rev = make_tid(1_600_000_000_000_000, 0)


@pytest.mark.parametrize("change", [another_did, another_key, the_future, the_past])
def test_a_foreign_commit(client: Client, box: ServedBox, change: Callable[[Made], None]) -> None:
    made = Made(box)
    change(made)
    refused_import(client, made.car())


def commit_of(made: Made, **fields: Any) -> bytes:
    """A CAR whose commit block has these fields; its signature is over them."""
    root = node([])
    value: dict[str, Any] = {"did": made.did, "version": 3, "rev": made.rev, "data": root[0], "prev": None, **fields}
    value = {name: field for name, field in value.items() if field is not ...}
    signed = dag_cbor.encode({"sig": made.key.sign(dag_cbor.encode(value)), **value} if "sig" not in value else value)
    cid = Cid.of_cbor(signed)
    return b"".join(write_car(cid, [(cid, signed), root]))


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"version": 4},
        {"rev": "not a tid"},
        {"rev": 5},
        {"data": None},
        {"data": "text"},
        {"did": "nobody"},
        {"did": ...},
        {"prev": "text"},
        {"sig": bytes(64)},
        {"sig": b"\xff" * 64},
        {"sig": b""},
        {"more": 1},
        {"more": "x" * 100_000},
    ],
    ids=str,
)
def test_a_commit_of_the_wrong_shape(client: Client, box: ServedBox, fields: dict[str, Any]) -> None:
    refused_import(client, commit_of(Made(box), **fields))


def node(entries: list[dict[str, Any]], left: Cid | None = None) -> tuple[Cid, bytes]:
    block = dag_cbor.encode({"e": entries, "l": left})  # type: ignore[dict-item]
    return Cid.of_cbor(block), block


def entry(key: bytes, value: Cid, shared: int = 0, right: Cid | None = None) -> dict[str, Any]:
    return {"k": key, "p": shared, "t": right, "v": value}


RECORD = dag_cbor.encode({"$type": THING})
LEAF = Cid.of_cbor(RECORD)
A, B = b"com.example.thing/aaa", b"com.example.thing/ddd"


def tall_chain(height: int) -> list[tuple[Cid, bytes]]:
    """Empty nodes down to one key: a tree as high as somebody wants."""
    nodes = [node([entry(A, LEAF)])]
    for _ in range(height):
        nodes.append(node([], nodes[-1][0]))
    return nodes[::-1]


def in_two_places() -> list[tuple[Cid, bytes]]:
    leaf = node([entry(B, LEAF)])
    return [node([entry(A, LEAF, right=leaf[0])], leaf[0]), leaf]


TREES: dict[str, Callable[[], list[tuple[Cid, bytes]]]] = {
    "33 layers": lambda: tall_chain(33),
    "20,000 layers": lambda: tall_chain(20_000),
    "an empty root over one key": lambda: tall_chain(1),
    "out of order": lambda: [node([entry(B, LEAF), entry(A, LEAF)])],
    "a key twice": lambda: [node([entry(A, LEAF), entry(b"", LEAF, len(A))])],
    "uncompressed prefix": lambda: [node([entry(A, LEAF), entry(B, LEAF)])],
    "prefix longer than the key before": lambda: [node([entry(A, LEAF), entry(b"x", LEAF, 900)])],
    "prefix at the start": lambda: [node([entry(A, LEAF, 5)])],
    "negative prefix": lambda: [node([entry(A, LEAF, -1)])],
    "no slash": lambda: [node([entry(b"nothing", LEAF)])],
    "three parts": lambda: [node([entry(b"com.example.a/b/c", LEAF)])],
    "dots": lambda: [node([entry(b"com.example.a/..", LEAF)])],
    "no nsid": lambda: [node([entry(b"-/a", LEAF)])],
    "a key of 5,000 letters": lambda: [node([entry(b"com.example.a/" + b"x" * 5000, LEAF)])],
    "bytes that are no text": lambda: [node([entry(b"com.example.a/\xff", LEAF)])],
    "an empty key": lambda: [node([entry(b"", LEAF)])],
    "a field too many": lambda: [node([{**entry(A, LEAF), "x": 1}])],
    "a value that is null": lambda: [node([{**entry(A, LEAF), "v": None}])],
    "a key that is text": lambda: [node([{**entry(A, LEAF), "k": A.decode()}])],
    "entries that are no list": lambda: [_of({"e": {}, "l": None})],
    "no left": lambda: [_of({"e": []})],
    "a list": lambda: [_of([])],
    "a record": lambda: [_of({"$type": THING})],
    "one subtree in two places": in_two_places,
}


def _of(value: Any) -> tuple[Cid, bytes]:
    block = dag_cbor.encode(value)
    return Cid.of_cbor(block), block


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_nobody_may_build(client: Client, box: ServedBox, name: str) -> None:
    made = Made(box, 0)
    made.nodes = TREES[name]()
    made.root = made.nodes[0][0]
    commit, *_rest = made.blocks()
    refused_import(client, b"".join(write_car(commit[0], [commit, *made.nodes, (LEAF, RECORD)])))


def test_keys_mined_for_one_wide_node(client: Client, box: ServedBox) -> None:
    """Thousands of keys that all hash to the lowest layer, so that one node has to hold them."""
    entries, last = [], b""
    keys = [path for path in (b"com.example.m/%06d" % number for number in range(9000)) if key_layer(path) == 0]
    assert len(keys) > 4096
    for key in keys:
        shared = shared_prefix(last, key)
        entries.append(entry(key[shared:], LEAF, shared))
        last = key
    made = Made(box, 0)
    made.nodes = [node(entries)]
    made.root = made.nodes[0][0]
    commit, *_rest = made.blocks()
    refused_import(client, b"".join(write_car(commit[0], [commit, *made.nodes, (LEAF, RECORD)])))


OLD_RECORDS = {
    "a float": b"\xa1\x61v\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00",
    "a long integer": b"\xa1\x61a\x18\x01",
    "keys out of order": b"\xa2\x61b\x01\x61a\x01",
}
"""Not canonical, but signed long ago, and every implementation reads them: an import keeps them byte for byte."""
BAD_RECORDS = {
    "not cbor": b"\xff\xff\xff",
    "truncated": RECORD[:-1],
    "more after the end": RECORD + b"\x00",
    "indefinite length": b"\xbf\x61a\x01\xff",
    "a key twice": b"\xa2\x61a\x01\x61a\x01",
    "a key that is no text": b"\xa1\x01\x01",
    "a foreign tag": b"\xa1\x61a\xc1\x01",
    "undefined": b"\xa1\x61a\xf7",
    "a big integer": b"\xa1\x61a\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    "text that is no utf-8": b"\xa1\x61a\x61\xff",
    "a link that is none": b"\xa1\x61a\xd8\x2a\x41\x00",
    "a list": b"\x80",
    "text": b"\x63abc",
    "null": b"\xf6",
    "nothing": b"",
    "deep lists": b"\x81" * 100_000 + b"\x80",
    "deep maps": b"\xa1\x61a" * 50_000 + b"\xa0",
    "a list that claims 2^40 items": b"\x9b\x00\x00\x01\x00\x00\x00\x00\x00",
    "text that claims 2^40 bytes": b"\x7b\x00\x00\x01\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_record_that_is_no_record(client: Client, box: ServedBox, name: str) -> None:
    made = Made(box, 20)
    made.records[THING.encode() + b"/bad"] = BAD_RECORDS[name]
    refused_import(client, made.car())


def test_a_record_over_its_limit_in_a_car(client: Client, box: ServedBox) -> None:
    made = Made(box, 3)
    made.records[THING.encode() + b"/large"] = dag_cbor.encode({"t": "x" * 5_000_000})
    refused_import(client, made.car())


def test_a_car_full_of_junk(client: Client, box: ServedBox, token: str) -> None:
    """120,000 blocks and 60 MB that belong to nothing are spooled, not held."""
    cid = Made(box, 1).blocks()[0][0]
    blocks = [os.urandom(450) for _ in range(1000)]

    def pieces() -> Iterator[bytes]:
        yield encode_header(cid)
        for number in range(120):
            yield b"".join(
                encode_block(Cid.of_cbor(block), block) for block in (b"%d" % number + block for block in blocks)
            )

    with socket.create_connection(("127.0.0.1", box.port), timeout=60) as connection:
        top = f"POST /xrpc/{R}importRepo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(f"{top}Content-Type: {CAR}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in pieces():
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert status_and_error(connection.recv(65536)) == (400, "InvalidRequest")


def test_good_repositories_are_taken_after_all_that(client: Client, box: ServedBox) -> None:
    """What was refused held nothing up; and what these tests spoil is good until they do."""
    exported = client.get("com.atproto.sync.getRepo", did=box.did)
    assert bring(client, exported.body).status == 200
    listed = client.get(R + "listRecords", repo=box.did, collection=THING, limit=100).json["records"]
    assert len(listed) == 40
    made = Made(box)
    made.records |= {f"{THING}/old-{number}".encode(): block for number, block in enumerate(OLD_RECORDS.values())}
    assert bring(client, made.car()).status == 200
    kept = read_car(client.get("com.atproto.sync.getRepo", did=box.did).body)[1]
    assert set(OLD_RECORDS.values()) <= set(kept.values())
    assert key_layer(A) == key_layer(B) == 0
    by_hand = Made(box, 0)
    by_hand.nodes = [node([entry(A, LEAF), entry(b"ddd", LEAF, len(A) - 3)])]
    by_hand.root = by_hand.nodes[0][0]
    commit, *_rest = by_hand.blocks()
    assert bring(client, b"".join(write_car(commit[0], [commit, *by_hand.nodes, (LEAF, RECORD)]))).status == 200
    assert bring(client, commit_of(Made(box))).status == 200
    listed = client.get(R + "listRecords", repo=box.did, collection=THING, limit=100).json["records"]
    assert listed == []
    fresh = {"repo": box.did, "collection": THING, "rkey": "fresh", "record": {"$type": THING}}
    assert client.post(R + "createRecord", fresh).status == 200
    assert client.post(R + "uploadBlob", b"small", "text/plain").status == 200
