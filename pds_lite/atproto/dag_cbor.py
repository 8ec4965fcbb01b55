"""DAG-CBOR in the strict profile atproto calls DRISL: one value, one encoding (specs/data-model).

Shortest heads, definite lengths, text keys sorted by length and then bytes, no floats, no simple values but true, false
and null, no tag but 42 (a link: byte 0 and the binary CID), nothing after the value. cbor2 does the work; this module
keeps it to that profile, and no other module imports it.

cbor2 is not safe by itself in either direction. Its encoder takes datetimes, sets, floats and integer keys, and a
nesting of 100,000 ends the process; so nothing reaches it but a checked tree of bounded depth whose maps are already
sorted (twice as fast as its canonical mode, same bytes). Its decoder lets non-minimal heads, unsorted keys and trailing
bytes pass; so what comes from outside is accepted only if encoding it again gives the very same bytes.

This module knows CIDs and bytes, not JSON, records or blobs.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Final, TypeAlias

import cbor2

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadData

Value: TypeAlias = "bool | int | str | bytes | Cid | list[Value] | dict[str, Value] | None"

MAX_DEPTH: Final = 130
"""Containers inside each other. Above what JSON input may nest (110), below what orjson can write (254)."""
MAX_ITEMS: Final = 262_144
"""Values and keys in one object; an empty list costs 64 bytes of memory for one byte of input."""
_SMALL: Final = 65_536
"""Objects up to this size may hold as many items as they like: they cannot need more than a few MB."""
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 63) - 1
_PLAIN = frozenset((str, bytes, bool, type(None)))
_LINK_TAG = 42


def encode(value: Value) -> bytes:
    """The one DRISL encoding of a value. Raises BadData for anything that the data model does not hold.

    Types are compared exactly: a float, tuple, datetime, subclass of dict or integer beyond 64 bits is refused. So is
    what `decode` would refuse for its depth or its number of items.
    """
    data = _dump(value)
    if len(data) > _SMALL:
        _end_of_item(data, 0)
    return data


def decode(data: bytes) -> Value:
    """The value behind bytes from outside, accepted only in their canonical form. Raises BadData.

    Time is linear in the input. Memory, beside the texts and bytes themselves, is under 40 MB at worst: 144 bytes an
    item, and MAX_ITEMS items.
    """
    if len(data) > _SMALL:
        _end_of_item(data, 0)
    value: Value = _load(data)
    if _dump(value) != data:
        raise BadData("not canonical DAG-CBOR")
    return value


def decode_own(data: bytes) -> Any:
    """The value behind bytes that `encode` made or `decode` accepted: no second check of their form.

    Safe on any bytes (refuses foreign tags, excess depth and duplicate keys), but only damage is found, not malice.
    Raises BadData.
    """
    return _load(data)


def decode_own_list(blocks: Sequence[bytes]) -> list[Any]:
    """decode_own of each. Small ones are read as one array, at two thirds of the cost. Raises BadData."""
    if len(blocks) < 2 or len(blocks) > 255 or sum(map(len, blocks)) > _SMALL:
        return [_load(block) for block in blocks]
    values: list[Any] = _load(b"".join((bytes((0x98, len(blocks))), *blocks)), MAX_DEPTH + 1)
    return values


def decode_lenient(data: bytes) -> Any:
    """The value behind the bytes of a record that somebody else wrote long ago, canonical or not.

    A signed record is what it is: refusing one for a float, an odd order of keys or a head that is not minimal would
    keep a person from moving. What must hold is that it can be read safely and shown as JSON: bounded depth and size,
    text keys, and no values beyond the data model but finite floats and 64-bit integers. Raises BadData.
    """
    if _end_of_item(data, 0) != len(data):
        raise BadData("DAG-CBOR with more behind it: no other implementation would read it")
    value = _load(data)
    _check_readable(value)
    return value


def decode_prefix(data: bytes, offset: int = 0) -> tuple[Value, int]:
    """(value, offset behind it) of the object that begins at `offset`, strict as `decode`; more may follow.

    An event stream frame is two objects one after the other. Raises BadData.
    """
    end = _end_of_item(data, offset)
    return decode(data[offset:end]), end


def _dump(value: Value) -> bytes:
    try:
        return cbor2.dumps(_arrange(value, 0))
    except (UnicodeEncodeError, TypeError):
        raise BadData("a text with a lone surrogate or a map key that is not a text") from None


def _load(data: bytes, depth: int = MAX_DEPTH) -> Any:
    try:
        return cbor2.loads(
            data,
            semantic_decoders=_DECODERS,
            tag_hook=_refuse_tag,
            max_depth=depth + 1,  # a link counts as one level there
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORDecodeError as problem:
        raise BadData(f"not DAG-CBOR: {problem.__cause__ or problem}") from None


def _check_readable(value: Any) -> None:
    """Raises BadData for what JSON could not show. The decoder has bounded the depth."""
    kind = type(value)
    if kind in _PLAIN or kind is Cid:
        return
    if kind is dict:
        for key, entry in value.items():
            if type(key) is not str:
                raise BadData("not DAG-CBOR: a map key that is not a text")
            _check_readable(entry)
    elif kind is list:
        for entry in value:
            _check_readable(entry)
    elif not (kind is int and _MIN_INT <= value <= _MAX_INT) and not (kind is float and isfinite(value)):
        raise BadData(f"not DAG-CBOR: {kind.__name__} outside the data model")


def _decode_link(content: Any, _immutable: bool) -> Cid:
    if type(content) is not bytes or content[:1] != b"\0":
        raise BadData("a link that is not byte 0 and a CID")
    return Cid.decode(content[1:])


def _refuse_tag(_content: Any, _immutable: bool) -> Any:
    raise BadData("a tag other than 42")


_BUILT_IN_TAGS = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
"""Tags that cbor2 would act upon itself; the string and value references among them can blow up a small input."""
_DECODERS = {**dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag), _LINK_TAG: _decode_link}


def _arrange(value: Value, depth: int) -> Any:
    """A checked copy of the value that cbor2's plain encoder writes canonically."""
    kind = type(value)
    if kind is dict:
        return _arrange_map(value, depth + 1)  # type: ignore[arg-type]
    if kind is list:
        return _arrange_list(value, depth + 1)  # type: ignore[arg-type]
    return value if kind in _PLAIN else _leaf(value)


