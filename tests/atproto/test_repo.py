"""Planning commits: what they hold, what they refuse, and that nothing else changes."""

import random

import pytest

from pds_lite.atproto import repo as repo_module
from pds_lite.atproto.car import read_car
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.mst.diff import RecordOp
from pds_lite.atproto.mst.node import parse_node
from pds_lite.atproto.mst.proof import invert
from pds_lite.atproto.mst.tree import EMPTY
from pds_lite.atproto.repo import Write, build_commit
from pds_lite.errors import BadCommit, BadInput, TooLarge
from tests.atproto.repos import (
    DID,
    KEYS,
    LAYERS,
    ModelRepo,
    Records,
    create,
    delete,
    record,
    slow_root,
    some_sign,
    update,
)

A, B, C = LAYERS[0][:3]


def filled(keys=KEYS):
    repo = ModelRepo()
    repo.commit([create(key) for key in keys])
    return repo


def inverted(plan):
    root, blocks = read_car(plan.blocks)
    assert root == plan.head.commit
    return invert(plan.ops, blocks, decode_commit(blocks[root]).data)


def test_the_first_commit_has_no_before():
    plan = ModelRepo().plan([])
    assert (plan.since, plan.prev_data, plan.ops, plan.writes) == (None, None, (), ())
    assert plan.head.data == EMPTY.cid
    _, blocks = read_car(plan.blocks)
    assert set(blocks) == {plan.head.commit, EMPTY.cid}, "consumers load the root, so the empty node is there"
    assert decode_commit(blocks[plan.head.commit]).rev == plan.head.rev


def test_a_commit_names_what_was_before_it():
    repo = filled()
    before = repo.head
    plan = repo.commit([create(b"com.example.a/new")])
    assert (plan.since, plan.prev_data) == (before.rev, before.data)
    assert plan.head.data == slow_root(repo.records)
    assert plan.head.root.cid == plan.head.data
    assert before.data == before.root.cid == slow_root({key: repo.records[key] for key in KEYS})


def test_operations_say_what_was_there_before():
    repo = filled([A, B])
    old = repo.records[A]
    plan = repo.commit([update(A, "new"), delete(B), create(C)])
    new, _ = record("new")
    assert plan.ops == (
        RecordOp("update", A, new, old),
        RecordOp("delete", B, None, old),
        RecordOp("create", C, record("x")[0], None),
    )
    assert inverted(plan) == plan.prev_data


def test_the_car_holds_new_records_but_no_old_ones():
    repo = filled([A, B])
    old = repo.records[A]
    plan = repo.commit([update(A, "new"), delete(B)])
    _, blocks = read_car(plan.blocks)
    assert blocks[record("new")[0]] == record("new")[1]
    assert old not in blocks


def test_the_car_is_in_pre_order_with_records_behind_their_node():
    repo = filled()
    keys = [b"com.example.b/%d" % number for number in range(40)]
    plan = repo.commit([create(key, str(number)) for number, key in enumerate(keys)])
    _, blocks = read_car(plan.blocks)
    order = list(blocks)
    assert order[0] == plan.head.commit
    assert order[1] == plan.head.data
    place = {cid: index for index, cid in enumerate(order)}
    records = {write.cid for write in plan.writes}
    seen = 0
    for cid in order[1:]:
        if cid in records:
            continue
        _, values, links = parse_node(blocks[cid])
        assert all(place[link] > place[cid] for link in links if link in place)
        of_this_node = [value for value in values if value in records]
        assert [place[value] for value in of_this_node] == sorted(place[value] for value in of_this_node)
        assert all(place[value] > place[cid] for value in of_this_node)
        seen += len(of_this_node)
    assert seen == len(keys)


def test_two_records_of_the_same_content_share_a_block():
    plan = ModelRepo().plan([create(A), create(B)])
    cid, block = record("x")
    assert plan.blocks.count(bytes(cid) + block) == 1


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (create(A), "there is a record already"),
        (update(C, "y"), "there is no record"),
        (delete(C), "there is no record"),
        (Write("create", C), "needs a record"),
        (Write("update", A, record("x")[0]), "needs a record"),
        (Write("delete", A, *record("x")), "needs a record"),
    ],
)
def test_writes_that_do_not_fit_are_refused_and_change_nothing(write, reason):
    repo = filled([A, B])
    head, root = repo.head, repo.head.root
    for writes in ([write], [create(b"com.example.a/good"), write]):
        with pytest.raises(BadInput, match=reason):
            repo.commit(writes)
    assert repo.head is head
    assert head.root is root
    assert head.data == slow_root(repo.records)


