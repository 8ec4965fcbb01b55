"""Recovery: the owner's key undoes what lesser keys signed, for 72 hours, and says precisely why not otherwise."""

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.plc_recovery import differences, keys_that_undo, plan_change, plan_undo, why_not_undoable
from pds_lite.errors import BadInput
from tests.atproto.test_plc import BOX, DID, GENESIS, RECOVERY, START, STRANGER, entry, rename

HOUR = 3600.0
NOW = START.timestamp()


def theft(last=GENESIS):
    """The box's key puts itself and a stranger in place of the owner."""
    changes = {"rotationKeys": [STRANGER.did_key, BOX.did_key], "alsoKnownAs": ["at://thief.example.com"]}
    return plc.sign_op(plc.update(last, changes), BOX)


def audit_of(*entries):
    return plc.audit(DID, list(entries))


def accepted(log, op, hours, nullified):
    """The directory's own rules accept the operation after this log."""
    raw = [{**line, "nullified": line["cid"] in nullified} for line in log]
    return plc.audit(DID, [*raw, entry(op, hours)])


def test_undo_restores_what_was_before_and_the_log_takes_it():
    stolen = theft()
    log = [entry(GENESIS), entry(stolen, 1)]

    plan = plan_undo(audit_of(*log), RECOVERY.did_key, None, NOW + 2 * HOUR)

    assert [undone.op for undone in plan.undone] == [stolen]
    after = accepted(log, plc.sign_op(plan.operation, RECOVERY), 2, {str(plc.op_cid(stolen))})
    assert after.state["rotationKeys"] == GENESIS["rotationKeys"]
    assert after.state["alsoKnownAs"] == GENESIS["alsoKnownAs"]
    assert plan.before["alsoKnownAs"] == ["at://thief.example.com"]


def test_undo_of_an_earlier_operation_takes_back_all_after_it():
    first = theft()
    second = rename(first, "other.example.com", STRANGER)
    log = [entry(GENESIS), entry(first, 1), entry(second, 2)]

    plan = plan_undo(audit_of(*log), RECOVERY.did_key, str(plc.op_cid(first)), NOW + 3 * HOUR)

    assert [undone.op for undone in plan.undone] == [first, second]
    cids = {str(plc.op_cid(op)) for op in (first, second)}
    assert accepted(log, plc.sign_op(plan.operation, RECOVERY), 3, cids).state["rotationKeys"][0] == RECOVERY.did_key


def test_a_change_follows_the_last_operation_while_the_key_is_listed():
    renamed = rename(GENESIS, "bob.example.com")
    log = [entry(GENESIS), entry(renamed, 1)]

    plan = plan_change(audit_of(*log), RECOVERY.did_key, {"alsoKnownAs": ["at://new.example.com"]}, NOW + 500 * HOUR)

    assert plan.undone == ()
    assert accepted(log, plc.sign_op(plan.operation, RECOVERY), 500, set()).state["alsoKnownAs"] == [
        "at://new.example.com"
    ]


def test_a_change_forks_before_the_theft_that_removed_the_key():
    stolen = theft()
    log = [entry(GENESIS), entry(stolen, 1)]
    changes = {"services": {"atproto_pds": {"type": plc.PDS_TYPE, "endpoint": "https://new.example.com"}}}

    plan = plan_change(audit_of(*log), RECOVERY.did_key, changes, NOW + 2 * HOUR)
    after = accepted(log, plc.sign_op(plan.operation, RECOVERY), 2, {str(plc.op_cid(stolen))})

    assert after.state["rotationKeys"] == GENESIS["rotationKeys"]
    assert after.state["services"]["atproto_pds"]["endpoint"] == "https://new.example.com"


def test_a_tombstone_can_be_undone_too():
    ended = plc.sign_op(plc.tombstone(GENESIS), BOX)
    log = [entry(GENESIS), entry(ended, 1)]

    plan = plan_change(audit_of(*log), RECOVERY.did_key, {}, NOW + HOUR)

    after = accepted(log, plc.sign_op(plan.operation, RECOVERY), 2, {str(plc.op_cid(ended))})
    assert not after.is_tombstoned


@pytest.mark.parametrize(
    ("key", "hours", "words"),
    [
        (RECOVERY, 74, "older than 72 hours"),
        (BOX, 2, "as much authority"),
        (STRANGER, 2, "was no rotation key before"),
    ],
)
def test_the_reason_why_not_is_named(key, hours, words):
    log = audit_of(entry(GENESIS), entry(theft(), 1))

    with pytest.raises(BadInput, match=words):
        plan_undo(log, key.did_key, None, NOW + hours * HOUR)
    if key is RECOVERY:
        with pytest.raises(BadInput, match=words):
            plan_change(log, key.did_key, {}, NOW + hours * HOUR)


def test_the_genesis_and_strange_cids_are_refused():
    log = audit_of(entry(GENESIS))

    with pytest.raises(BadInput, match="first operation"):
        plan_undo(log, RECOVERY.did_key, None, NOW)
    with pytest.raises(BadInput, match="no operation in force"):
        plan_undo(log, RECOVERY.did_key, "bafyreiaaaa", NOW)
    assert why_not_undoable(log, 0, RECOVERY.did_key, NOW) is not None
    assert keys_that_undo(log, 0) == []


def test_which_keys_can_undo():
    log = audit_of(entry(GENESIS), entry(theft(), 1))

    assert keys_that_undo(log, 1) == [RECOVERY.did_key]


def test_differences_are_named_by_field():
    lines = differences(GENESIS, theft())

    assert f"- rotation key {RECOVERY.did_key}" in lines
    assert f"+ rotation key {STRANGER.did_key}" in lines
    assert "+ name at://thief.example.com" in lines
    assert differences(GENESIS, plc.sign_op(plc.tombstone(GENESIS), BOX)) == ["the identity is ended (tombstone)"]
    assert differences(GENESIS, GENESIS) == []
    swapped = {**GENESIS, "rotationKeys": GENESIS["rotationKeys"][::-1]}
    assert "another order" in differences(GENESIS, swapped)[0]
    moved = {**GENESIS, "services": {"atproto_pds": {"type": plc.PDS_TYPE, "endpoint": "https://x.example.com"}}}
    assert differences(GENESIS, moved) == [
        "- service atproto_pds https://pds.example.com",
        "+ service atproto_pds https://x.example.com",
    ]
