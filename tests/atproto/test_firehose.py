"""Event frames: their bytes, and the check of our own commits that a strict relay would make."""

import dataclasses

import pytest

from pds_lite.atproto import dag_cbor, firehose
from pds_lite.atproto import repo as repo_module
from pds_lite.atproto.car import read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.firehose import (
    MAX_SEQ,
    account_frame,
    check_commit_frame,
    commit_frame,
    decode_frame,
    error_frame,
    identity_frame,
    info_frame,
    sync_frame,
)
from pds_lite.atproto.mst import tree as tree_module
from pds_lite.atproto.mst.diff import RecordOp
from pds_lite.atproto.mst.proof import InversionFailed, path_nodes
from pds_lite.errors import BadCar, BadCommit, BadData, BadInput, TooLarge
from tests.atproto.repos import DID, KEYS, LAYERS, ModelRepo, create, delete, slow_layer, slow_root, update

TIME = "2026-11-22T12:44:16.123Z"
KEY = K256Key.from_bytes(b"\x11" * 32)
A, B, C = LAYERS[0][:3]


@pytest.fixture(scope="module")
def plan():
    repo = ModelRepo(KEY.sign)
    repo.commit([create(key) for key in KEYS])
    return repo.commit([create(b"com.example.a/new"), update(A, "new"), delete(B)])


def body_of(plan):
    ops = []
    for op in plan.ops:
        value = {"action": op.action, "path": op.path.decode(), "cid": op.cid}
        ops.append(value if op.prev is None else {**value, "prev": op.prev})
    body = {
        "seq": 7,
        "repo": DID,
        "time": TIME,
        "rev": plan.head.rev,
        "since": plan.since,
        "commit": plan.head.commit,
        "blocks": plan.blocks,
        "ops": ops,
        "blobs": [],
        "tooBig": False,
        "rebase": False,
    }
    return body if plan.prev_data is None else {**body, "prevData": plan.prev_data}


HEADER = dag_cbor.encode({"op": 1, "t": "#commit"})


def test_a_commit_frame_is_what_the_general_codec_writes(plan):
    first = ModelRepo().plan([])
    for case in (plan, first, dataclasses.replace(plan, ops=plan.ops * 60)):
        frame = commit_frame(7, TIME, case)
        assert frame == HEADER + dag_cbor.encode(body_of(case))
        assert decode_frame(frame) == ({"op": 1, "t": "#commit"}, body_of(case))


@pytest.mark.parametrize("seq", [1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 1_795_000_000_000_000, MAX_SEQ])
def test_every_seq_that_javascript_can_hold_is_written_shortest(plan, seq):
    assert decode_frame(commit_frame(seq, TIME, plan))[1]["seq"] == seq


@pytest.mark.parametrize("seq", [0, -1, MAX_SEQ + 1])
def test_other_seqs_are_refused(plan, seq):
    for make in (
        lambda: commit_frame(seq, TIME, plan),
        lambda: sync_frame(seq, TIME, DID, "3lo3kqqljmfe2", Cid.of_cbor(b""), b""),
        lambda: identity_frame(seq, TIME, DID, None),
        lambda: account_frame(seq, TIME, DID, True, None),
    ):
        with pytest.raises(BadData, match="seq"):
            make()


def test_odd_record_cids_of_an_imported_repo_are_announced_as_they_are(plan):
    odd = Cid(b"\x01\x71\x13\x40" + b"\x07" * 64)
    case = dataclasses.replace(plan, ops=(RecordOp("delete", A, None, odd),))
    assert decode_frame(commit_frame(7, TIME, case))[1]["ops"][0]["prev"] == odd


