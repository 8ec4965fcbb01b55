"""PLC operations: what is signed hashes to its DID, and an audit log that lies anywhere is refused by entry."""

import base64
import copy
from datetime import UTC, datetime, timedelta

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.keys import K256
from pds_lite.errors import BadInput, BadKey

RECOVERY = P256Key.from_bytes(b"\x01" * 32)
BOX = K256Key.from_bytes(b"\x02" * 32)
SIGNING = K256Key.from_bytes(b"\x03" * 32)
STRANGER = K256Key.from_bytes(b"\x04" * 32)
START = datetime(2026, 11, 1, tzinfo=UTC)

GENESIS = plc.sign_op(
    plc.genesis([RECOVERY.did_key, BOX.did_key], SIGNING.did_key, "alice.example.com", "https://pds.example.com"), BOX
)
DID = plc.did_of(GENESIS)


def entry(op, hours=0.0, nullified=False, did=DID):
    created = (START + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"did": did, "operation": op, "cid": str(plc.op_cid(op)), "nullified": nullified, "createdAt": created}


def rename(last, name, key=BOX):
    return plc.sign_op(plc.update(last, {"alsoKnownAs": [f"at://{name}"]}), key)


def legacy_create(key=STRANGER):
    op = {
        "type": "create",
        "signingKey": key.did_key,
        "recoveryKey": RECOVERY.did_key,
        "handle": "alice.example.com",
        "service": "pds.example.com",
        "prev": None,
    }
    return plc.sign_op(op, key)


def test_a_genesis_hashes_to_its_did_and_is_signed_by_the_box():
    assert DID.startswith("did:plc:")
    assert len(DID) == 32
    assert plc.verify_op(GENESIS, GENESIS["rotationKeys"]) == BOX.did_key
    assert GENESIS["prev"] is None
    assert GENESIS["rotationKeys"][0] == RECOVERY.did_key, "the owner's key has the last word"


def test_an_update_names_its_predecessor_and_keeps_the_rest():
    op = rename(GENESIS, "bob.example.com")

    assert op["prev"] == str(plc.op_cid(GENESIS))
    assert op["alsoKnownAs"] == ["at://bob.example.com"]
    assert {**op, "prev": None, "alsoKnownAs": GENESIS["alsoKnownAs"], "sig": GENESIS["sig"]} == GENESIS


