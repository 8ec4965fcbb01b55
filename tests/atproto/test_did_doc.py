"""DID documents: lenient about what others write, strict about what is used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto import did_doc, plc
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.multibase import encode_base58
from pds_lite.errors import BadData

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY = K256Key.from_bytes(b"\x11" * 32)
OTHER = P256Key.from_bytes(b"\x12" * 32)
PDS = "https://pds.example.com"


def document(**changes):
    services = [did_doc.pds_service(PDS)]
    return {
        **did_doc.build(DID, handle="alice.example.com", signing_did_key=KEY.did_key, services=services),
        **changes,
    }


def method(fragment="#atproto", kind="Multikey", multibase=KEY.did_key[8:]):
    return {"id": fragment, "type": kind, "controller": DID, "publicKeyMultibase": multibase}


def service(fragment="#atproto_pds", kind="AtprotoPersonalDataServer", endpoint=PDS):
    return {"id": fragment, "type": kind, "serviceEndpoint": endpoint}


def test_what_is_built_reads_back():
    doc = did_doc.parse(document(), DID)

    assert (doc.did, doc.handle, doc.signing_key, doc.pds) == (DID, "alice.example.com", KEY.did_key, PDS)
    assert doc.document == document()


def test_an_operation_makes_the_same_document():
    op = plc.sign_op(plc.genesis([KEY.did_key], KEY.did_key, "alice.example.com", PDS), KEY)

    assert did_doc.of_operation(DID, op) == document()


@pytest.mark.parametrize("wrong", [None, [], "x", {}, {"id": "did:plc:other"}, {"id": DID.upper()}])
def test_a_document_of_another_did_is_refused(wrong):
    with pytest.raises(BadData):
        did_doc.parse(wrong, DID)


def test_a_document_may_be_all_but_empty():
    doc = did_doc.parse({"id": DID}, DID)
    assert (doc.handle, doc.signing_key, doc.pds) == (None, None, None)


def test_fragment_ids_are_relative_or_absolute():
    absolute = document(verificationMethod=[method(DID + "#atproto")], service=[service(DID + "#atproto_pds")])
    doc = did_doc.parse(absolute, DID)
    assert (doc.signing_key, doc.pds) == (KEY.did_key, PDS)

    foreign = did_doc.parse(document(verificationMethod=[method("did:web:x.example.com#atproto")], service=[]), DID)
    assert foreign.signing_key is None


def test_the_first_valid_key_counts():
    methods = [
        method(multibase="zNonsense"),
        method(kind="JsonWebKey2020"),
        method(multibase=OTHER.did_key[8:]),
        method(),
    ]
    assert did_doc.parse(document(verificationMethod=methods), DID).signing_key == OTHER.did_key


@pytest.mark.parametrize(("key", "suite"), [(KEY, "EcdsaSecp256k1"), (OTHER, "EcdsaSecp256r1")])
def test_legacy_key_types_hold_bare_points(key, suite):
    methods = [method(kind=suite + "VerificationKey2019", multibase=encode_base58(key.public_key.uncompressed))]
    assert did_doc.parse(document(verificationMethod=methods), DID).signing_key == key.did_key


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (service(endpoint="https://pds.example.com:8443"), "https://pds.example.com:8443"),
        (service(endpoint="http://localhost:2583"), "http://localhost:2583"),
        (service(endpoint=PDS + "/"), PDS),
        (service(endpoint=PDS + "/path"), None),
        (service(endpoint=PDS + "?q"), None),
        (service(endpoint="ftp://pds.example.com"), None),
        (service(endpoint="https://user@pds.example.com"), None),
        (service(endpoint="https://pds.example.com:99999"), None),
        (service(endpoint="https://"), None),
        (service(endpoint="https://a b"), None),
        (service(endpoint="https://[::1"), None),
        (service(endpoint=None), None),
        (service(kind="Other"), None),
        (service("#other"), None),
    ],
)
def test_the_pds_is_an_origin_of_the_right_type(entry, expected):
    assert did_doc.parse(document(service=[entry]), DID).pds == expected


def test_other_services_are_found_by_fragment_with_their_path():
    entries = [
        service("#bsky_appview", "BskyAppView", "https://api.example.com/x"),
        service("#bsky_appview", "Y", "https://y.z"),
    ]
    doc = did_doc.parse(document(service=entries), DID)

    assert doc.service_endpoint("bsky_appview") == "https://api.example.com/x"
    assert doc.service_endpoint("bsky_appview", "BskyAppView") == "https://api.example.com/x"
    assert doc.service_endpoint("bsky_appview", "Y") is None, "the first entry of an id counts"
    assert doc.service_endpoint("nothing") is None


def test_handles_are_valid_lower_case_and_in_order():
    names = ["https://x.example.com", "at://not a handle", 7, "at://Bob.Example.com", "at://alice.example.com"]
    assert did_doc.parse(document(alsoKnownAs=names), DID).handles == ("bob.example.com", "alice.example.com")


WORDS = st.sampled_from(["#atproto", "Multikey", PDS, DID])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "serviceEndpoint", "publicKeyMultibase", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["alsoKnownAs", "verificationMethod", "service"]), JSON, max_size=3))
def test_any_json_of_the_right_id_is_read_without_an_exception(members):
    assert did_doc.parse({**members, "id": DID}, DID).did == DID
