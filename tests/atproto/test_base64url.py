"""Base64url: one text for one byte string, both ways."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.errors import BadData


@given(st.binary(max_size=100))
def test_agrees_with_the_standard_library_and_comes_back(data):
    text = encode_base64url(data)

    assert text == urlsafe_b64encode(data).rstrip(b"=").decode()
    assert decode_base64url(text) == data


@given(st.text(alphabet="ABab01-_+/= \né", max_size=12))
def test_a_text_is_accepted_only_if_it_is_the_one_encoding(text):
    try:
        data = decode_base64url(text)
    except BadData:
        return
    assert encode_base64url(data) == text


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "+_8", "A A", "AAA\n", "AA.A", "ÄÄ"])
def test_padding_spare_bits_and_foreign_letters_are_refused(text):
    with pytest.raises(BadData):
        decode_base64url(text)
