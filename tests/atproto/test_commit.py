"""The commit object: its bytes, its signature, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import MAX_COMMIT, Commit, decode_commit, sign_commit, unsigned_bytes, verify_commit
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.errors import BadCommit, BadKey
from tests.atproto.repos import DID, some_sign

DATA = Cid.of_cbor(b"tree")
REV = "3lo3kqqljmfe2"
FIELDS = {"did": DID, "version": 3, "data": DATA, "rev": REV, "prev": None, "sig": b"\x07" * 64}


@given(st.text("abcdef:.", max_size=400), st.sampled_from([None, Cid.of_cbor(b"prev")]))
def test_the_bytes_are_those_of_the_general_codec(did, prev):
    fields = {**FIELDS, "did": did, "prev": prev}
    unsigned = {name: value for name, value in fields.items() if name != "sig"}
    assert unsigned_bytes(did, REV, DATA, prev) == dag_cbor.encode(unsigned)
    assert decode_commit(dag_cbor.encode(fields)) == Commit(did, REV, DATA, fields["sig"], prev)


@pytest.mark.parametrize("kind", [K256Key, P256Key])
def test_a_signed_commit_verifies_with_its_key_and_no_other(kind):
    key, other = kind.from_bytes(b"\x11" * 32), kind.from_bytes(b"\x12" * 32)
    cid, block = sign_commit(DID, REV, DATA, key.sign)
    assert cid.matches(block)
    commit = decode_commit(block)
    assert (commit.did, commit.rev, commit.data, commit.prev) == (DID, REV, DATA, None)
    verify_commit(commit, key.did_key)
    with pytest.raises(BadCommit, match="signature"):
        verify_commit(commit, other.did_key)
    with pytest.raises(BadCommit, match="signature"):
        verify_commit(Commit(DID, REV, Cid.of_cbor(b"another tree"), commit.sig), key.did_key)
    with pytest.raises(BadKey):
        verify_commit(commit, "did:key:z6Mk")


def test_a_signature_of_another_length_is_never_written():
    with pytest.raises(BadCommit, match="64 bytes"):
        sign_commit(DID, REV, DATA, lambda message: b"short")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"did": None},
        {"rev": "2024-01-01"},
        {"rev": None},
        {"data": None},
        {"data": Cid.of_raw(b"")},
        {"data": bytes(DATA)},
        {"prev": 0},
        {"prev": Cid.of_raw(b"")},
        {"sig": b"\x07" * 63},
        {"sig": "x" * 64},
        {"extra": 1},
        {"did": "did:web:" + "a" * MAX_COMMIT},
    ],
)
def test_other_shapes_are_refused(change):
    with pytest.raises(BadCommit):
        decode_commit(dag_cbor.encode({**FIELDS, **change}))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_must_be_there(name):
    with pytest.raises(BadCommit):
        decode_commit(dag_cbor.encode({key: value for key, value in FIELDS.items() if key != name}))


@given(st.data())
def test_damaged_bytes_are_refused_or_mean_what_they_say(data):
    block = bytearray(sign_commit(DID, REV, DATA, some_sign)[1])
    at = data.draw(st.integers(0, len(block) - 1))
    block[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    try:
        commit = decode_commit(bytes(block))
    except BadCommit:
        return
    fields = {"did": commit.did, "rev": commit.rev, "data": commit.data, "sig": commit.sig, "prev": commit.prev}
    assert dag_cbor.encode({**fields, "version": 3}) == block


def test_bytes_that_are_no_object_are_refused():
    for block in (b"", b"\xf6", b"\x80", b"\xff" * 10):
        with pytest.raises(BadCommit):
            decode_commit(block)
