"""npm @atproto/* and PyPI atproto agree with us on keys, signatures, service tokens, DID documents, PLC operations."""

import json
import secrets
import urllib.error
import urllib.request

import pytest

from pds_lite.atproto import did_doc, plc, service_auth
from pds_lite.atproto.crypto import K256Key, P256Key, verify
from tests.interop.reference import ask_crypto, plc_directory

pytestmark = pytest.mark.interop

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
AUD = "did:web:pds.example.com"
LXM = "com.atproto.repo.uploadBlob"


def random_keys(count=6):
    return [kind.generate(secrets.token_bytes(40)) for kind in (K256Key, P256Key) for _ in range(count)]


def test_npm_signs_and_names_keys_byte_for_byte_as_we_do(reference_node):
    cases = [(key, secrets.token_bytes(index * 17)) for index, key in enumerate(random_keys())]
    questions = [["did_key", key.alg, key.export().hex()] for key, _ in cases]
    questions += [["sign", key.alg, key.export().hex(), message.hex()] for key, message in cases]

    answers = ask_crypto(reference_node, questions)

    assert answers[: len(cases)] == [key.did_key for key, _ in cases]
    assert answers[len(cases) :] == [key.sign(message).hex() for key, message in cases]


def test_npm_and_we_accept_and_refuse_the_same_signatures(reference_node):
    cases = []
    for key in random_keys(3):
        message, other = b"message", b"other"
        signature = key.sign(message)
        high = signature[:32] + (key.curve.order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
        cases += [(key, message, signature), (key, other, signature), (key, message, high)]

    answers = ask_crypto(
        reference_node, [["verify", key.did_key, message.hex(), signature.hex()] for key, message, signature in cases]
    )

    assert answers == [verify(key.did_key, message, signature) for key, message, signature in cases]
    assert answers == [True, False, False] * 6


def test_service_tokens_are_understood_both_ways(reference_node):
    keys = random_keys(1)
    now = 4_000_000_000  # far ahead of the clock that the npm side reads
    questions = []
    for key in keys:
        token = service_auth.mint(key, DID, AUD, LXM, now, now + 60, "nonce")
        questions.append(["check", token, AUD, LXM, key.did_key])
        questions.append(["check", token, AUD, "com.atproto.repo.createRecord", key.did_key])
        params = {"iss": DID, "aud": AUD, "lxm": LXM, "iat": now, "exp": now + 60}
        questions.append(["mint", key.alg, key.export().hex(), params])

    answers = ask_crypto(reference_node, questions)

    for index, key in enumerate(keys):
        claims, refusal, token = answers[index * 3 : index * 3 + 3]
        assert claims["jti"] == "nonce"
        assert refusal == {"error": "BadJwtLexiconMethod"}
        checked = service_auth.check(token, [AUD], LXM, now, lambda iss, kid, key=key: key.did_key)
        assert (checked.iss, checked.lxm) == (DID, LXM)


def test_npm_reads_our_did_document_as_we_do(reference_node):
    key = random_keys(1)[0]
    document = did_doc.build(
        DID,
        handle="alice.example.com",
        signing_did_key=key.did_key,
        services=[did_doc.pds_service("https://pds.example.com")],
    )

    [answer] = ask_crypto(reference_node, [["read_document", document]])

    ours = did_doc.parse(document, DID)
    assert answer == {"did": DID, "signingKey": key.did_key, "handle": ours.handle, "pds": ours.pds}


def test_pypi_atproto_agrees_on_did_keys_and_signatures():
    did = pytest.importorskip("atproto_crypto.did", reason="PyPI atproto is a dev dependency")
    from atproto_crypto.verify import verify_signature

    for key in random_keys(2):
        parsed = did.parse_did_key(key.did_key)
        assert parsed.jwt_alg == key.alg
        assert parsed.key_bytes == key.public_key.uncompressed
        assert verify_signature(key.did_key, b"message", key.sign(b"message"))


def post(url, op):
    request = urllib.request.Request(url, json.dumps(op).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def test_a_real_directory_takes_the_whole_life_of_an_identity(reference_node):
    """Create, rename, refuse a stranger, recover with the owner's key, end; its answers are what we compute."""
    recovery, box, signing = P256Key.generate(secrets.token_bytes(40)), *random_keys(2)[:2]
    genesis = plc.sign_op(
        plc.genesis([recovery.did_key, box.did_key], signing.did_key, "alice.test", "https://pds.example.com"), box
    )
    did = plc.did_of(genesis)
    with plc_directory(reference_node) as url:
        assert post(f"{url}/{did}", genesis) == 200
        renamed = plc.sign_op(plc.update(genesis, {"alsoKnownAs": ["at://bob.test"]}), box)
        assert post(f"{url}/{did}", renamed) == 200
        document = did_doc.parse(fetch(f"{url}/{did}"), did)
        assert document == did_doc.parse(did_doc.of_operation(did, renamed), did)
        assert fetch(f"{url}/{did}/log/last") == renamed

        stranger = random_keys(1)[0]
        stolen = plc.sign_op(plc.update(renamed, {"alsoKnownAs": ["at://thief.test"]}), stranger)
        assert post(f"{url}/{did}", stolen) == 400
        assert post(f"{url}/{did}", {**renamed, "prev": str(plc.op_cid(renamed))}) == 400, "a stale signature"

        rescued = plc.sign_op(plc.update(genesis, {"alsoKnownAs": ["at://rescued.test"]}), recovery)
        assert post(f"{url}/{did}", rescued) == 200
        log = fetch(f"{url}/{did}/log/audit")
        assert plc.audit(did, log).last == rescued
        assert [entry["nullified"] for entry in log] == [False, True, False]

        end = plc.sign_op(plc.tombstone(rescued), recovery)
        assert post(f"{url}/{did}", end) == 200
        assert plc.audit(did, fetch(f"{url}/{did}/log/audit")).is_tombstoned
        after = plc.sign_op({**plc.update(rescued, {}), "prev": str(plc.op_cid(end))}, recovery)
        assert post(f"{url}/{did}", after) == 400


def test_a_real_directory_refuses_what_we_refuse(reference_node):
    box = K256Key.generate(secrets.token_bytes(40))
    genesis = plc.sign_op(plc.genesis([box.did_key], box.did_key, "alice.test", "https://pds.example.com"), box)
    did = plc.did_of(genesis)
    with plc_directory(reference_node) as url:
        assert post(f"{url}/{'did:plc:' + 'a' * 24}", genesis) == 400
        assert post(f"{url}/{did}", {**genesis, "rotationKeys": []}) == 400
        assert post(f"{url}/{did}", {key: value for key, value in genesis.items() if key != "services"}) == 400
        assert post(f"{url}/{did}", genesis) == 200
