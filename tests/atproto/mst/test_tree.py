"""Trees: every way to the same records gives the same root, and old roots stay."""

import json

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst import tree as tree_module
from pds_lite.atproto.mst.node import MAX_KEY, Node, Stub, block_of
from pds_lite.atproto.mst.tree import (
    EMPTY,
    build,
    build_sparse,
    change,
    checked_load,
    delete,
    get,
    no_load,
    put,
    rebuild,
    seal,
    sparsify,
    walk,
    walk_nodes,
)
from pds_lite.errors import BadTree, StoreBroken, TooLarge
from tests.atproto.repos import KEYS, LAYERS, Records, full_tree, slow_layer, slow_root

VALUE = Cid.of_cbor(b"record")
OTHER = Cid.of_cbor(b"other")
RECORDS = {key: Cid.of_cbor(key) for key in KEYS}


def put_all(records, root=EMPTY):
    for key, cid in records.items():
        root = put(root, key, cid, no_load)
    return root


def test_the_empty_tree_has_the_well_known_root():
    assert str(EMPTY.cid) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
    assert Cid.of_cbor(block_of(EMPTY)) == EMPTY.cid == slow_root({})
    assert seal(EMPTY, "x") == []
    assert list(walk(EMPTY, no_load)) == []


@pytest.mark.interop
def test_roots_are_those_of_the_vectors(vectors):
    for case in json.loads((vectors / "firehose" / "commit-proof-fixtures.json").read_text()):
        value = Cid.parse(case["leafValue"])
        records = {key.encode(): value for key in case["keys"]}
        root = put_all(records)
        seal(root, "")
        assert str(root.cid) == case["rootBeforeCommit"], case["comment"]
        for key in case["adds"]:
            root = put(root, key.encode(), value, no_load)
        for key in case["dels"]:
            root = delete(root, key.encode(), no_load)
        seal(root, "")
        assert str(root.cid) == case["rootAfterCommit"], case["comment"]


def test_the_order_of_puts_does_not_matter():
    forward, backward = put_all(RECORDS), put_all(dict(reversed(RECORDS.items())))
    seal(forward, "")
    seal(backward, "")
    assert forward.cid == backward.cid == full_tree(RECORDS).cid == slow_root(RECORDS)


def test_every_single_key_makes_a_tree_and_its_delete_the_empty_one():
    for key in KEYS:
        root = put(EMPTY, key, VALUE, no_load)
        seal(root, "")
        assert root.cid == slow_root({key: VALUE})
        assert delete(root, key, no_load) is EMPTY


def test_every_pair_of_keys_merges_and_splits_right():
    """Covers each distance of layers, in both orders, with the empty nodes between."""
    for first in KEYS[::3]:
        for second in KEYS[1::3]:
            root = put_all({first: VALUE, second: OTHER})
            seal(root, "")
            assert root.cid == slow_root({first: VALUE, second: OTHER})
            for gone, kept in ((first, {second: OTHER}), (second, {first: VALUE})):
                rest = delete(root, gone, no_load)
                seal(rest, "")
                assert rest.cid == slow_root(kept)


def test_get_finds_what_is_there_and_nothing_else():
    some = dict(list(RECORDS.items())[::2])
    root = full_tree(some)
    for key in KEYS:
        assert get(root, key, no_load) == some.get(key)


def test_change_tells_what_was_there_and_keeps_the_root_when_nothing_changes():
    root = full_tree(RECORDS)
    key = LAYERS[0][0]
    assert change(root, key, RECORDS[key], no_load) == (root, RECORDS[key])
    assert change(root, b"com.example.a/none", None, no_load) == (root, None)
    updated, previous = change(root, key, OTHER, no_load)
    assert previous == RECORDS[key]
    assert get(updated, key, no_load) == OTHER
    assert get(root, key, no_load) == RECORDS[key], "the old root is a snapshot"


def test_keys_of_the_greatest_length_are_taken_and_longer_ones_refused():
    key = b"a" * 317 + b"/" + b"r" * 512
    root = put(EMPTY, key, VALUE, no_load)
    seal(root, "")
    assert root.cid == slow_root({key: VALUE})
    with pytest.raises(TooLarge):
        put(EMPTY, b"k" * (MAX_KEY + 1), VALUE, no_load)


def test_a_batch_encodes_each_new_node_once(monkeypatch):
    calls = []
    encode = tree_module.encode_node
    monkeypatch.setattr(tree_module, "encode_node", lambda *parts: calls.append(1) or encode(*parts))
    root = put_all(RECORDS)
    assert calls == []
    blocks = seal(root, "rev")
    assert len(calls) == len(blocks) == len(list(walk_nodes(root, no_load)))
    assert seal(root, "other") == []
    assert all(node.rev == "rev" for node in walk_nodes(root, no_load))


def test_sealed_blocks_come_in_pre_order_and_match_their_cids():
    root = put_all(RECORDS)
    blocks = seal(root, "")
    assert all(cid.matches(block) for cid, block in blocks)
    assert [cid for cid, _ in blocks] == [node.cid for node in walk_nodes(root, no_load)]


def test_only_what_changed_gets_the_new_rev():
    root = full_tree(RECORDS, "old")
    key = LAYERS[0][0]
    changed = put(root, key, OTHER, no_load)
    seal(changed, "new")
    path = {node.cid for node in walk_nodes(changed, no_load)} - {node.cid for node in walk_nodes(root, no_load)}
    assert {node.cid for node in walk_nodes(changed, no_load) if node.rev == "new"} == path
    assert {node.rev for node in walk_nodes(root, no_load)} == {"old"}


