"""Covering proofs, and undoing operations with nothing but them."""

import json
from itertools import product

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.diff import RecordOp, diff
from pds_lite.atproto.mst.node import decode_node, encode_node
from pds_lite.atproto.mst.proof import InversionFailed, covering_proof, invert, path_proof
from pds_lite.atproto.mst.tree import EMPTY, checked_load, delete, get, no_load, put, seal, sparsify
from pds_lite.errors import BadTree
from tests.atproto.repos import KEYS, LAYERS, Records, full_tree

ONE, TWO = Cid.of_cbor(b"1"), Cid.of_cbor(b"2")


def proof_of(root, ops):
    blocks = dict(covering_proof(root, b"", no_load)[:1])
    for op in ops:
        blocks.update(covering_proof(root, op.path, no_load))
    return blocks


@pytest.mark.interop
def test_proofs_hold_the_blocks_of_the_vectors_and_invert(vectors):
    for case in json.loads((vectors / "firehose" / "commit-proof-fixtures.json").read_text()):
        value = Cid.parse(case["leafValue"])
        root = before = full_tree({key.encode(): value for key in case["keys"]})
        for key in case["adds"]:
            root = put(root, key.encode(), value, no_load)
        for key in case["dels"]:
            root = delete(root, key.encode(), no_load)
        seal(root, "")
        ops = diff(before, root, no_load)
        assert {op.path.decode() for op in ops} == {*case["adds"], *case["dels"]}
        blocks = proof_of(root, ops)
        assert {str(cid) for cid in blocks} == set(case["blocksInProof"]), case["comment"]
        assert str(invert(ops, blocks, root.cid)) == case["rootBeforeCommit"]


def test_every_step_between_the_64_trees_over_six_keys_inverts():
    six = [LAYERS[0][0], LAYERS[1][0], LAYERS[0][1], LAYERS[4][0], LAYERS[2][0], LAYERS[0][2]]
    keyed = [{key: ONE for key, there in zip(six, bits, strict=True) if there} for bits in product((0, 1), repeat=6)]
    trees = [full_tree(records) for records in keyed]
    for old in trees:
        for new in trees:
            ops = diff(old, new, no_load)
            blocks = proof_of(new, ops)
            assert invert(ops, blocks, new.cid) == old.cid
            assert invert(ops[::-1], blocks, new.cid) == old.cid


def test_new_nodes_are_all_in_the_covering_proof():
    root = full_tree(dict.fromkeys(KEYS[::2], ONE))
    for key in KEYS:
        changed = put(root, key, TWO, no_load) if key not in KEYS[::4] else delete(root, key, no_load)
        new = seal(changed, "")
        assert dict(new).items() <= dict(covering_proof(changed, key, no_load)).items()


def test_proofs_of_a_sparse_tree_are_those_of_the_full_one():
    records = dict.fromkeys(KEYS[::2], ONE)
    full, sparse = full_tree(records), sparsify(full_tree(records))
    for key in KEYS:
        for proof in (covering_proof, path_proof):
            assert proof(sparse, key, Records(records).load) == proof(full, key, no_load)


def test_a_path_proves_what_is_there_and_what_is_not():
    records = dict.fromkeys(KEYS[::2], ONE)
    root = full_tree(records)
    for key in KEYS:
        blocks = dict(path_proof(root, key, no_load))
        load = checked_load(blocks.__getitem__)
        assert get(decode_node(blocks[root.cid]), key, load) == records.get(key)


A, B, C = sorted(LAYERS[0][:3])
TOP = LAYERS[3][0]
RECORDS = dict.fromkeys([*LAYERS[0], *LAYERS[1], *LAYERS[2], TOP], ONE)
ROOT = full_tree(RECORDS)
CREATE = RecordOp("create", A, ONE, None)
BLOCKS = proof_of(ROOT, [CREATE])


