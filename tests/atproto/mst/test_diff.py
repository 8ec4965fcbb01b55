"""What changed between two trees, against the obvious comparison of two dicts."""

from itertools import product

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst.diff import RecordOp, diff
from pds_lite.atproto.mst.tree import EMPTY, no_load, put, seal, sparsify
from tests.atproto.repos import KEYS, LAYERS, Records, full_tree

ONE, TWO = Cid.of_cbor(b"1"), Cid.of_cbor(b"2")
SEVEN = [LAYERS[0][0], LAYERS[0][1], LAYERS[1][0], LAYERS[0][2], LAYERS[3][0], LAYERS[2][0], LAYERS[0][3]]


def slow_diff(old, new):
    ops = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            action = "create" if before is None else "delete" if after is None else "update"
            ops.append(RecordOp(action, key, after, before))
    return ops


def test_every_pair_of_the_128_trees_over_seven_keys():
    keyed = [{key: ONE for key, there in zip(SEVEN, bits, strict=True) if there} for bits in product((0, 1), repeat=7)]
    trees = [(records, full_tree(records)) for records in keyed]
    assert len(trees) == 128
    for old, old_root in trees:
        for new, new_root in trees:
            assert diff(old_root, new_root, no_load) == slow_diff(old, new)


def test_updates_are_seen_at_every_layer():
    old = dict.fromkeys(KEYS, ONE)
    for key in KEYS[::2]:
        assert diff(full_tree(old), full_tree({**old, key: TWO}), no_load) == [RecordOp("update", key, TWO, ONE)]


def test_equal_subtrees_are_not_loaded():
    old = dict.fromkeys(KEYS, ONE)
    records = Records(old)
    root = sparsify(full_tree(old))
    assert diff(root, root, records.load) == []
    assert records.loads == []
    changed = put(root, LAYERS[0][5], TWO, records.load)
    seal(changed, "")
    records.loads.clear()
    assert diff(root, changed, records.load) == [RecordOp("update", LAYERS[0][5], TWO, ONE)]
    assert len(records.loads) == 1


def test_two_sparse_trees_load_from_their_own_records():
    old, new = dict.fromkeys(KEYS[::2], ONE), dict.fromkeys(KEYS[::3], TWO)
    ops = diff(sparsify(full_tree(old)), sparsify(full_tree(new)), Records(old).load, Records(new).load)
    assert ops == slow_diff(old, new)
    assert diff(EMPTY, sparsify(full_tree(new)), no_load, Records(new).load) == slow_diff({}, new)