def test_nodes_too_wide_to_be_imported_are_not_made(monkeypatch):
    monkeypatch.setattr(tree_module, "MAX_ENTRIES", 3)
    wide = put_all(dict.fromkeys(LAYERS[0][:4], VALUE))
    with pytest.raises(TooLarge, match="more than 3"):
        seal(wide, "")


def sparse_parts(root):
    nodes, stubs, stack = [], [], [root]
    while stack:
        tree = stack.pop()
        (stubs if isinstance(tree, Stub) else nodes).append(tree)
        stack += [child for child in getattr(tree, "trees", ()) if child is not None]
    return nodes, stubs


def test_a_sparse_tree_keeps_the_upper_layers_only_and_loads_the_rest():
    root = sparsify(full_tree(RECORDS, "rev"))
    nodes, stubs = sparse_parts(root)
    assert all(node.layer >= 2 and not node.block for node in nodes)
    assert stubs
    assert all(stub.layer == 1 and stub.rev == "rev" for stub in stubs)
    records = Records(RECORDS)
    assert dict(walk(root, records.load)) == RECORDS
    assert len(records.loads) == len(stubs)
    full = [(node.layer, node.cid) for node in walk_nodes(full_tree(RECORDS), no_load)]
    assert [(node.layer, node.cid) for node in walk_nodes(root, records.load)] == full
    assert sparsify(root) is root
    with pytest.raises(BadTree, match="not in memory"):
        list(walk(root, no_load))


def facts(tree):
    return (tree.cid, tree.layer, tree.rev, (tree.low, tree.high) if isinstance(tree, Stub) else tree.keys)


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[:1], LAYERS[:2], LAYERS[:3], LAYERS[3:], LAYERS[5:6], []])
def test_a_sparse_tree_built_in_one_pass_is_the_same(layers):
    records = {key: VALUE for layer in layers for key in layer}
    root = build_sparse(sorted(records.items()), "rev")
    expected = sparsify(full_tree(records, "rev"))
    assert root.cid == expected.cid == slow_root(records)
    for got, wanted in zip(sparse_parts(root), sparse_parts(expected), strict=True):
        assert [facts(tree) for tree in got] == [facts(tree) for tree in wanted]


def test_a_stub_gets_its_new_bound_when_a_higher_key_comes_to_stand_beside_it():
    """The subtree below the last key was open to the right; with a new key there it must not cover what follows."""
    low = sorted(LAYERS[0] + LAYERS[2][:4])
    last = max(LAYERS[4] + LAYERS[5])
    records = {key: VALUE for key in low if key < last}
    root = sparsify(full_tree(records))
    for key in (last, last + b"a", last + b"b", last + b"c"):
        root = put(root, key, VALUE, Records(records).load)
        records[key] = VALUE
        seal(root, "")
        root = sparsify(root)
        assert dict(walk(root, Records(records).load)) == records
        assert root.cid == slow_root(records)


@pytest.mark.parametrize("layer", [2, 3, 5])
def test_the_root_of_a_low_tree_becomes_a_stub_when_a_higher_key_makes_it_a_child(layer):
    """It was kept as it is while it was the root; below another node it would keep the Stubs and bounds of that day."""
    last = max(LAYERS[1])
    records = {key: VALUE for key in LAYERS[0] + LAYERS[1] if key <= last}
    root = sparsify(full_tree(records))
    assert root.layer == 1
    assert root.trees[-1] is None, "nothing beside the new key, so put takes the old root as it is"
    high = next(key for key in (b"com.example.z/%d" % number for number in range(20_000)) if slow_layer(key) == layer)
    for key in (high, last + b"0", last + b"1", last + b"2"):
        root = put(root, key, VALUE, Records(records).load)
        records[key] = VALUE
        seal(root, "")
        root = sparsify(root)
        assert all(node.layer >= 2 for node in sparse_parts(root)[0])
        assert dict(walk(root, Records(records).load)) == records
        assert root.cid == slow_root(records)


def test_changes_of_a_sparse_tree_load_one_gap():
    records = Records(RECORDS)
    root = sparsify(full_tree(RECORDS))
    put(root, LAYERS[0][0], OTHER, records.load)
    assert len(records.loads) == 1


def test_records_that_do_not_make_the_subtree_are_noticed():
    root = sparsify(full_tree(RECORDS))
    stub = sparse_parts(root)[1][0]
    entries = [(key, cid) for key, cid in sorted(RECORDS.items()) if (stub.low or b"") < key < (stub.high or b"\xff")]
    assert rebuild(stub, entries).cid == stub.cid
    for wrong in (entries[1:], [], [(key, OTHER) for key, _ in entries], [*entries, (LAYERS[4][0], VALUE)]):
        with pytest.raises(StoreBroken):
            rebuild(stub, wrong)


def test_a_subtree_can_be_built_below_empty_nodes():
    node = build([(LAYERS[0][0], VALUE)], 3)
    assert isinstance(node, Node)
    assert (node.layer, node.keys) == (3, ())


def test_a_foreign_tree_is_walked_and_checked_from_its_root():
    root = full_tree(RECORDS)
    blocks = {node.cid: node.block for node in walk_nodes(root, no_load)}
    load = checked_load(blocks.__getitem__)
    stub_root = Stub(root.cid, root.layer, None, None, "")
    assert dict(walk(stub_root, load)) == RECORDS
    wrong = Stub(root.cid, root.layer + 1, None, None, "")
    with pytest.raises(BadTree):
        list(walk(wrong, load))
