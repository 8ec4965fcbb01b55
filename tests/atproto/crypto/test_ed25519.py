"""The box's own key: RFC 8032 vectors, and nothing that is not a signature verifies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto.crypto import Ed25519Key
from pds_lite.atproto.crypto.ed25519 import fingerprint, verify_ed25519
from pds_lite.errors import BadKey


def test_rfc_8032_vector():
    """RFC 8032 7.1, test 2."""
    key = Ed25519Key.from_bytes(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )

    assert key.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == expected


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_only_the_signed_message_verifies(seed, message):
    key = Ed25519Key.from_bytes(seed)
    signature = key.sign(message)

    assert verify_ed25519(key.public_key, message, signature)
    assert not verify_ed25519(key.public_key, message + b"x", signature)
    assert not verify_ed25519(key.public_key, message, signature[:-1])
    assert not verify_ed25519(b"", message, signature)
    assert not verify_ed25519(bytes(32), message, bytes(64))
    assert Ed25519Key.from_bytes(key.export()).public_key == key.public_key


def test_entropy_and_seeds_of_wrong_length_are_refused():
    assert Ed25519Key.generate(b"\x01" * 40).public_key != Ed25519Key.generate(b"\x01" * 32).public_key
    for make in (Ed25519Key.from_bytes, Ed25519Key.generate):
        with pytest.raises(BadKey):
            make(b"\x01" * 31)


def test_names_show_the_public_key_only():
    key = Ed25519Key.from_bytes(b"\x11" * 32)

    assert key.did_key.startswith("did:key:z6Mk")
    assert key.fingerprint == fingerprint(key.public_key)
    assert len(key.fingerprint) == 16
    assert repr(key) == f"Ed25519Key({key.fingerprint})"