def test_the_rare_frames_hold_their_fields_and_no_others(plan):
    head = plan.head
    sync = decode_frame(sync_frame(8, TIME, DID, head.rev, head.commit, head.commit_block))
    car = sync[1].pop("blocks")
    assert sync == ({"op": 1, "t": "#sync"}, {"seq": 8, "did": DID, "time": TIME, "rev": head.rev})
    assert read_car(car) == (head.commit, {head.commit: head.commit_block})

    base = {"seq": 9, "did": DID, "time": TIME}
    identity = {"op": 1, "t": "#identity"}
    assert decode_frame(identity_frame(9, TIME, DID, None)) == (identity, base)
    assert decode_frame(identity_frame(9, TIME, DID, "a.test")) == (identity, {**base, "handle": "a.test"})
    account = {"op": 1, "t": "#account"}
    assert decode_frame(account_frame(9, TIME, DID, True, None)) == (account, {**base, "active": True})
    inactive = decode_frame(account_frame(9, TIME, DID, False, "deactivated"))
    assert inactive == (account, {**base, "active": False, "status": "deactivated"})
    assert decode_frame(info_frame("OutdatedCursor")) == ({"op": 1, "t": "#info"}, {"name": "OutdatedCursor"})
    assert decode_frame(info_frame("OutdatedCursor", "old"))[1] == {"name": "OutdatedCursor", "message": "old"}
    assert decode_frame(error_frame("FutureCursor")) == ({"op": -1}, {"error": "FutureCursor"})
    assert decode_frame(error_frame("FutureCursor", "no"))[1] == {"error": "FutureCursor", "message": "no"}


def test_frames_that_are_not_two_objects_are_refused():
    for frame in (b"", HEADER, HEADER + b"\xf6", b"\x80\xa0", HEADER + b"\xa0\xa0", HEADER + b"\xa0"[:0] + b"\xff"):
        with pytest.raises(BadData):
            decode_frame(frame)


def test_frames_over_the_limit_are_neither_made_nor_read(plan, monkeypatch):
    frame = commit_frame(7, TIME, plan)
    monkeypatch.setattr(firehose, "MAX_FRAME", len(frame) - 1)
    with pytest.raises(TooLarge):
        commit_frame(7, TIME, plan)
    with pytest.raises(TooLarge):
        decode_frame(frame)


def test_our_own_commits_pass_the_check(plan):
    check_commit_frame(commit_frame(7, TIME, plan), DID, KEY.did_key)
    repo = ModelRepo(KEY.sign)
    all_at_once = [[create(key) for key in KEYS], [delete(key) for key in KEYS]]
    for writes in ([], [create(A)], [], [update(A, "y")], [delete(A)], *all_at_once):
        check_commit_frame(commit_frame(7, TIME, repo.commit(writes)), DID, KEY.did_key)


def checked(plan, change=None, select=None, **fields):
    body = {**body_of(plan), **fields}
    if select is not None:
        root, content = read_car(plan.blocks)
        body["blocks"] = b"".join(write_car(root, select(content).items()))
    if change is not None:
        change(body)
    check_commit_frame(HEADER + dag_cbor.encode(body), DID, KEY.did_key)


@pytest.mark.parametrize(
    "fields",
    [
        {"tooBig": True},
        {"rebase": True},
        {"blobs": [Cid.of_raw(b"")]},
        {"seq": 0},
        {"seq": True},
        {"since": 5},
        {"since": "3zzzzzzzzzzz2"},
        {"rev": "3zzzzzzzzzzz2"},
        {"repo": "did:plc:someoneelse"},
        {"commit": Cid.of_cbor(b"")},
        {"commit": None},
        {"prevData": None},
        {"prevData": 1},
        {"ops": None},
        {"ops": [5]},
        {"ops": [{"action": "create", "path": "a/b"}]},
        {"ops": [{"action": "create", "path": "a/b", "cid": None}]},
        {"ops": [{"action": "create", "path": "a/b", "cid": "bafy"}]},
        {"ops": [{"action": "delete", "path": "a/b", "cid": None}]},
        {"ops": [{"action": "delete", "path": "a/b", "cid": None, "prev": 1}]},
        {"ops": [{"action": "fork", "path": "a/b", "cid": None, "prev": Cid.of_cbor(b"")}]},
        {"ops": [{"action": "create", "path": "a/b", "cid": Cid.of_cbor(b"not in the blocks")}]},
        {"ops": [{"action": "delete", "path": "a/b", "cid": None, "prev": Cid.of_cbor(b"")}] * 201},
        {"blocks": b"\0" * 2_000_001},
    ],
)
def test_what_a_strict_relay_drops_does_not_pass(plan, fields):
    with pytest.raises(BadCommit):
        checked(plan, **fields)


