"""One node: its layer, its bytes, and what is refused in those that others made."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst import node as node_module
from pds_lite.atproto.mst.node import Stub, block_of, decode_node, encode_node, key_layer, parse_node, shared_prefix
from pds_lite.errors import BadTree
from tests.atproto.repos import KEYS, LAYERS, slow_layer

VALUE = Cid.of_cbor(b"record")
CHILD = Cid.of_cbor(b"child")
ODD = Cid(b"\x01\x71\x13\x40" + b"\x07" * 64)
"""A record CID of another hash function, as a foreign repo may hold."""


@pytest.mark.interop
def test_layers_are_those_of_the_vectors(vectors):
    for case in json.loads((vectors / "mst" / "key_heights.json").read_text()):
        assert key_layer(case["key"].encode()) == case["height"]
    for key in (vectors / "mst" / "example_keys.txt").read_text().split():
        assert key_layer(key.encode()) == int(key[1])


@pytest.mark.interop
def test_shared_prefixes_are_those_of_the_vectors(vectors):
    for case in json.loads((vectors / "mst" / "common_prefix.json").read_text()):
        assert shared_prefix(case["left"].encode(), case["right"].encode()) == case["len"]


@given(st.binary(max_size=40))
def test_a_layer_is_half_the_leading_zero_bits(key):
    assert key_layer(key) == slow_layer(key)


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_a_shared_prefix_is_the_longest_one(prefix, left, right):
    left, right = prefix + left, prefix + right
    size = shared_prefix(left, right)
    assert left[:size] == right[:size]
    assert size == min(len(left), len(right)) or left[size] != right[size]


part = st.text("abAB09._~:-", min_size=1, max_size=300).map(str.encode)
keys = st.lists(st.builds(lambda a, b: a + b"/" + b, part, part), max_size=6, unique=True).map(sorted)
links = st.sampled_from([None, CHILD, Cid.of_cbor(b"other")])
value_cids = st.sampled_from([VALUE, Cid.of_raw(b"x"), ODD])


@st.composite
def node_parts(draw):
    node_keys = draw(keys)
    size = len(node_keys)
    values = draw(st.lists(value_cids, min_size=size, max_size=size))
    return node_keys, values, draw(st.lists(links, min_size=size + 1, max_size=size + 1))


def slow_block(node_keys, values, node_links) -> bytes:
    entries, last = [], b""
    for key, value, link in zip(node_keys, values, node_links[1:], strict=True):
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        entries.append({"k": key[shared:], "p": shared, "t": link, "v": value})
        last = key
    return dag_cbor.encode({"e": entries, "l": node_links[0]})


@given(node_parts())
def test_blocks_are_what_the_general_codec_writes_and_read_back_the_same(parts):
    block = encode_node(*parts)
    assert block == slow_block(*parts)
    assert parse_node(block) == parts
    assert node_module._parse_unusual(block) == parts


@settings(max_examples=150)
@given(node_parts(), st.data())
def test_a_damaged_block_is_read_as_the_general_reader_does_or_refused(parts, data):
    block = bytearray(encode_node(*parts))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(block) - 1))
        block[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
        if not block:
            return
    answers = []
    for read in (parse_node, node_module._parse_unusual, decode_node):
        try:
            answers.append(read(bytes(block)))
        except BadTree:
            answers.append(None)
    if answers[1] is not None:
        assert answers[0] == answers[1]
    if answers[2] is not None:
        assert encode_node(*answers[0]) == block


def test_a_decoded_node_knows_its_children_and_their_bounds():
    low, high = sorted(LAYERS[2][:2])
    block = encode_node([low, high], [VALUE, ODD], [CHILD, None, CHILD])
    node = decode_node(block)
    assert (node.layer, node.keys, node.values, node.cid) == (2, (low, high), (VALUE, ODD), Cid.of_cbor(block))
    assert node.trees == (Stub(CHILD, 1, None, low, ""), None, Stub(CHILD, 1, high, None, ""))
    assert block_of(node) == block
    node.block = b""
    assert block_of(node) == block


def test_bounds_of_a_subtree_reach_its_children():
    first, middle, last = sorted(LAYERS[1][:3])
    node = decode_node(encode_node([middle], [VALUE], [CHILD, CHILD]), 1, first, last)
    assert [(tree.low, tree.high) for tree in node.trees] == [(first, middle), (middle, last)]


def test_the_empty_tree_is_one_empty_node_and_an_empty_subtree_is_refused():
    empty = encode_node([], [], [None])
    assert decode_node(empty).keys == ()
    with pytest.raises(BadTree, match="empty node"):
        decode_node(empty, 3)


def test_a_keyless_node_may_only_stand_between():
    bridge = encode_node([], [], [CHILD])
    assert decode_node(bridge, 3).trees == (Stub(CHILD, 2, None, None, ""),)
    with pytest.raises(BadTree, match="trimmed"):
        decode_node(bridge)
    with pytest.raises(BadTree, match="layer 0 has a subtree"):
        decode_node(bridge, 0)


A, B = sorted(LAYERS[0][:2])


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"", "shape"),
        (b"\xa2ae\x80", "not DAG-CBOR|cut short"),
        (dag_cbor.encode({"e": []}), "shape"),
        (dag_cbor.encode({"e": [], "l": 5}), "something else"),
        (dag_cbor.encode({"e": [], "l": Cid.of_raw(b"")}), "something else"),
        (dag_cbor.encode({"e": [{"k": A, "p": 0, "t": None}], "l": None}), "entry"),
        (dag_cbor.encode({"e": [{"k": A, "p": 0, "t": None, "v": None}], "l": None}), "entry"),
        (dag_cbor.encode({"e": [{"k": A, "p": 3, "t": None, "v": VALUE}], "l": None}), "canonical"),
        (dag_cbor.encode({"e": [{"k": A, "p": -1, "t": None, "v": VALUE}], "l": None}), "shares more"),
        (encode_node([A], [VALUE], [None, None]) + b"\0", "DAG-CBOR"),
        (encode_node([A], [VALUE], [None, None])[:-1], "cut short|DAG-CBOR"),
        (encode_node([B, A], [VALUE, VALUE], [None] * 3), "ascending"),
        (encode_node([A, A], [VALUE, VALUE], [None] * 3), "ascending"),
        (encode_node(sorted([A, LAYERS[1][0]]), [VALUE, VALUE], [None] * 3), "not its own"),
        (encode_node([A], [VALUE], [CHILD, None]), "layer 0 has a subtree"),
        (encode_node([b"no-slash"], [VALUE], [None, None]), "record path"),
        (encode_node([b"a/b/c"], [VALUE], [None, None]), "record path"),
        (encode_node([b"a/\xff"], [VALUE], [None, None]), "record path"),
    ],
)
def test_what_is_not_canonical_is_refused_by_name(block, reason):
    with pytest.raises(BadTree, match=reason):
        decode_node(block, 0)


def test_a_key_longer_than_the_reference_allows_is_refused():
    entry = {"k": b"a/" + b"b" * 1023, "p": 0, "t": None, "v": VALUE}
    with pytest.raises(BadTree, match="too long"):
        decode_node(dag_cbor.encode({"e": [entry], "l": None}))


def test_prefixes_that_are_not_compressed_are_refused():
    entries = [{"k": key, "p": 0, "t": None, "v": VALUE} for key in (A, B)]
    with pytest.raises(BadTree, match="canonical form"):
        decode_node(dag_cbor.encode({"e": entries, "l": None}))


def test_a_head_that_is_not_the_shortest_is_refused():
    block = encode_node([b"a/b"], [VALUE], [None, None])
    longer = block.replace(b"\x43a/b", b"\x58\x03a/b")
    assert longer != block
    with pytest.raises(BadTree):
        decode_node(longer)


def test_keys_outside_the_bounds_of_the_parent_are_refused():
    block = encode_node([A], [VALUE], [None, None])
    decode_node(block, 0, A[:-1], B)
    for low, high in ((A, None), (B, None), (None, A)):
        with pytest.raises(BadTree, match="ascending"):
            decode_node(block, 0, low, high)


def test_mined_nodes_are_bounded_in_width_and_height(monkeypatch):
    monkeypatch.setattr(node_module, "MAX_ENTRIES", 2)
    node_keys = sorted(LAYERS[0][:3])
    with pytest.raises(BadTree, match="more than 2 keys"):
        decode_node(encode_node(node_keys, [VALUE] * 3, [None] * 4))
    decode_node(encode_node(node_keys[:2], [VALUE] * 2, [None] * 3))
    monkeypatch.setattr(node_module, "MAX_HEIGHT", 3)
    with pytest.raises(BadTree, match="higher than 3"):
        decode_node(encode_node([LAYERS[4][0]], [VALUE], [None, None]))


def test_the_keys_of_these_tests_are_of_the_layers_they_say():
    assert [slow_layer(key) for layer in LAYERS[:6] for key in layer] == [n for n in range(6) for _ in range(12)]
    assert len(KEYS) >= 73
