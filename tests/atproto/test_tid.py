import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.tid import ALPHABET, int_to_tid, is_tid, make_tid, parse_tid, tid_microseconds, tid_to_int
from pds_lite.errors import BadSyntax

moments = st.integers(0, (1 << 53) - 1)
clock_ids = st.integers(0, 1023)


@given(moments, clock_ids)
def test_a_tid_keeps_its_moment_and_clock_id(microseconds: int, clock_id: int) -> None:
    tid = make_tid(microseconds, clock_id)
    assert is_tid(tid)
    assert parse_tid(tid) == tid
    assert tid_microseconds(tid) == microseconds
    assert tid_to_int(tid) == microseconds << 10 | clock_id
    assert int_to_tid(tid_to_int(tid)) == tid


@given(moments, clock_ids, moments, clock_ids)
def test_texts_sort_as_moments_do(moment: int, clock_id: int, other: int, other_id: int) -> None:
    assert (make_tid(moment, clock_id) < make_tid(other, other_id)) == ((moment, clock_id) < (other, other_id))


@given(moments, clock_ids)
def test_letters_are_the_digits_of_the_number(microseconds: int, clock_id: int) -> None:
    number, letters = microseconds << 10 | clock_id, ""
    for _ in range(13):
        number, digit = divmod(number, 32)
        letters = ALPHABET[digit] + letters
    assert make_tid(microseconds, clock_id) == letters


@pytest.mark.parametrize(
    "text", ["", "3jzfcijpj2z2", "3jzfcijpj2z2aa", "3jzfcijpj2z2a\n", "kjzfcijpj2z2a", "3jzfcijpj2z2\xb2"]
)
def test_other_texts_are_refused(text: str) -> None:
    assert not is_tid(text)
    with pytest.raises(BadSyntax):
        parse_tid(text)
