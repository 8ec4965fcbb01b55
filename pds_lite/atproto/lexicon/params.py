"""Query parameters: from the pairs of a query string to typed values (specs/xrpc, "Lexicon HTTP Endpoints").

Rules: what a lexicon does not name is ignored, an empty value counts as absent, as in the reference; numbers and truth
values have one spelling; defaults are filled in here, so that handlers never know them.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from pds_lite.atproto.lexicon.definitions import Array, Boolean, Definition, Field, Integer, Params, String, Unknown
from pds_lite.atproto.lexicon.scalars import Refusal
from pds_lite.atproto.lexicon.validate import Compiler, has_default
from pds_lite.errors import BadRecord

_INTEGER_TEXT: Final = re.compile(r"-?[0-9]{1,16}")
_ANY_TEXT: Final = String(*[None] * 8)


def compile_params(schema: Params | None) -> Callable[[Sequence[tuple[str, str]]], dict[str, Any]]:
    """A parser for a query string's pairs, in their order and already percent-decoded.

    It gives typed values with defaults filled in. Unknown names and empty values are ignored as the reference does;
    a repeated name is an array, or an error where one value is expected. Raises BadRecord naming the parameter.
    """
    properties = schema.properties if schema else {}
    compiler = Compiler(_no_references, in_json=False)
    readers = {name: _reader(field) for name, field in properties.items()}
    checks = {name: compiler.field(_as_text(field)) for name, field in properties.items()}
    lists = frozenset(name for name, field in properties.items() if isinstance(field, Array))
    defaults = {name: getattr(field, "default", None) for name, field in properties.items() if has_default(field)}
    required = [name for name in (schema.required if schema else ()) if name not in defaults]

    def parse(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, text in pairs:
            if text and name in readers:
                _collect(found, name, readers[name](name, text), name in lists)
        for name, value in found.items():
            try:
                checks[name](value)
            except Refusal as refusal:
                raise BadRecord(refusal.below(name)) from None
        for name in required:
            if name not in found:
                raise BadRecord(f'Params must have the property "{name}"')
        return {**defaults, **found}

    return parse


def _collect(found: dict[str, Any], name: str, value: Any, is_list: bool) -> None:
    if is_list:
        found.setdefault(name, []).append(value)
    elif name in found:
        raise BadRecord(f"{name} must be given once")
    else:
        found[name] = value


def _no_references(target: str) -> Definition:
    raise BadRecord(f"a parameter cannot refer to {target}")


def _as_text(field: Field) -> Field:
    """`unknown` is an object elsewhere; in a query string it can only be some text."""
    if isinstance(field, Array):
        return Array(_as_text(field.items), field.min_length, field.max_length)
    return _ANY_TEXT if isinstance(field, Unknown) else field


def _reader(field: Field) -> Callable[[str, str], Any]:
    item = field.items if isinstance(field, Array) else field
    if isinstance(item, Integer):
        return _read_integer
    return _read_boolean if isinstance(item, Boolean) else _read_text


def _read_text(_name: str, text: str) -> str:
    return text


def _read_integer(name: str, text: str) -> int:
    if not _INTEGER_TEXT.fullmatch(text):
        raise BadRecord(f"{name} must be an integer")
    return int(text)


def _read_boolean(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise BadRecord(f"{name} must be a boolean")
    return text == "true"