@pytest.mark.parametrize(
    ("writes", "ops"),
    [
        ([create(C), delete(C)], []),
        ([create(C), update(C, "y")], [("create", C, "y", None)]),
        ([update(A, "y"), update(A, "z")], [("update", A, "z", "x")]),
        ([update(A, "y"), update(A, "x")], []),
        ([update(A, "x")], []),
        ([update(A, "y"), delete(A)], [("delete", A, None, "x")]),
        ([delete(A), create(A, "y")], [("update", A, "y", "x")]),
        ([delete(A), create(A, "x")], []),
        ([delete(A), delete(B)], [("delete", A, None, "x"), ("delete", B, None, "x")]),
    ],
)
def test_writes_to_one_record_are_reduced_to_their_net_effect(writes, ops):
    repo = filled([A, B])
    plan = repo.commit(writes)
    cid_of = {None: None, **{content: record(content)[0] for content in "xyz"}}
    assert plan.ops == tuple(RecordOp(action, path, cid_of[new], cid_of[old]) for action, path, new, old in ops)
    assert [facts(write) for write in plan.writes] == [facts(op) for op in plan.ops]
    assert plan.head.data == slow_root(repo.records)
    assert inverted(plan) == plan.prev_data


def facts(change):
    return change.action, change.path, change.cid


def test_a_commit_without_writes_signs_the_same_tree_again():
    repo = filled()
    plan = repo.commit([])
    assert plan.head.data == plan.prev_data
    assert plan.head.commit != plan.since
    assert inverted(plan) == plan.prev_data
    assert len(read_car(plan.blocks)[1]) == 2


def test_the_rev_must_rise():
    repo = filled([A])
    for rev in (repo.head.rev, "2222222222222"):
        with pytest.raises(BadCommit, match="not above"):
            build_commit(DID, repo.head, [create(B)], rev, some_sign, Records(repo.records).load)


def test_two_hundred_operations_fit_and_one_more_does_not():
    writes = [create(b"com.example.a/%d" % number) for number in range(201)]
    assert len(ModelRepo().plan(writes[:200]).ops) == 200
    with pytest.raises(TooLarge, match="200 operations"):
        ModelRepo().plan(writes)


def test_records_and_commits_have_a_greatest_size():
    big = "x" * 999_900
    with pytest.raises(TooLarge, match="1000000 bytes"):
        ModelRepo().plan([create(A, big + "x" * 100)])
    repo = ModelRepo()
    repo.commit([create(A, big)])
    with pytest.raises(TooLarge, match="2000000 bytes"):
        repo.commit([create(B, "1" + big), create(C, "2" + big)])
    assert list(repo.records) == [A]


def test_each_part_of_the_tree_is_loaded_once_a_commit():
    repo = filled()
    records = Records(repo.records)
    writes = [update(key, "new") for key in KEYS]
    build_commit(DID, repo.head, writes, "3zzzzzzzzzzz2", some_sign, records.load)
    assert len(records.loads) == len({stub.cid for stub in records.loads})


def test_the_head_keeps_only_the_upper_tree_in_memory():
    plan = filled().plan([create(b"com.example.a/new")])
    stack = [plan.head.root]
    while stack:
        node = stack.pop()
        assert (node.layer >= 2 and not node.block) if hasattr(node, "trees") else node.layer == 1
        stack += [tree for tree in getattr(node, "trees", ()) if tree is not None]


def test_the_car_limit_counts_the_whole_car(monkeypatch):
    plan = filled([A]).plan([create(B)])
    monkeypatch.setattr(repo_module, "MAX_BLOCKS", len(plan.blocks))
    filled([A]).plan([create(B)])
    monkeypatch.setattr(repo_module, "MAX_BLOCKS", len(plan.blocks) - 1)
    with pytest.raises(TooLarge):
        filled([A]).plan([create(B)])


def test_small_repos_grow_and_shrink_through_every_height():
    """Subtrees kept from one commit to the next must stay true when the root above them comes and goes."""
    for seed in range(40):
        chance = random.Random(seed)
        repo = ModelRepo()
        for number in range(90):
            there = sorted(repo.records)
            if there and chance.random() < 0.4:
                path = chance.choice(there)
                write = delete(path) if chance.random() < 0.7 else update(path, str(number))
            else:
                write = create(f"com.example.{chance.choice('abc')}/{chance.randrange(1 << 40):x}".encode())
            plan = repo.commit([write])
            if number % 10 == 0:
                assert plan.head.data == slow_root(repo.records)
