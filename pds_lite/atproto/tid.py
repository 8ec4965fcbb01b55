"""TID: a sortable, 13-letter timestamp (specs/tid). One zero bit, 53 bits of microseconds, 10 bits of clock id."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Tid = NewType("Tid", str)

ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_VALUE = {letter: value for value, letter in enumerate(ALPHABET)}
_TID = re.compile(r"[2-7a-j][2-7a-z]{12}", re.ASCII)
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
"""Two letters for ten bits: six look-ups instead of thirteen on the path of every write."""


def is_tid(text: str) -> bool:
    """True for a syntactically valid TID."""
    return _TID.fullmatch(text) is not None


def parse_tid(text: str) -> Tid:
    """Raises BadSyntax."""
    if not is_tid(text):
        raise BadSyntax(f"not a TID: {text[:40]!r}")
    return Tid(text)


def make_tid(microseconds: int, clock_id: int) -> Tid:
    """The TID of a moment (microseconds since the epoch, below 2^53) and a clock id (0 to 1023)."""
    number = microseconds << 10 | clock_id
    return Tid(
        ALPHABET[number >> 60]
        + _PAIRS[number >> 50 & 1023]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def tid_to_int(tid: Tid) -> int:
    """All 64 bits; their order is the order of the texts. Eight bytes big-endian is how the store keeps a rev."""
    number = 0
    for letter in tid:
        number = number << 5 | _VALUE[letter]
    return number


def int_to_tid(number: int) -> Tid:
    """The inverse of tid_to_int."""
    return make_tid(number >> 10, number & 1023)


def tid_microseconds(tid: Tid) -> int:
    """Microseconds since the epoch."""
    return tid_to_int(tid) >> 10