def _arrange_map(content: dict[str, Value], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise BadData("nested too deeply")
    keys = sorted(content)  # code points sort as their UTF-8 does; sorting again by length keeps that order
    keys.sort(key=len if "".join(keys).isascii() else _utf8_size)
    arranged: dict[str, Any] = {}
    for key in keys:
        value = content[key]
        kind = type(value)
        if kind in _PLAIN:
            arranged[key] = value
        elif kind is dict:
            arranged[key] = _arrange_map(value, depth + 1)  # type: ignore[arg-type]
        elif kind is list:
            arranged[key] = _arrange_list(value, depth + 1)  # type: ignore[arg-type]
        else:
            arranged[key] = _leaf(value)
    return arranged


def _arrange_list(content: list[Value], depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise BadData("nested too deeply")
    arranged: list[Any] = []
    for value in content:
        kind = type(value)
        if kind in _PLAIN:
            arranged.append(value)
        elif kind is dict:
            arranged.append(_arrange_map(value, depth + 1))  # type: ignore[arg-type]
        elif kind is list:
            arranged.append(_arrange_list(value, depth + 1))  # type: ignore[arg-type]
        else:
            arranged.append(_leaf(value))
    return arranged


def _leaf(value: Value) -> Any:
    if type(value) is int and _MIN_INT <= value <= _MAX_INT:
        return value
    if type(value) is Cid:
        return cbor2.CBORTag(_LINK_TAG, b"\0" + value)
    raise BadData(f"{type(value).__name__} outside the data model (integers have at most 64 bits)")


def _utf8_size(key: str) -> int:
    return len(key.encode())


def _end_of_item(data: bytes, start: int) -> int:
    """The offset behind the item at `start`: a walk over heads that makes no objects. Raises BadData.

    Checks only what bounds the decoding: that everything declared is there and that it is not too many items.
    """
    position, size, open_items, seen = start, len(data), 1, 0
    while open_items:
        seen += 1
        if open_items > size - position or seen > MAX_ITEMS:
            raise BadData("DAG-CBOR that is cut short or has too many items")
        major, info = data[position] >> 5, data[position] & 31
        position += 1
        open_items -= 1
        argument = info
        if info >= 24:
            if info > 27:
                raise BadData("DAG-CBOR with an indefinite length")
            width = 1 << info - 24
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
        if major in (2, 3):
            position += argument
        elif major in (4, 5):
            open_items += argument << major - 4
        elif major == 6:
            open_items += 1
    if position > size:
        raise BadData("DAG-CBOR that is cut short")
    return position
