"""Tokens: a signature decides before anything is parsed, and no token chooses how it is checked."""

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto import jwt
from pds_lite.atproto.base64url import decode_base64url
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.keys import P256
from pds_lite.errors import BadKey

SECRET = b"s" * 32
KEYS = [K256Key.from_bytes(b"\x11" * 32), P256Key.from_bytes(b"\x11" * 32)]


def part(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header, claims, secret=SECRET) -> str:
    """An HS256 token built by hand."""
    signing_input = f"{part(header)}.{part(claims)}"
    return f"{signing_input}.{jwt._mac(signing_input, secret)}"


def test_rfc_7515_example_is_an_hs256_token():
    """RFC 7515 A.1: an independent signature by a known key."""
    secret = decode_base64url("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    token = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )

    header, claims = jwt.decode_hs256(token, secret)

    assert header == {"typ": "JWT", "alg": "HS256"}
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=8), st.integers(-(2**53), 2**53), st.none())))
def test_session_claims_come_back_under_the_same_secret_only(claims):
    token = jwt.encode_hs256(claims, SECRET, "at+jwt")

    assert jwt.decode_hs256(token, SECRET) == ({"typ": "at+jwt", "alg": "HS256"}, claims)
    with pytest.raises(BadKey):
        jwt.decode_hs256(token, SECRET + b"x")


def test_no_other_algorithm_passes_even_with_our_mac():
    for alg in ("none", "HS512", "ES256K", "hs256", None, 1):
        with pytest.raises(BadKey):
            jwt.decode_hs256(signed({"alg": alg, "typ": "at+jwt"}, {}), SECRET)


def test_a_changed_character_anywhere_is_refused():
    token = jwt.encode_hs256({"sub": "did:plc:abc"}, SECRET, "at+jwt")
    for position, letter in enumerate(token):
        other = "A" if letter != "A" else "B"
        with pytest.raises(BadKey):
            jwt.decode_hs256(token[:position] + other + token[position + 1 :], SECRET)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b", "a.b.c", "é.é.é", "x" * 100_000, "a." * 5000, "eyJhbGciOiJub25lIn0.e30."],
)
def test_what_is_no_token_is_refused(token):
    for read in (lambda: jwt.decode_hs256(token, SECRET), lambda: jwt.decode_jws(token)):
        with pytest.raises(BadKey):
            read()


def test_signed_nonsense_is_still_nonsense():
    for claims in (b"[]", b"1", b"null", b"{", b'{"a":1', b"\xff", b""):
        with pytest.raises(BadKey):
            jwt.decode_hs256(signed({"alg": "HS256"}, claims), SECRET)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.alg)
def test_a_signed_token_comes_back_and_verifies(key):
    jws = jwt.decode_jws(jwt.encode_jws({"typ": "JWT", "kid": "#atproto"}, {"iss": "did:plc:abc", "exp": 1}, key))

    assert jws.header == {"typ": "JWT", "kid": "#atproto", "alg": key.alg}
    assert jws.claims == {"iss": "did:plc:abc", "exp": 1}
    assert jws.verify(key.public_key)
    assert not jws.verify(type(key).from_bytes(b"\x12" * 32).public_key)


def test_the_alg_must_be_that_of_the_key():
    k256, p256 = KEYS
    header = part({"alg": "ES256"})
    signing_input = f"{header}.{part({})}"
    token = f"{signing_input}.{part(k256.sign(signing_input.encode()))}"

    assert not jwt.decode_jws(token).verify(k256.public_key)
    assert not jwt.decode_jws(token).verify(p256.public_key)


def test_high_s_from_a_browser_is_accepted():
    key = KEYS[1]
    token = jwt.encode_jws({}, {}, key)
    signing_input, _, _ = token.rpartition(".")
    signature = jwt.decode_jws(token).signature
    high = signature[:32] + (P256.order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")

    assert jwt.decode_jws(f"{signing_input}.{part(high)}").verify(key.public_key)


@pytest.mark.parametrize(
    "header",
    [
        *({"alg": "none"}, {"alg": "HS256"}, {"alg": "EdDSA"}, {"alg": ["ES256"]}, {}, [], "ES256"),
        {"alg": "ES256", "crit": ["b64"]},
        {"alg": "ES256", "b64": False},
    ],
)
def test_foreign_algorithms_and_critical_headers_are_refused(header):
    with pytest.raises(BadKey):
        jwt.decode_jws(f"{part(header)}.{part({})}.{part(bytes(64))}")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65), bytes(70)])
def test_only_64_byte_signatures_are_read(signature):
    with pytest.raises(BadKey):
        jwt.decode_jws(f"{part({'alg': 'ES256'})}.{part({})}.{part(signature)}")


def test_the_header_can_be_seen_before_the_rest_is_believed():
    assert jwt.peek_header(jwt.encode_hs256({}, SECRET, "at+jwt"))["alg"] == "HS256"
    for token in ("", "a.b", "e30.e30.", "a.b.c.d"):
        with pytest.raises(BadKey):
            jwt.peek_header(token)


@settings(max_examples=60)
@given(st.text(alphabet="eyJ0.AZaz09-_=", max_size=60))
def test_random_text_never_raises_anything_else(text):
    for read in (lambda: jwt.decode_hs256(text, SECRET), lambda: jwt.decode_jws(text)):
        with pytest.raises(BadKey):
            read()
