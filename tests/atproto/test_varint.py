import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.varint import decode_varint, encode_varint
from pds_lite.errors import BadData


@given(st.integers(0, (1 << 63) - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_what_was_encoded_is_decoded_at_its_place(number: int, before: bytes, behind: bytes) -> None:
    encoded = encode_varint(number)
    assert decode_varint(before + encoded + behind, len(before)) == (number, len(before) + len(encoded))
    assert len(encoded) == max(1, -(-number.bit_length() // 7))


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (16384, "808001")]
)
def test_known_encodings(number: int, encoded: str) -> None:
    assert encode_varint(number).hex() == encoded


@pytest.mark.parametrize("data", ["", "80", "ff", "8000", "8100", "808000", "80" * 9 + "01", "ff" * 10])
def test_cut_long_and_non_minimal_varints_are_refused(data: str) -> None:
    with pytest.raises(BadData):
        decode_varint(bytes.fromhex(data))


@given(st.binary(max_size=12))
def test_only_the_one_encoding_of_a_number_is_accepted(data: bytes) -> None:
    try:
        number, end = decode_varint(data)
    except BadData:
        return
    assert encode_varint(number) == data[:end]
