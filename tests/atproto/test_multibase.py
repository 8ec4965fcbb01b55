import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import multibase

from pds_lite.atproto.multibase import decode_multibase, encode_base32, encode_base58
from pds_lite.errors import BadData


@given(st.binary(max_size=100))
def test_both_bases_agree_with_an_independent_implementation(data: bytes) -> None:
    assert encode_base32(data) == multibase.encode(data, "base32")
    assert encode_base58(data) == multibase.encode(data, "base58btc")


@given(st.binary(max_size=100))
def test_both_bases_come_back(data: bytes) -> None:
    assert decode_multibase(encode_base32(data)) == data
    assert decode_multibase(encode_base58(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m" + base64.b64encode(b"x").decode(),
        "f00",
        "bMFRGG",
        "bmfrg====",
        "bmf1g",
        "bb",
        "z0",
        "zO",
        "zl",
        "z\N{BULLET}",
    ],
)
def test_other_bases_and_stray_letters_are_refused(text: str) -> None:
    with pytest.raises(BadData):
        decode_multibase(text)


def test_spare_bits_must_be_zero_so_that_no_two_texts_mean_the_same() -> None:
    assert decode_multibase("bme") == b"a"
    with pytest.raises(BadData, match="spare"):
        decode_multibase("bmf")


def test_a_text_that_would_take_long_is_refused_unread() -> None:
    with pytest.raises(BadData, match="too long"):
        decode_multibase("z" + "2" * 1_000_000)


@given(st.text("bz234567abcdefghijklmnopqrstuvwxyzABC1890", max_size=20))
def test_an_accepted_text_is_the_only_one_for_its_bytes(text: str) -> None:
    try:
        data = decode_multibase(text)
    except BadData:
        return
    assert text == (encode_base32(data) if text[0] == "b" else encode_base58(data))
