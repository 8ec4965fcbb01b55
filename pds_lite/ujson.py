"""JSON under ujson's names (dumps, loads, dump, load) over orjson: a board without orjson swaps this one file.

Beyond ujson: `dumpb` gives UTF-8 bytes at once, and `default` turns a value that JSON does not know (a CID, bytes) into
one that it does. What orjson is stricter about is kept: bad UTF-8, lone surrogates, NaN and control characters are
refused. What it is laxer about the caller must check: integers beyond 64 bits arrive as floats, repeated keys keep
the last value.
"""

from collections.abc import Callable
from typing import IO, Any

import orjson

from pds_lite.errors import BadData


def dumpb(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """JSON as UTF-8 bytes. Raises BadData for a value JSON cannot hold or nesting over 254."""
    try:
        return orjson.dumps(value, default)
    except orjson.JSONEncodeError as problem:
        raise BadData(f"not representable as JSON: {problem}") from None


def dumps(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """JSON as text; raises BadData like dumpb."""
    return dumpb(value, default).decode()


def loads(text: bytes | bytearray | memoryview | str) -> Any:
    """A parsed JSON value. Raises BadData with the position of the problem."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise BadData(f"not valid JSON: {problem}") from None


def dump(value: Any, file: IO[str]) -> None:
    """Writes JSON text to `file`."""
    file.write(dumps(value))


def load(file: IO[str] | IO[bytes]) -> Any:
    """Parses the rest of `file`; raises BadData like loads."""
    return loads(file.read())
