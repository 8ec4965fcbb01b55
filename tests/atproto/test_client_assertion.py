"""Client assertions: only the published key, for this server, now."""

import pytest

from pds_lite.atproto.client_assertion import check_assertion, check_request_object, publishes
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.jwk import format_jwk, thumbprint
from pds_lite.atproto.jwt import encode_hs256, encode_jws
from pds_lite.errors import OAuthError

CLIENT, ISSUER, NOW = "https://app.example.com/client.json", "https://pds.example.com", 1_800_000_000
KEY, OTHER = P256Key.from_bytes(b"\x41" * 32), P256Key.from_bytes(b"\x42" * 32)
JWK = {**format_jwk(KEY.public_key), "kid": "one"}
KEYS = [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"}, JWK]
GOOD = {"iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": "once"}


def make(claims=(), header=(), key=KEY):
    said = {name: value for name, value in {**GOOD, **dict(claims)}.items() if value is not None}
    return encode_jws({"kid": "one", **dict(header)}, said, key)


def check(token, keys=KEYS):
    return check_assertion(token, CLIENT, ISSUER, keys, NOW)


def test_a_good_assertion_names_its_key():
    shown = check(make())
    assert shown.key == f"one ES256 {thumbprint(KEY.public_key)}"
    assert shown.jti == "once"
    assert check(make({"aud": ["https://x.example", ISSUER]})).jti == "once"
    assert check(make({"exp": None, "nbf": NOW})).jti == "once"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example/c.json"}, {"sub": None}, {"aud": "https://x.example"}, {"aud": []}, {"aud": None},
        {"iat": NOW - 91}, {"iat": NOW + 31}, {"iat": None}, {"iat": "now"}, {"iat": True}, {"exp": NOW - 31},
        {"exp": "later"}, {"nbf": NOW + 31}, {"jti": None}, {"jti": ""}, {"jti": "x" * 600}, {"jti": 1},
    ],
)  # fmt: skip
def test_claims_for_another_time_place_or_client_are_refused(claims):
    with pytest.raises(OAuthError) as raised:
        check(make(claims))
    assert raised.value.error == "invalid_client"


def test_only_the_key_that_the_kid_names_will_do_with_its_own_algorithm():
    k256 = K256Key.from_bytes(b"\x43" * 32)
    public = [{**format_jwk(k256.public_key), "kid": "one"}]
    bad = [
        (make(key=OTHER), KEYS),
        (make(header={"kid": "two"}), KEYS),
        (make(header={"kid": None}), KEYS),
        (make(header={"kid": "rsa"}), KEYS),
        (make(key=k256), KEYS),
        (make(), public),
        (encode_hs256(GOOD, b"secret", "JWT"), KEYS),
        (make() + "x", KEYS),
        ("", KEYS),
        (make(), []),
    ]
    for token, keys in bad:
        with pytest.raises(OAuthError):
            check(token, keys)
    assert check(make(key=k256), public).key == f"one ES256K {thumbprint(k256.public_key)}"


def test_whether_a_key_is_still_published():
    assert publishes(KEYS, thumbprint(KEY.public_key))
    assert not publishes(KEYS, thumbprint(OTHER.public_key))
    assert not publishes([{}], thumbprint(KEY.public_key))


def unwrap(claims=(), key=KEY, keys=KEYS):
    token = make({"sub": None, "client_id": CLIENT, "scope": "atproto", **dict(claims)}, key=key)
    return check_request_object(token, CLIENT, ISSUER, keys, NOW)


def test_a_request_object_holds_parameters_and_nothing_about_itself():
    assert unwrap({"state": "s"}) == ({"client_id": CLIENT, "scope": "atproto", "state": "s"}, "once")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example/c.json"}, {"aud": "https://x.example"}, {"iat": NOW - 91}, {"iat": None},
        {"jti": None}, {"client_id": None}, {"client_id": "https://evil.example/c.json"}, {"scope": ["atproto"]},
    ],
)  # fmt: skip
def test_a_request_object_for_another_time_place_or_client_is_refused(claims):
    with pytest.raises(OAuthError) as raised:
        unwrap(claims)
    assert raised.value.error == "invalid_request_object"


def test_only_a_published_key_signs_request_objects():
    for key, keys in ((OTHER, KEYS), (KEY, [])):
        with pytest.raises(OAuthError):
            unwrap(key=key, keys=keys)
    plain = encode_jws({"kid": "one"}, {**GOOD, "client_id": CLIENT}, KEY).split(".")
    with pytest.raises(OAuthError):
        check_request_object(f"eyJhbGciOiJub25lIn0.{plain[1]}.", CLIENT, ISSUER, KEYS, NOW)
