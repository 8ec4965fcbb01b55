"""Every back end of every curve keeps the same promises: deterministic, low-S, compact, and nothing else verifies."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto.crypto import K256Key, P256Key, k256, verify
from pds_lite.atproto.crypto.did_key import parse_did_key, parse_legacy_key, parse_multikey
from pds_lite.atproto.crypto.k256 import CoincurvePublicKey, CoincurveSigner
from pds_lite.atproto.crypto.keys import K256, P256, Curve, PrivateKey, PublicKey, signature_to_der
from pds_lite.atproto.crypto.openssl_ecdsa import OpenSslPublicKey, OpenSslSigner
from pds_lite.atproto.multibase import decode_multibase, encode_base58
from pds_lite.errors import BadKey

KINDS = [K256Key, P256Key]
SECRETS = st.integers(1, min(K256.order, P256.order) - 1).map(lambda n: n.to_bytes(32, "big"))


def high_s(curve: Curve, signature: bytes) -> bytes:
    return signature[:32] + (curve.order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def public_keys(secret: bytes) -> list[PublicKey]:
    """The same secret's public key in every back end, coincurve first."""
    signers = [CoincurveSigner(secret), OpenSslSigner(K256, secret), OpenSslSigner(P256, secret)]
    return [signer.public_key for signer in signers]


@settings(max_examples=30)
@given(SECRETS, st.binary(max_size=300))
def test_both_k256_back_ends_give_the_same_bytes(secret, message):
    coincurve, openssl = CoincurveSigner(secret), OpenSslSigner(K256, secret)

    assert coincurve.sign(message) == openssl.sign(message)
    assert coincurve.public_key.point == openssl.public_key.point
    assert coincurve.public_key.uncompressed == openssl.public_key.uncompressed
    assert coincurve.public_key.did_key == openssl.public_key.did_key


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(secret=SECRETS, message=st.binary(max_size=300))
def test_signatures_are_compact_low_s_and_repeatable(kind, secret, message):
    key = kind.from_bytes(secret)
    signature = key.sign(message)

    assert len(signature) == 64
    assert key.curve.is_low_s(signature)
    assert kind.from_bytes(secret).sign(message) == signature
    assert verify(key.did_key, message, signature)
    assert not verify(key.did_key, message + b"x", signature)


def test_rfc_6979_vectors_of_p256():
    """RFC 6979 A.2.5, SHA-256, in low-S form."""
    secret = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
    r = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
    s = int("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8", 16)
    expected = bytes.fromhex(r) + min(s, P256.order - s).to_bytes(32, "big")

    assert P256Key.from_bytes(secret).sign(b"sample") == expected


def test_known_rfc_6979_vector_of_k256():
    """The vector that circulates among secp256k1 implementations: secret 1, message "Satoshi Nakamoto"."""
    expected = (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )

    assert K256Key.from_bytes((1).to_bytes(32, "big")).sign(b"Satoshi Nakamoto").hex() == expected


