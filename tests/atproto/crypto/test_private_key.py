"""Private keys in the forms that people paste, and nothing of them in a refusal."""

import pytest

from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.atproto.crypto.private_key import format_private_key, parse_private_key
from pds_lite.errors import BadKey


@pytest.mark.parametrize("key", [K256Key.from_bytes(b"\x21" * 32), P256Key.from_bytes(b"\x22" * 32)])
def test_a_key_comes_back_as_it_was_written(key):
    again = parse_private_key(f" {format_private_key(key)}\n")
    assert (type(again), again.export()) == (type(key), key.export())


def test_hex_digits_are_a_k256_key():
    assert parse_private_key("21" * 32).did_key == K256Key.from_bytes(b"\x21" * 32).did_key


@pytest.mark.parametrize(
    "text", ["", "zzz", "21" * 31, "0" * 64, "g" * 64, K256Key.from_bytes(b"\x21" * 32).did_key[8:], "z" * 300]
)
def test_anything_else_is_refused_without_being_repeated(text):
    with pytest.raises(BadKey) as caught:
        parse_private_key(text)
    assert not text or text not in str(caught.value)