@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        ([RecordOp("create", A, TWO, None)], "contradicts the create"),
        ([RecordOp("update", A, TWO, ONE)], "contradicts the update"),
        ([RecordOp("delete", A, None, ONE)], "contradicts the delete"),
        ([CREATE, CREATE], "two operations"),
        ([RecordOp("create", A + b"z", ONE, None)], "does not show"),
        ([RecordOp("delete", A + b"z", None, None)], "what it deleted"),
        ([RecordOp("update", LAYERS[1][-1], ONE, TWO)], "does not show|reach"),
    ],
)
def test_operations_that_contradict_the_tree_are_refused(ops, reason):
    with pytest.raises(InversionFailed, match=reason):
        invert(ops, BLOCKS, ROOT.cid)


def test_a_wrong_prev_gives_another_root():
    op = RecordOp("update", A, ONE, TWO)
    assert invert([op], BLOCKS, ROOT.cid) == full_tree({**RECORDS, A: TWO}).cid
    assert invert([RecordOp("update", A, ONE, Cid.of_cbor(b"3"))], BLOCKS, ROOT.cid) != invert([op], BLOCKS, ROOT.cid)


def test_a_forgotten_operation_gives_another_root():
    assert invert([], BLOCKS, ROOT.cid) == ROOT.cid


def test_with_a_block_missing_the_right_root_is_concluded_or_none():
    """Taking a high key out joins the edges of its two subtrees, so both are needed as far as both go."""
    refused = 0
    for top in LAYERS[3]:
        records = {**RECORDS, top: ONE}
        root = full_tree(records)
        op = RecordOp("create", top, ONE, None)
        blocks = proof_of(root, [op])
        expected = full_tree({key: ONE for key in records if key != top}).cid
        assert invert([op], blocks, root.cid) == expected
        for missing in blocks:
            rest = {cid: block for cid, block in blocks.items() if cid != missing}
            try:
                assert invert([op], rest, root.cid) == expected
                assert missing != root.cid
            except InversionFailed:
                refused += 1
    assert refused > len(LAYERS[3])


def test_a_deleted_key_that_falls_into_a_closed_subtree_is_refused():
    only_root = {ROOT.cid: BLOCKS[ROOT.cid]}
    with pytest.raises(InversionFailed, match="do not reach"):
        invert([RecordOp("delete", A + b"z", None, ONE)], only_root, ROOT.cid)


def forged(*blocks):
    named = {Cid.of_cbor(block): block for block in blocks}
    return named, Cid.of_cbor(blocks[-1])


@pytest.mark.parametrize(
    "blocks",
    [
        [
            encode_node([LAYERS[0][0]], [ONE], [None, None]),
            encode_node([], [], [Cid.of_cbor(encode_node([LAYERS[0][0]], [ONE], [None, None]))]),
        ],
        [encode_node([B, A], [ONE, ONE], [None] * 3)],
        [encode_node([A, A], [ONE, ONE], [None] * 3)],
        [encode_node(sorted([A, TOP]), [ONE, ONE], [None] * 3)],
        [encode_node([], [], [None]), encode_node([A], [ONE], [EMPTY.cid, None])],
        [b"\xa0"],
        [b""],
    ],
    ids=["keyless root", "order", "twice", "layer", "empty node", "not a node", "nothing"],
)
def test_trees_that_are_not_canonical_are_refused(blocks):
    named, root = forged(*blocks)
    with pytest.raises(BadTree):
        invert([], named, root)


def test_one_block_linked_over_and_over_is_not_read_over_and_over():
    """A tower in which each node links twice to the one below would be read 2^n times."""
    block = encode_node([LAYERS[0][0]], [ONE], [None, None])
    tower = [block]
    for layer in LAYERS[1:6]:
        below = Cid.of_cbor(tower[-1])
        tower.append(encode_node([layer[0]], [ONE], [below, below]))
    named, root = forged(*tower)
    with pytest.raises(InversionFailed, match="order"):
        invert([], named, root)
