"""JSON Web Keys: both curves there and back, RFC 7638 thumbprints, and no private or foreign key gets in."""

import json
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest

from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.jwk import format_jwk, parse_jwk, thumbprint
from pds_lite.errors import BadKey


@pytest.mark.parametrize("kind", [K256Key, P256Key])
def test_a_key_comes_back_from_its_jwk(kind):
    public = kind.from_bytes(b"\x11" * 32).public_key

    assert parse_jwk(format_jwk(public)).did_key == public.did_key
    assert parse_jwk({**format_jwk(public), "alg": kind.curve.alg, "use": "sig", "kid": "1"}).did_key == public.did_key


def test_rfc_7515_example_key():
    """RFC 7515 A.3.1."""
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }

    assert format_jwk(parse_jwk(jwk)) == jwk


def test_thumbprint_hashes_the_required_members_in_order():
    public = P256Key.from_bytes(b"\x11" * 32).public_key
    members = json.dumps(format_jwk(public), separators=(",", ":"), sort_keys=True).encode()

    assert thumbprint(public) == urlsafe_b64encode(sha256(members).digest()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "change",
    [
        {"d": "AQ"},
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"crv": ["P-256"]},
        {"crv": "secp256k1"},
        {"x": "AQ"},
        {"x": None},
        {"y": "A" * 43 + "="},
        {"alg": "ES256K"},
        {"alg": "none"},
        {"use": "enc"},
    ],
)
def test_anything_but_a_public_signing_key_is_refused(change):
    jwk = format_jwk(P256Key.from_bytes(b"\x11" * 32).public_key)

    with pytest.raises(BadKey):
        parse_jwk({**jwk, **change})