@pytest.mark.parametrize("index", range(3))
def test_high_s_and_der_and_odd_lengths_do_not_verify(index):
    secret, message = b"\x11" * 32, b"message"
    public = public_keys(secret)[index]
    curve = public.curve
    signature = (K256Key if curve is K256 else P256Key).from_bytes(secret).sign(message)

    assert public.verify(message, signature)
    assert not public.verify(message, high_s(curve, signature))
    assert public.verify(message, high_s(curve, signature), low_s=False), "JOSE tokens may carry high-S"
    assert not public.verify(message, signature_to_der(signature))
    for broken in (b"", signature[:63], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not public.verify(message, broken)
        assert not public.verify(message, broken, low_s=False)


@pytest.mark.parametrize("index", range(3))
@given(st.binary(min_size=64, max_size=64))
@settings(max_examples=40)
def test_random_signatures_are_refused_without_an_exception(index, signature):
    assert not public_keys(b"\x11" * 32)[index].verify(b"message", signature)


def test_r_and_s_at_the_edges_are_refused():
    for public in public_keys(b"\x11" * 32):
        order = public.curve.order
        for r in (0, 1, order - 1, order, 2**256 - 1):
            for s in (0, 1, order >> 1, order - 1, order, 2**256 - 1):
                signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
                assert not public.verify(b"message", signature)
                assert not public.verify(b"message", signature, low_s=False)


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_outside_the_curve_are_refused(kind):
    for secret in (b"", bytes(32), bytes(31) + b"", b"\x01" * 33, kind.curve.order.to_bytes(32, "big"), b"\xff" * 32):
        with pytest.raises(BadKey):
            kind.from_bytes(secret)
    assert kind.from_bytes((kind.curve.order - 1).to_bytes(32, "big")).did_key


@pytest.mark.parametrize("kind", KINDS)
def test_any_32_bytes_of_entropy_make_a_key(kind):
    for entropy in (bytes(32), b"\xff" * 32, b"\xff" * 40, kind.curve.order.to_bytes(32, "big")):
        assert len(kind.generate(entropy).export()) == 32
    with pytest.raises(BadKey):
        kind.generate(b"\x01" * 31)


@pytest.mark.parametrize("kind", KINDS)
def test_the_secret_is_exported_but_never_shown(kind):
    key: PrivateKey = kind.from_bytes(b"\x11" * 32)

    assert key.export() == b"\x11" * 32
    assert repr(key) == f"{kind.__name__}({key.did_key})"
    assert "1111" not in repr(key)


def test_without_coincurve_k256_falls_back_to_cryptography(monkeypatch):
    fast = K256Key.from_bytes(b"\x11" * 32)
    monkeypatch.setattr(k256, "BACKEND", "cryptography")
    slow = K256Key.from_bytes(b"\x11" * 32)

    assert type(slow.public_key) is OpenSslPublicKey
    assert slow.did_key == fast.did_key
    assert slow.sign(b"x") == fast.sign(b"x")
    assert type(k256.parse_k256(fast.public_key.point)) is OpenSslPublicKey


@pytest.mark.parametrize("make", [CoincurvePublicKey, lambda point: OpenSslPublicKey(K256, point)])
def test_points_off_the_curve_or_of_odd_form_are_refused(make):
    point = K256Key.from_bytes(b"\x11" * 32).public_key.uncompressed
    hybrid = bytes((6 + (point[64] & 1),)) + point[1:]

    for broken in (b"", b"\0", point[:64], b"\x04" + bytes(64), hybrid, b"\x02" + b"\xff" * 32, b"\x05" + point[1:33]):
        with pytest.raises(BadKey):
            make(broken)
    assert make(point).uncompressed == point


def test_signature_fixtures_of_the_specification(vectors: Path):
    fixtures = json.loads((vectors / "crypto" / "signature-fixtures.json").read_text())
    assert len(fixtures) >= 6
    for fixture in fixtures:
        message = base64.b64decode(fixture["messageBase64"] + "==")
        signature = base64.b64decode(fixture["signatureBase64"] + "==")
        legacy = parse_legacy_key(fixture["didDocSuite"], fixture["publicKeyMultibase"])

        assert legacy.did_key == fixture["publicKeyDid"], fixture["comment"]
        assert legacy.curve.alg == fixture["algorithm"]
        assert verify(fixture["publicKeyDid"], message, signature) is fixture["validSignature"], fixture["comment"]
        if legacy.curve is K256:
            openssl = OpenSslPublicKey(K256, legacy.point)
            assert openssl.verify(message, signature) is fixture["validSignature"], fixture["comment"]


def test_w3c_did_key_fixtures(vectors: Path):
    for fixture in json.loads((vectors / "crypto" / "w3c_didkey_K256.json").read_text()):
        assert K256Key.from_bytes(bytes.fromhex(fixture["privateKeyBytesHex"])).did_key == fixture["publicDidKey"]
    for fixture in json.loads((vectors / "crypto" / "w3c_didkey_P256.json").read_text()):
        secret = decode_multibase("z" + fixture["privateKeyBytesBase58"])
        assert P256Key.from_bytes(secret).did_key == fixture["publicDidKey"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(secret=SECRETS)
def test_did_key_and_multikey_come_back(kind, secret):
    key = kind.from_bytes(secret)

    assert parse_did_key(key.did_key).point == key.public_key.point
    assert parse_did_key(key.did_key).curve is kind.curve
    assert parse_multikey(key.did_key.removeprefix("did:key:")).did_key == key.did_key


@pytest.mark.parametrize("kind", KINDS)
def test_did_keys_in_any_other_form_are_refused(kind):
    public = kind.from_bytes(b"\x11" * 32).public_key
    point, prefix = public.point, public.curve.multicodec
    wrong_curve = bytes(b ^ 1 for b in prefix)
    texts = [
        "",
        "did:key:",
        "did:key:z",
        public.did_key[8:],
        "did:key:" + public.did_key[9:],
        public.did_key + "1",
        public.did_key[:-1],
        public.did_key.replace("z", "0", 1),
        "did:key:" + encode_base58(prefix + public.uncompressed),
        "did:key:" + encode_base58(wrong_curve + point),
        "did:key:" + encode_base58(prefix + b"\x04" + point[1:]),
        "did:key:" + encode_base58(b"\xed\x01" + point[1:]),
        "did:key:z" + "1" * 10_000,
        "did:key:bafy",
        "did:key:zé",
    ]
    for text in texts:
        with pytest.raises(BadKey):
            parse_did_key(text)


@pytest.mark.parametrize(("kind", "name"), [(K256Key, "Secp256k1"), (P256Key, "Secp256r1")])
def test_legacy_keys_are_bare_points_compressed_or_not(kind, name):
    public = kind.from_bytes(b"\x11" * 32).public_key
    suite = f"Ecdsa{name}VerificationKey2019"

    assert parse_legacy_key(suite, encode_base58(public.uncompressed)).did_key == public.did_key
    assert parse_legacy_key(suite, encode_base58(public.point)).did_key == public.did_key
    for broken in (public.did_key[8:], encode_base58(public.point + b"\0"), "", "f00"):
        with pytest.raises(BadKey):
            parse_legacy_key(suite, broken)
    with pytest.raises(BadKey, match="unknown verification method"):
        parse_legacy_key("JsonWebKey2020", encode_base58(public.point))


def test_a_signature_of_cryptography_itself_verifies_after_normalising():
    """Independent oracle: OpenSSL's own random-nonce signature, DER taken apart by hand."""
    message = b"from elsewhere"
    key = ec.derive_private_key(0x1234567, ec.SECP256K1())
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    r, s = decode_dss_signature(key.sign(sha256(message).digest(), ec.ECDSA(Prehashed(SHA256()))))
    signature = K256.with_low_s(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    assert verify(K256Key.from_bytes((0x1234567).to_bytes(32, "big")).did_key, message, signature)
