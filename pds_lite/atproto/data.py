"""The data model between JSON and values: links, bytes, blobs and number limits (specs/data-model).

A value is what `dag_cbor` encodes: None, bool, int, str, bytes, Cid, list, dict. In JSON a link is {"$link": text},
bytes are {"$bytes": base64}, and integers stay within ±(2^53 - 1) because JavaScript reads them as doubles. What claims
to be a link, bytes or a blob and is malformed is refused, not stored as the plain map it also is: nobody could read it
back.

This module knows nothing of lexicons: which fields a record may have is not asked here.
"""

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.dag_cbor import Value
from pds_lite.errors import BadData, BadSyntax

MAX_JSON_DEPTH: Final = 110
"""Lists and maps inside each other: a field may hold a hundred of them, and its record is one more."""
MAX_JSON_INT: Final = (1 << 53) - 1
MAX_CONTAINER: Final = 131_072
"""Entries in one list or map."""
MAX_KEY: Final = 8_192
"""Bytes of one map key."""
_SURELY_SHORT_KEY = MAX_KEY // 4  # no code point takes more than four bytes
_BLOB_KEYS = frozenset(("$type", "ref", "mimeType", "size"))


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A record's reference to a blob: raw CID, media type as uploaded, size in bytes."""

    cid: Cid
    mime_type: str
    size: int


def from_json(value: Any, max_depth: int = MAX_JSON_DEPTH) -> Value:
    """The value behind parsed JSON, which it takes over and changes in place. Raises BadData.

    Integral floats become integers; fractions and integers outside ±(2^53 - 1) are refused. `max_depth` counts lists
    and maps inside each other.
    """
    kind = type(value)
    if kind is dict:
        return _map_from_json(value, max_depth)
    if kind is list:
        return _list_from_json(value, max_depth)
    return cast(Value, value) if kind is str else _leaf_from_json(value)


def record_from_json(value: Any, max_depth: int = MAX_JSON_DEPTH) -> dict[str, Value]:
    """`from_json` of what must be a map. Raises BadData."""
    record = from_json(value, max_depth)
    if type(record) is not dict:
        raise BadData("a record is a JSON object")
    return record


def to_json(value: Value) -> Any:
    """A new tree of what JSON knows: links as {"$link"}, bytes as {"$bytes"}."""
    kind = type(value)
    if kind is dict:
        return {key: to_json(entry) for key, entry in cast(dict[str, Value], value).items()}
    if kind is list:
        return [to_json(entry) for entry in cast(list[Value], value)]
    if kind is Cid or kind is bytes:
        return json_default(value)
    return value


def json_default(value: Any) -> dict[str, str]:
    """What `ujson.dumpb` asks about a link or bytes, so that no walk is needed before it."""
    if type(value) is Cid:
        return {"$link": str(value)}
    if type(value) is bytes:
        return {"$bytes": b64encode(value).rstrip(b"=").decode("ascii")}
    raise TypeError(f"{type(value).__name__} is outside the data model")


def find_blob_refs(value: Value) -> list[BlobRef]:
    """Every blob a value refers to, in document order, repeats kept; maps that are not quite blobs are passed over."""
    return [
        BlobRef(ref, mime_type, size)
        for entry in _media_maps(value)
        if entry.get("$type") == "blob"
        and type(ref := entry.get("ref")) is Cid
        and type(mime_type := entry["mimeType"]) is str
        and type(size := entry.get("size")) is int
    ]


def blob_cids(value: Value) -> set[Cid]:
    """The blobs that a stored record names, in either form: old records hold {"cid", "mimeType"}, and their pictures
    must be kept and move along like any other.
    """
    found = {blob.cid for blob in find_blob_refs(value)}
    for entry in _media_maps(value):
        if len(entry) == 2 and type(text := entry.get("cid")) is str and type(entry["mimeType"]) is str:
            with suppress(BadSyntax):
                found.add(Cid.parse(text))
    return found


def has_legacy_blob(value: Value) -> bool:
    """True if a {"cid", "mimeType"} map in it is a blob reference of the old form: one whose cid parses.

    Those are read in old records and never accepted in new ones.
    """
    return any(
        len(entry) == 2 and _is_cid(entry.get("cid")) and type(entry["mimeType"]) is str for entry in _media_maps(value)
    )