@pytest.mark.parametrize("name", firehose._COMMIT_TYPES)
def test_every_field_is_needed(plan, name):
    with pytest.raises(BadInput):
        checked(plan, lambda body: body.pop(name))


def test_operations_that_do_not_undo_to_the_tree_before_are_noticed(plan):
    for change in (
        lambda body: body["ops"].pop(),
        lambda body: body["ops"].clear(),
        lambda body: body.update(prevData=Cid.of_cbor(b"")),
        lambda body: body["ops"][1].update(prev=Cid.of_cbor(b"")),
        lambda body: body["ops"].append(body["ops"][0]),
    ):
        with pytest.raises(InversionFailed):
            checked(plan, change)


def test_a_missing_or_damaged_block_is_noticed(plan):
    root, content = read_car(plan.blocks)
    data = decode_commit(content[root]).data
    for missing in content:
        if missing in (root, data) or missing in {op.cid for op in plan.ops}:
            with pytest.raises(BadInput):
                checked(plan, select=lambda content, gone=missing: {c: b for c, b in content.items() if c != gone})
    frame = bytearray(commit_frame(7, TIME, plan))
    frame[frame.index(plan.blocks) + len(plan.blocks) - 3] ^= 1
    with pytest.raises(BadCar):
        check_commit_frame(bytes(frame), DID)


def test_the_signature_is_checked_when_a_key_is_given(plan):
    frame = commit_frame(7, TIME, plan)
    other = K256Key.from_bytes(b"\x12" * 32)
    check_commit_frame(frame, DID)
    with pytest.raises(BadCommit, match="signature"):
        check_commit_frame(frame, DID, other.did_key)
    with pytest.raises(BadCommit, match="contradicts"):
        check_commit_frame(frame, "did:web:example.com")


def test_other_frames_are_no_commits():
    for frame in (identity_frame(1, TIME, DID, None), error_frame("FutureCursor"), b""):
        with pytest.raises(BadCommit, match="not a commit"):
            check_commit_frame(frame, DID)


SABOTAGE = {
    "a root is not trimmed": ("_trim", lambda root, load: root or tree_module.EMPTY),
    "a link skips a layer": ("_raise", lambda tree, layer: tree),
    "a merge loses the right side": ("_merge", lambda left, right, load: right if left is None else left),
    "a split loses the right side": ("_split", lambda tree, key, load: (tree, None)),
    "no key is put above layer 1": ("key_layer", lambda key: min(1, slow_layer(key))),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_tree_that_is_built_wrong_is_noticed_in_the_first_frame_that_holds_it(name, monkeypatch):
    repo = ModelRepo()
    repo.commit([create(key) for key in [*KEYS[:72:2], KEYS[-1]]])  # only the last is of layer 6
    monkeypatch.setattr(tree_module, *SABOTAGE[name])
    noticed = 0
    for key in KEYS:
        plan = repo.plan([delete(key) if key in repo.records else create(key)])
        frame = commit_frame(7, TIME, plan)
        after = dict(repo.records)
        after.update({key: plan.writes[0].cid}) if key not in after else after.pop(key)
        if plan.head.data == slow_root(after):
            check_commit_frame(frame, DID)
        else:
            noticed += 1
            with pytest.raises(BadInput):
                check_commit_frame(frame, DID)
    assert noticed


def test_blocks_that_do_not_suffice_to_undo_are_noticed(monkeypatch):
    repo = ModelRepo()
    repo.commit([create(key) for key in KEYS[::2]])
    monkeypatch.setattr(repo_module, "covering_nodes", path_nodes)
    noticed = 0
    for key in KEYS[1::2]:
        try:
            check_commit_frame(commit_frame(7, TIME, repo.plan([create(key)])), DID)
        except InversionFailed:
            noticed += 1
    assert noticed
