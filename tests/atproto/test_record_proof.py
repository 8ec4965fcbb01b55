"""A record out of a proof: what its account signed, or nothing."""

import pytest

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import sign_commit
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.mst.proof import path_proof
from pds_lite.atproto.mst.tree import build, no_load, seal
from pds_lite.atproto.record_proof import proven_record
from pds_lite.errors import BadCommit, BadInput, NotFound

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY = K256Key.from_bytes(b"\x31" * 32)
RECORDS = {b"com.example.thing/%d" % number: dag_cbor.encode({"n": number}) for number in range(200)}
PATH = b"com.example.thing/77"


def make_proof(path=PATH, *, did=DID, key=KEY, without=None, record=None):
    root = build(sorted((name, Cid.of_cbor(block)) for name, block in RECORDS.items()))
    seal(root, "3jzfcijpj2z2a")
    commit_cid, commit = sign_commit(did, "3jzfcijpj2z2a", root.cid, key.sign)
    blocks = [(commit_cid, commit), *path_proof(root, path, no_load)]
    if path in RECORDS:
        block = record or RECORDS[path]
        blocks.append((Cid.of_cbor(block), block))
    if without is not None:
        del blocks[without]
    return b"".join(write_car(commit_cid, blocks))


def test_a_proof_gives_the_record():
    assert proven_record(make_proof(), DID, KEY.did_key, PATH) == {"n": 77}


def test_a_proof_may_show_that_there_is_none():
    missing = b"com.example.thing/none"
    with pytest.raises(NotFound):
        proven_record(make_proof(missing), DID, KEY.did_key, missing)


@pytest.mark.parametrize("without", [0, 1, -1])
def test_a_proof_with_a_block_missing_proves_nothing(without):
    with pytest.raises(BadInput):
        proven_record(make_proof(without=without), DID, KEY.did_key, PATH)


def test_another_record_is_not_the_one_signed():
    with pytest.raises(BadInput):
        proven_record(make_proof(record=dag_cbor.encode({"n": 1})), DID, KEY.did_key, PATH)


def test_another_signer_or_repository_is_refused():
    other = K256Key.from_bytes(b"\x32" * 32)
    with pytest.raises(BadCommit):
        proven_record(make_proof(key=other), DID, KEY.did_key, PATH)
    with pytest.raises(BadCommit):
        proven_record(make_proof(did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), DID, KEY.did_key, PATH)


@pytest.mark.parametrize("cut", [0, 1, 40, 300])
def test_what_is_no_car_is_refused(cut):
    with pytest.raises(BadInput):
        proven_record(make_proof()[:cut], DID, KEY.did_key, PATH)


def test_a_flipped_byte_anywhere_is_noticed():
    car = make_proof()
    for index in range(0, len(car), 7):
        forged = car[:index] + bytes((car[index] ^ 1,)) + car[index + 1 :]
        try:
            found = proven_record(forged, DID, KEY.did_key, PATH)
        except BadInput:
            continue
        raise AssertionError(f"byte {index} changed and the proof still gave {found}")
