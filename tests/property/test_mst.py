"""Random lives of a repo.

The sparse tree, the full one and one written from the definition always agree, and every commit can be undone from its
own frame.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto.car import read_car
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.firehose import check_commit_frame, commit_frame
from pds_lite.atproto.mst.diff import diff
from pds_lite.atproto.mst.node import decode_node
from pds_lite.atproto.mst.proof import covering_proof, invert
from pds_lite.atproto.mst.tree import (
    EMPTY,
    build_sparse,
    change,
    checked_load,
    get,
    no_load,
    seal,
    sparsify,
    walk,
    walk_nodes,
)
from tests.atproto.repos import DID, KEYS, ModelRepo, Records, create, delete, full_tree, record, slow_root, update

TIME = "2026-11-22T12:44:16.123Z"

keys = st.sampled_from(KEYS)
contents = st.sampled_from([None, "x", "y", "z"])
batches = st.lists(st.dictionaries(keys, contents, max_size=12), max_size=12)


@settings(max_examples=150)
@given(batches)
def test_sparse_and_full_trees_are_the_tree_of_the_records(steps):
    records, full, sparse = {}, EMPTY, EMPTY
    for step in steps:
        before, before_full = dict(records), full
        load = Records(records).load
        for key, content in step.items():
            cid = record(content)[0] if content else None
            full, was = change(full, key, cid, no_load)
            sparse, was_in_sparse = change(sparse, key, cid, load)
            assert was == was_in_sparse == records.pop(key, None)
            if cid:
                records[key] = cid
        seal(full, "")
        seal(sparse, "")
        sparse = sparsify(sparse)
        assert full.cid == sparse.cid == slow_root(records)
        assert sparse.cid == build_sparse(sorted(records.items()), "").cid
        assert list(walk(sparse, Records(records).load)) == sorted(records.items())
        changed = {key for key in before | records if before.get(key) != records.get(key)}
        assert [op.path for op in diff(before_full, full, no_load)] == sorted(changed)


@settings(max_examples=150)
@given(st.sets(keys), st.sets(keys), st.randoms(use_true_random=False))
def test_any_change_can_be_undone_in_any_order_from_its_covering_proof(old, new, shuffle):
    """`old` and `new` may be empty or nearly so, and have nothing in common."""
    cid, other = record("x")[0], record("y")[0]
    before = full_tree(dict.fromkeys(old, cid))
    after = full_tree({key: shuffle.choice((cid, other)) for key in new})
    ops = diff(before, after, no_load)
    shuffle.shuffle(ops)
    blocks = dict(covering_proof(after, b"", no_load))
    for op in ops:
        blocks.update(covering_proof(after, op.path, no_load))
    assert invert(ops, blocks, after.cid) == before.cid


def wanted_writes(repo, step):
    """Writes that fit the repo; every record may be written several times in one commit."""
    there = set(repo.records)
    for key, content in step:
        if content is None:
            if key in there:
                there.remove(key)
                yield delete(key)
        else:
            yield (update if key in there else create)(key, content)
            there.add(key)


@settings(max_examples=150)
@given(st.lists(st.lists(st.tuples(keys, contents), max_size=10), max_size=8))
def test_every_commit_passes_the_check_and_brings_what_is_new(steps):
    repo = ModelRepo()
    known = {EMPTY.cid}
    for step in steps:
        plan = repo.commit(wanted_writes(repo, step))
        check_commit_frame(commit_frame(1, TIME, plan), DID)
        root, blocks = read_car(plan.blocks)
        assert slow_root(repo.records) == plan.head.data == decode_commit(blocks[root]).data
        known |= set(blocks)
        nodes = {node.cid for node in walk_nodes(full_tree(repo.records), no_load)}
        assert nodes <= known, "who kept every block so far can read the whole tree"
        assert {op.cid for op in plan.ops if op.cid} <= set(blocks)


@settings(max_examples=100)
@given(st.sets(keys), keys)
def test_a_proof_alone_answers_for_its_key(there, key):
    records = {name: record("x")[0] for name in there}
    root = full_tree(records)
    blocks = dict(covering_proof(root, key, no_load))
    load = checked_load(blocks.__getitem__)
    assert get(decode_node(blocks[root.cid]), key, load) == records.get(key)


@pytest.mark.slow
def test_a_long_life_with_many_records():
    """Ten thousand writes in keys as clients make them, where stale bounds of a Stub would show."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    repo = ModelRepo()
    for _ in range(50):
        step = [
            (b"com.example.%c/%d" % (chance.choice(b"abc"), chance.randrange(4000)), chance.choice(("x", "y", None)))
            for _ in range(200)
        ]
        plan = repo.commit(wanted_writes(repo, step))
        check_commit_frame(commit_frame(1, TIME, plan), DID)
        assert list(walk(repo.head.root, Records(repo.records).load)) == sorted(repo.records.items())
    assert repo.head.data == slow_root(repo.records)
