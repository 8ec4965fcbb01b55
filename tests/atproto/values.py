"""Values of the data model for tests: Hypothesis strategies, and a slow, obvious DRISL codec to compare with."""

import struct
from typing import Any

from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid

cids = st.one_of(
    st.binary(max_size=8).map(Cid.of_cbor),
    st.binary(max_size=8).map(Cid.of_raw),
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
int64s = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, 2**63 - 1, -1, -24, -25, -(2**63)]),
)
leaves = st.one_of(st.none(), st.booleans(), int64s, texts, st.binary(max_size=40), cids)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(texts, inner, max_size=6)),
    max_leaves=25,
)


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, width, limit in ((24, 1, 1 << 8), (25, 2, 1 << 16), (26, 4, 1 << 32), (27, 8, 1 << 64)):
        if number < limit:
            return bytes([major << 5 | info]) + number.to_bytes(width, "big")
    raise ValueError(number)


def slow_encode(value: Any) -> bytes:
    """DRISL as its specification reads, without regard to speed."""
    if value is None or value is True or value is False:
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, Cid):
        return b"\xd8\x2a" + _head(2, len(value) + 1) + b"\0" + bytes(value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(slow_encode, value))
    entries = sorted((len(key.encode()), key.encode(), key) for key in value)
    return _head(5, len(value)) + b"".join(slow_encode(key) + slow_encode(value[key]) for _, _, key in entries)


class Refused(Exception):
    """The slow decoder's only verdict besides a value."""


def slow_decode(data: bytes) -> Any:
    """Reads one item byte by byte; raises Refused at the first thing DRISL does not allow."""
    value, end = _item(data, 0)
    if end != len(data):
        raise Refused("trailing bytes")
    return value


def _argument(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise Refused("cut short")
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    if info > 27:
        raise Refused("indefinite or reserved")
    width = {24: 1, 25: 2, 26: 4, 27: 8}[info]
    raw = data[at + 1 : at + 1 + width]
    if len(raw) < width:
        raise Refused("cut short")
    number = struct.unpack(f">{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[width] }", raw)[0]
    if major != 7 and number < {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[width]:
        raise Refused("not the shortest head")
    return major, number, at + 1 + width


def _item(data: bytes, at: int) -> tuple[Any, int]:
    first = data[at] if at < len(data) else None
    major, number, at = _argument(data, at)
    if major in (0, 1):
        if number >= 1 << 63:
            raise Refused("over 64 bits")
        return (number if major == 0 else -1 - number), at
    if major in (2, 3):
        raw = data[at : at + number]
        if len(raw) < number:
            raise Refused("cut short")
        try:
            return (raw if major == 2 else raw.decode()), at + number
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None
    if major == 4:
        items = []
        for _ in range(number):
            value, at = _item(data, at)
            items.append(value)
        return items, at
    if major == 5:
        return _map(data, at, number)
    if major == 6:
        return _link(data, at, number)
    if first in (0xF4, 0xF5, 0xF6):
        return {0xF4: False, 0xF5: True, 0xF6: None}[first], at
    raise Refused("float, simple value or break")


def _map(data: bytes, at: int, size: int) -> tuple[dict[str, Any], int]:
    content: dict[str, Any] = {}
    last: tuple[int, bytes] | None = None
    for _ in range(size):
        key, at = _item(data, at)
        if type(key) is not str:
            raise Refused("key is not a text")
        order = (len(key.encode()), key.encode())
        if last is not None and order <= last:
            raise Refused("keys out of order or repeated")
        last = order
        content[key], at = _item(data, at)
    return content, at


def _link(data: bytes, at: int, tag: int) -> tuple[Cid, int]:
    content, at = _item(data, at)
    if tag != 42 or type(content) is not bytes or content[:2] != b"\0\1" or len(content) > 101:
        raise Refused("not a link")
    # Only the three varints of a CID are left; the strategies make them one byte each, mutations may not.
    from pds_lite.errors import BadData

    try:
        return Cid.decode(content[1:]), at
    except BadData:
        raise Refused("not a CID") from None