@pytest.mark.parametrize("spoil", ["padding", "high s", "der", "short", "empty", "stranger", "spare bits"])
def test_a_signature_in_any_other_form_is_none(spoil):
    signature = decode_base64url(GENESIS["sig"])
    high = signature[:32] + (K256.order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    last = GENESIS["sig"][-1]
    sig = {
        "padding": GENESIS["sig"] + "==",
        "high s": encode_base64url(high),
        "der": encode_base64url(b"\x30\x44" + signature),
        "short": encode_base64url(signature[:63]),
        "empty": "",
        "stranger": rename(GENESIS, "x.example.com", STRANGER)["sig"],
        "spare bits": GENESIS["sig"][:-1] + chr(ord(last) + 1),
    }[spoil]

    with pytest.raises(BadKey):
        plc.verify_op({**GENESIS, "sig": sig}, GENESIS["rotationKeys"])


@pytest.mark.parametrize(
    "change",
    [
        {"rotationKeys": []},
        {"rotationKeys": [BOX.did_key, BOX.did_key]},
        {"rotationKeys": [K256Key.from_bytes(bytes((i,)) * 32).did_key for i in range(1, 7)]},
        {"rotationKeys": ["did:key:zQ3sh"]},
        {"rotationKeys": "did:key"},
        {"verificationMethods": []},
        {"verificationMethods": {"atproto": "z6Mk"}},
        {"alsoKnownAs": "at://alice.example.com"},
        {"alsoKnownAs": [1]},
        {"services": {"atproto_pds": "https://pds.example.com"}},
        {"services": {"atproto_pds": {"type": "x"}}},
        {"services": {"atproto_pds": {"type": "x", "endpoint": "y", "more": "z"}}},
        {"prev": 1},
        {"sig": None},
        {"type": "plc_thing"},
        {"extra": 1},
        {"alsoKnownAs": ["at://" + "a" * 7500]},
    ],
)
def test_an_operation_of_the_wrong_shape_is_refused(change):
    with pytest.raises(BadInput):
        plc.check_op({**GENESIS, **change})


def test_a_missing_field_is_refused():
    for name in GENESIS:
        with pytest.raises(BadInput):
            plc.check_op({key: value for key, value in GENESIS.items() if key != name})


def test_an_audit_log_gives_the_state_in_force():
    second = rename(GENESIS, "bob.example.com")
    audit = plc.audit(DID, [entry(GENESIS), entry(second, 1)])

    assert audit.last == second
    assert audit.state["alsoKnownAs"] == ["at://bob.example.com"]
    assert not audit.is_tombstoned


def test_the_owner_undoes_within_72_hours_what_the_box_signed():
    hijacked = rename(GENESIS, "thief.example.com", BOX)
    rescued = rename(GENESIS, "alice2.example.com", RECOVERY)
    log = [entry(GENESIS), entry(hijacked, 1, nullified=True), entry(rescued, 72)]

    assert plc.audit(DID, log).last == rescued
    with pytest.raises(BadInput, match="entry 3: undoes an operation older"):
        plc.audit(DID, [*log[:2], entry(rescued, 73.1)])


def test_the_box_cannot_undo_what_the_owner_or_itself_signed():
    for first_signer in (RECOVERY, BOX):
        first, second = rename(GENESIS, "a.example.com", first_signer), rename(GENESIS, "b.example.com", BOX)
        with pytest.raises(BadInput, match=r"entry 3: .*none of the rotation keys"):
            plc.audit(DID, [entry(GENESIS), entry(first, 1, nullified=True), entry(second, 2)])


def test_a_tombstone_ends_the_log_but_remembers_the_state():
    end = plc.sign_op(plc.tombstone(GENESIS), BOX)
    audit = plc.audit(DID, [entry(GENESIS), entry(end, 1)])

    assert audit.is_tombstoned
    assert audit.state == GENESIS
    after = plc.sign_op({**plc.update(GENESIS, {}), "prev": str(plc.op_cid(end))}, BOX)
    with pytest.raises(BadInput, match="nothing follows a tombstone"):
        plc.audit(DID, [entry(GENESIS), entry(end, 1), entry(after, 2)])


def test_a_legacy_create_counts_as_the_operation_it_stands_for():
    create = legacy_create()
    did = plc.did_of(create)
    second = rename(create, "bob.example.com", STRANGER)
    audit = plc.audit(did, [entry(create, did=did), entry(second, 1, did=did)])

    assert audit.state["services"]["atproto_pds"]["endpoint"] == "https://pds.example.com"
    assert audit.state["rotationKeys"] == [RECOVERY.did_key, STRANGER.did_key]


def spoiled_logs():
    second = rename(GENESIS, "bob.example.com")
    good = [entry(GENESIS), entry(second, 1)]
    wrong = "did:plc:" + "a" * 24
    yield "entry 1: the first operation does not hash", wrong, [entry(GENESIS, did=wrong)]
    yield "the log is empty", DID, []
    yield "entry 1: the first operation has a predecessor", DID, good[1:]
    yield "entry 2: .*none of the rotation keys", DID, [good[0], entry(rename(GENESIS, "x.example.com", STRANGER))]
    yield "entry 2: prev names no operation", DID, [good[0], entry(rename(second, "x.example.com"))]
    yield "entry 1: wrong nullified mark", DID, [entry(GENESIS, nullified=True)]
    yield "entry 2: a legacy create comes first", DID, [good[0], entry(legacy_create())]
    changes = ({"cid": str(plc.op_cid(GENESIS))}, {"createdAt": "yesterday"}, {"createdAt": None}, {"did": "did:plc:x"})
    for change in changes:
        log = copy.deepcopy(good)
        log[1].update(change)
        yield "entry 2: ", DID, log
    yield "entry 1: not an entry", DID, [{"did": DID}]
    yield "entry 1: not an object", DID, ["x"]


@pytest.mark.parametrize(("message", "did", "log"), list(spoiled_logs()))
def test_a_log_that_lies_is_refused_by_entry(message, did, log):
    with pytest.raises(BadInput, match=message):
        plc.audit(did, log)


def test_the_did_is_the_start_of_the_hash_in_base32():
    cid = plc.op_cid(GENESIS)
    assert DID[8:] == base64.b32encode(cid.digest).decode().lower()[:24]
