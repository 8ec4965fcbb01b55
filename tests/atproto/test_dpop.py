"""DPoP proofs: each thing that a thief or a careless client could get wrong is refused by its name."""

import hmac
from hashlib import sha256

import pytest

from pds_lite import ujson
from pds_lite.atproto import dpop
from pds_lite.atproto.base64url import encode_base64url
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.jwk import format_jwk, thumbprint
from pds_lite.atproto.jwt import encode_jws
from pds_lite.errors import OAuthError

KEY = P256Key.from_bytes(b"\x07" * 32)
URL = "https://pds.example.com/oauth/token"
NOW = 1_800_000_000
NONCE = "current"


def proof(claims=(), header=(), key=KEY):
    good = {"jti": "one", "htm": "POST", "htu": URL, "iat": NOW, "nonce": NONCE}
    head = {"typ": "dpop+jwt", "jwk": format_jwk(key.public_key), **dict(header)}
    return encode_jws(head, {name: value for name, value in {**good, **dict(claims)}.items() if value is not None}, key)


def check(text, *, method="POST", url=URL, token=None, now=NOW):
    return dpop.check_proof(text, method, url, now, lambda nonce: nonce == NONCE, token)


def refusal(text, **request):
    with pytest.raises(OAuthError) as raised:
        check(text, **request)
    return raised.value.error


@pytest.mark.parametrize("key", [KEY, K256Key.from_bytes(b"\x09" * 32)])
def test_a_good_proof_names_its_key(key):
    assert check(proof(key=key)) == dpop.Proof(thumbprint(key.public_key), "one")


def test_a_key_with_alg_use_and_kid_is_the_same_key():
    jwk = {**format_jwk(KEY.public_key), "alg": "ES256", "use": "sig", "kid": "k", "key_ops": ["verify"]}
    assert check(proof(header={"jwk": jwk})).jkt == thumbprint(KEY.public_key)


@pytest.mark.parametrize(
    "claims",
    [
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 600},
        {"htm": None},
        {"htm": "GET"},
        {"htm": "post"},
        {"htu": None},
        {"htu": "https://evil.example/oauth/token"},
        {"htu": "http://pds.example.com/oauth/token"},
        {"htu": "https://pds.example.com:8443/oauth/token"},
        {"htu": "https://pds.example.com/oauth/par"},
        {"htu": "https://pds.example.com/oauth/token/"},
        {"htu": "https://pds.example.com/oauth/Token"},
        {"htu": "https://me@pds.example.com/oauth/token"},
        {"htu": "ftp://pds.example.com/oauth/token"},
        {"htu": "https://[pds.example.com/oauth/token"},
        {"htu": "/oauth/token"},
        {"htu": ["https://pds.example.com/oauth/token"]},
        {"iat": None},
        {"iat": True},
        {"iat": str(NOW)},
        {"iat": NOW - 191},
        {"iat": NOW + 181},
        {"exp": NOW - 180},
        {"exp": "later"},
        {"nbf": NOW + 181},
        {"ath": "anything"},
    ],
)
def test_a_claim_that_does_not_fit_the_request_is_refused(claims):
    assert refusal(proof(claims)) == "invalid_dpop_proof"


@pytest.mark.parametrize(
    "htu", [URL + "?a=b", URL + "#f", "HTTPS://PDS.example.com/oauth/token", "https://pds.example.com:443/oauth/token"]
)
def test_query_case_and_default_port_make_no_other_url(htu):
    assert check(proof({"htu": htu}))
    assert check(proof(), url=URL + "?x=y")


@pytest.mark.parametrize(
    "claims", [{"iat": NOW - 190}, {"iat": NOW + 180}, {"iat": NOW + 0.5}, {"exp": NOW - 179, "nbf": NOW + 180}]
)
def test_clocks_may_differ_a_little(claims):
    assert check(proof(claims))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"jwk": None},
        {"jwk": "key"},
        {"jwk": {}},
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jwk": {"kty": "EC", "crv": "P-256", "x": 1, "y": []}},
        {"jwk": {**format_jwk(KEY.public_key), "y": format_jwk(KEY.public_key)["x"]}},
        {"jwk": {**format_jwk(KEY.public_key), "d": encode_base64url(KEY.export())}},
        {"jwk": {**format_jwk(KEY.public_key), "alg": "ES256K"}},
        {"jwk": {**format_jwk(KEY.public_key), "use": "enc"}},
        {"jwk": format_jwk(P256Key.from_bytes(b"\x08" * 32).public_key)},
        {"crit": ["exp"]},
    ],
)
def test_a_header_that_proves_nothing_is_refused(header):
    assert refusal(proof(header=header)) == "invalid_dpop_proof"


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES384", ""])
def test_no_other_algorithm_is_tried(alg):
    head = {"typ": "dpop+jwt", "alg": alg, "jwk": format_jwk(KEY.public_key)}
    claims = {"jti": "one", "htm": "POST", "htu": URL, "iat": NOW, "nonce": NONCE}
    signing_input = f"{encode_base64url(ujson.dumpb(head))}.{encode_base64url(ujson.dumpb(claims))}"
    mac = hmac.digest(ujson.dumpb(head["jwk"]), signing_input.encode(), sha256)
    for signature in ("", encode_base64url(mac), encode_base64url(KEY.sign(signing_input.encode()))):
        assert refusal(f"{signing_input}.{signature}") == "invalid_dpop_proof"


def test_a_changed_byte_breaks_the_signature():
    text = proof()
    head, claims, signature = text.split(".")
    forged = encode_base64url(ujson.dumpb({**ujson.loads(dpop_claims(claims)), "htm": "POST", "extra": 1}))
    assert refusal(f"{head}.{forged}.{signature}") == "invalid_dpop_proof"
    for junk in ("", ".", "..", text + ".", text + ", " + text, "é" * 10, "a" * 9000):
        assert refusal(junk) == "invalid_dpop_proof"


def dpop_claims(part):
    from pds_lite.atproto.base64url import decode_base64url

    return decode_base64url(part)


@pytest.mark.parametrize("nonce", [None, "old", "", 5])
def test_only_the_nonce_missing_asks_for_a_nonce(nonce):
    assert refusal(proof({"nonce": nonce})) == "use_dpop_nonce"


def test_a_proof_belongs_to_one_token():
    with_token = proof({"ath": dpop.token_hash("token")})
    assert check(with_token, token="token")
    assert refusal(with_token, token="other") == "invalid_dpop_proof"
    assert refusal(proof(), token="token") == "invalid_dpop_proof"
    assert refusal(proof({"ath": 5}), token="token") == "invalid_dpop_proof"