def _map_from_json(content: dict[str, Any], depth: int) -> Value:
    if depth <= 0 or len(content) > MAX_CONTAINER:
        raise BadData("nested too deeply" if depth <= 0 else "map with too many entries")
    for key, value in content.items():
        if len(key) > _SURELY_SHORT_KEY:
            _check_key(key)
        kind = type(value)
        if kind is str:
            continue
        if kind is dict:
            content[key] = _map_from_json(value, depth - 1)
        elif kind is list:
            _list_from_json(value, depth - 1)
        else:
            content[key] = _leaf_from_json(value)
    if "$type" in content:
        name = content["$type"]
        if type(name) is not str or not name:
            raise BadData("$type must be a text that is not empty")
        if name == "blob":
            _check_blob(content)
    if "$link" in content:
        return _link_from_json(content)
    if "$bytes" in content:
        return _bytes_from_json(content)
    return content


def _list_from_json(content: list[Any], depth: int) -> Value:
    if depth <= 0 or len(content) > MAX_CONTAINER:
        raise BadData("nested too deeply" if depth <= 0 else "list with too many entries")
    for index, value in enumerate(content):
        kind = type(value)
        if kind is str:
            continue
        if kind is dict:
            content[index] = _map_from_json(value, depth - 1)
        elif kind is list:
            _list_from_json(value, depth - 1)
        else:
            content[index] = _leaf_from_json(value)
    return content


def _leaf_from_json(value: Any) -> Value:
    kind = type(value)
    if value is None or kind is bool:
        return cast(Value, value)
    if kind is float and value.is_integer():
        value = int(value)
    elif kind is not int:
        raise BadData(f"{kind.__name__} is outside the data model: numbers must be integers")
    if -MAX_JSON_INT <= value <= MAX_JSON_INT:
        return cast(int, value)
    raise BadData("integer outside the range that JSON keeps exact, ±(2^53 - 1)")


def _check_key(key: str) -> None:
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY:
        raise BadData("map key is too long")


def _check_blob(content: dict[str, Any]) -> None:
    ref, mime_type, size = content.get("ref"), content.get("mimeType"), content.get("size")
    if content.keys() != _BLOB_KEYS or type(ref) is not Cid or not ref.is_raw:
        raise BadData("a blob must have ref (a link with codec raw), mimeType and size, and nothing else")
    if type(mime_type) is not str or not mime_type or type(size) is not int or size <= 0:
        raise BadData("a blob must have a mimeType that is not empty and a size above zero")


def _link_from_json(content: dict[str, Any]) -> Cid:
    text = content["$link"]
    if len(content) != 1 or type(text) is not str:
        raise BadData("$link must be a text and the only key")
    try:
        return Cid.parse(text)
    except BadSyntax as problem:
        raise BadData(f"$link is {problem.message}") from None


def _bytes_from_json(content: dict[str, Any]) -> bytes:
    text = content["$bytes"]
    if len(content) != 1 or type(text) is not str:
        raise BadData("$bytes must be a text and the only key")
    padded = text if text.endswith("=") else text + "=" * (-len(text) % 4)
    if len(padded) % 4 or padded.endswith("==="):
        raise BadData("$bytes has wrong padding")
    try:
        return a2b_base64(padded, strict_mode=True)
    except ValueError:
        raise BadData("$bytes is not base64") from None


def _media_maps(value: Value) -> list[dict[str, Value]]:
    """Every map with a mimeType, in document order: what a blob reference of either form must have."""
    found: list[dict[str, Value]] = []
    if type(value) is dict:
        _collect_media_maps(value, value.values(), found)
    elif type(value) is list:
        _collect_media_maps({}, value, found)
    return found


def _collect_media_maps(container: dict[str, Value], entries: Iterable[Value], found: list[dict[str, Value]]) -> None:
    if "mimeType" in container:
        found.append(container)
    for entry in entries:
        kind = type(entry)
        if kind is dict:
            _collect_media_maps(entry, entry.values(), found)  # type: ignore[arg-type, union-attr]
        elif kind is list:
            _collect_media_maps({}, entry, found)  # type: ignore[arg-type]


def _is_cid(value: Value) -> bool:
    try:
        return type(value) is str and bool(Cid.parse(value))
    except BadSyntax:
        return False
