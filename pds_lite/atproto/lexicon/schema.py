"""A lexicon document, parsed and checked once (specs/lexicon): decoded JSON in, definitions out.

Rules: the document may come from anywhere, so types, nesting and names are checked strictly, while fields nobody knows
are ignored, as the specification asks. References are made absolute; whether their targets exist is only known to a
catalog. This module must not know how values are checked (validate.py) or where documents come from (catalog.py).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pds_lite.atproto.lexicon.definitions import (
    Array,
    Blob,
    Body,
    Boolean,
    Bytes,
    CidLink,
    Definition,
    Document,
    Field,
    Integer,
    Method,
    Object,
    Params,
    Permission,
    PermissionSet,
    Record,
    Ref,
    String,
    Token,
    Union,
    Unknown,
)
from pds_lite.atproto.syntax import is_nsid, is_record_key
from pds_lite.errors import BadRecord

STRING_FORMATS: Final = frozenset(
    ("at-identifier", "at-uri", "cid", "datetime", "did", "handle", "language", "nsid", "record-key", "tid", "uri")
)
MAIN_ONLY: Final = frozenset(("query", "procedure", "subscription", "record", "permission-set"))
"""Kinds of definition that must be a document's main one."""
_MAX_NESTING: Final = 32
_T = TypeVar("_T")


def parse_document(raw: object) -> Document:
    """A whole document from decoded JSON. Raises BadRecord naming the document and the place."""
    if type(raw) is not dict or raw.get("lexicon") != 1 or type(raw["lexicon"]) is not int:
        raise BadRecord('not a lexicon document: "lexicon" must be 1')
    nsid = raw.get("id")
    if type(nsid) is not str or not is_nsid(nsid):
        raise BadRecord('not a lexicon document: "id" must be an NSID')
    defs = raw.get("defs")
    if type(defs) is not dict:
        raise BadRecord(f"lexicon {nsid}: defs must be an object")
    return Document(nsid, {name: parse_definition(nsid, name, definition) for name, definition in defs.items()})


def parse_definition(nsid: str, name: str, raw: object) -> Definition:
    """One entry of a document's defs. Raises BadRecord."""
    fields = _Fields(nsid, name, raw)
    kind = fields.kind()
    if not name:
        raise fields.wrong("must have a name")
    if kind in MAIN_ONLY:
        if name != "main":
            raise fields.wrong(f"is a {kind}, which must be the main definition")
        return _MAIN_PARSERS[kind](fields)
    if kind == "token":
        return Token(nsid if name == "main" else f"{nsid}#{name}")
    if kind in {"unknown", "ref", "union"}:
        raise fields.wrong(f"is a {kind}, which cannot be a definition of its own")
    return _parse_field(fields)


class _Fields:
    """A JSON object being read: every getter checks the type and names the place in its error."""

    __slots__ = ("depth", "nsid", "path", "raw")

    def __init__(self, nsid: str, path: str, raw: object, depth: int = 0) -> None:
        self.nsid, self.path, self.depth = nsid, path, depth
        if type(raw) is not dict:
            raise self.wrong("must be an object")
        if depth > _MAX_NESTING:
            raise self.wrong("is nested too deeply")
        self.raw: dict[str, Any] = raw

    def wrong(self, what: str) -> BadRecord:
        return BadRecord(f"lexicon {self.nsid}: {self.path[:200]} {what}")

    def kind(self) -> str:
        kind = self.text("type")
        if kind is None:
            raise self.wrong('must have a "type"')
        return kind

    def child(self, name: str) -> "_Fields":
        return self._below(name, self.raw.get(name))

    def children(self, name: str) -> dict[str, "_Fields"]:
        raw = self.raw.get(name)
        if type(raw) is not dict:
            raise self.wrong(f"must have an object {name!r}")
        return {key: self._below(f"{name}/{key}", value) for key, value in raw.items()}

    def entries(self, name: str) -> list["_Fields"]:
        raw = self.raw.get(name, [])
        if type(raw) is not list:
            raise self.wrong(f"{name} must be a list")
        return [self._below(f"{name}/{index}", value) for index, value in enumerate(raw)]

    def _below(self, name: str, value: object) -> "_Fields":
        return _Fields(self.nsid, f"{self.path}/{name}", value, self.depth + 1)

    def text(self, name: str) -> str | None:
        return self._optional(name, str)

    def integer(self, name: str) -> int | None:
        return self._optional(name, int)

    def boolean(self, name: str) -> bool | None:
        return self._optional(name, bool)

    def limit(self, name: str) -> int | None:
        value = self.integer(name)
        if value is not None and value < 0:
            raise self.wrong(f"{name} must not be negative")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        return self._list(name, str)

    def integers(self, name: str) -> tuple[int, ...] | None:
        return self._list(name, int)

    def _optional(self, name: str, expected: type[_T]) -> _T | None:
        if name not in self.raw:
            return None
        value = self.raw[name]
        if type(value) is not expected:
            raise self.wrong(f"{name} must be of type {expected.__name__}")
        return value

    def _list(self, name: str, expected: type[_T]) -> tuple[_T, ...] | None:
        if name not in self.raw:
            return None
        values = self.raw[name]
        if type(values) is not list or any(type(value) is not expected for value in values):
            raise self.wrong(f"{name} must be a list of type {expected.__name__}")
        return tuple(values)

    def target(self, reference: str) -> str:
        """The absolute form of a reference, always with its fragment."""
        nsid, sharp, name = reference.partition("#")
        if (nsid and not is_nsid(nsid)) or (sharp and not name) or not (nsid or name):
            raise self.wrong("holds something that is not a reference")
        return f"{nsid or self.nsid}#{name or 'main'}"

    def required(self, properties: Mapping[str, object]) -> tuple[str, ...]:
        required = self.texts("required") or ()
        if not properties.keys() >= set(required):
            raise self.wrong("requires properties that it does not define")
        return tuple(dict.fromkeys(required))


def _parse_field(fields: _Fields) -> Field:
    kind = fields.kind()
    parser = _FIELD_PARSERS.get(kind)
    if parser is None:
        raise fields.wrong(f"has a type that cannot stand here: {kind[:40]!r}")
    return parser(fields)


def _parse_string(fields: _Fields) -> String:
    name = fields.text("format")
    if name is not None and name not in STRING_FORMATS:
        raise fields.wrong(f"has an unknown format {name[:40]!r}")
    return String(
        format=name,
        min_length=fields.limit("minLength"),
        max_length=fields.limit("maxLength"),
        min_graphemes=fields.limit("minGraphemes"),
        max_graphemes=fields.limit("maxGraphemes"),
        enum=fields.texts("enum"),
        const=fields.text("const"),
        default=fields.text("default"),
    )


def _parse_integer(fields: _Fields) -> Integer:
    return Integer(
        minimum=fields.integer("minimum"),
        maximum=fields.integer("maximum"),
        enum=fields.integers("enum"),
        const=fields.integer("const"),
        default=fields.integer("default"),
    )


def _parse_ref(fields: _Fields) -> Ref:
    reference = fields.text("ref")
    if reference is None:
        raise fields.wrong('must have a "ref"')
    return Ref(fields.target(reference))


def _parse_union(fields: _Fields) -> Union:
    references = fields.texts("refs")
    if references is None:
        raise fields.wrong('must have "refs"')
    return Union(tuple(map(fields.target, references)), closed=bool(fields.boolean("closed")))


def _parse_object(fields: _Fields) -> Object:
    properties = {name: _parse_field(child) for name, child in fields.children("properties").items()}
    return Object(properties, fields.required(properties), frozenset(fields.texts("nullable") or ()))


_FIELD_PARSERS: Final[Mapping[str, Callable[[_Fields], Field]]] = {
    "boolean": lambda fields: Boolean(fields.boolean("const"), fields.boolean("default")),
    "integer": _parse_integer,
    "string": _parse_string,
    "bytes": lambda fields: Bytes(fields.limit("minLength"), fields.limit("maxLength")),
    "cid-link": lambda _fields: CidLink(),
    "blob": lambda fields: Blob(fields.texts("accept"), fields.limit("maxSize")),
    "unknown": lambda _fields: Unknown(),
    "ref": _parse_ref,
    "union": _parse_union,
    "array": lambda fields: Array(
        _parse_field(fields.child("items")), fields.limit("minLength"), fields.limit("maxLength")
    ),
    "object": _parse_object,
}


def _parse_params(fields: _Fields) -> Params:
    if fields.kind() != "params":
        raise fields.wrong("must be of type params")
    properties: dict[str, Boolean | Integer | String | Unknown | Array] = {}
    for name, child in fields.children("properties").items():
        field = _parse_field(child)
        item = field.items if isinstance(field, Array) else field
        if not isinstance(item, Boolean | Integer | String | Unknown) or not isinstance(field, Array | type(item)):
            raise child.wrong("cannot be a query parameter")
        properties[name] = field
    return Params(properties, fields.required(properties))


def _parse_body(fields: _Fields) -> Body:
    encoding = fields.text("encoding")
    if encoding is None or any(sign in encoding for sign in ",; "):
        raise fields.wrong("must have one MIME type as its encoding")
    schema = _parse_field(fields.child("schema")) if "schema" in fields.raw else None
    if schema is not None and not isinstance(schema, Ref | Union | Object):
        raise fields.wrong("must have an object, ref or union as its schema")
    return Body(encoding, schema)


def _parse_message(fields: _Fields) -> Union:
    schema = _parse_field(fields.child("schema"))
    if not isinstance(schema, Union):
        raise fields.wrong("must have a union as its schema")
    return schema


def _parse_error(fields: _Fields) -> str:
    name = fields.text("name")
    if not name:
        raise fields.wrong("must have a name")
    return name


def _parse_method(fields: _Fields) -> Method:
    kind = fields.kind()
    has = fields.raw.__contains__
    return Method(
        kind=kind,
        parameters=_parse_params(fields.child("parameters")) if has("parameters") else None,
        input=_parse_body(fields.child("input")) if kind == "procedure" and has("input") else None,
        output=_parse_body(fields.child("output")) if kind != "subscription" and has("output") else None,
        message=_parse_message(fields.child("message")) if kind == "subscription" else None,
        errors=tuple(_parse_error(error) for error in fields.entries("errors")),
    )


def _parse_record(fields: _Fields) -> Record:
    key = fields.text("key") or ""
    if key not in {"tid", "nsid", "any"} and not (key.startswith("literal:") and is_record_key(key[8:])):
        raise fields.wrong('must have a key: "tid", "nsid", "any" or "literal:<record key>"')
    record = fields.child("record")
    if record.kind() != "object":
        raise record.wrong("must be of type object")
    return Record(key, _parse_object(record))


def _parse_permission(fields: _Fields) -> Permission:
    resource = fields.text("resource")
    if fields.kind() != "permission" or not resource:
        raise fields.wrong("must be a permission with a resource")
    extra = {name: value for name, value in fields.raw.items() if name not in {"type", "resource"}}
    for name, value in extra.items():
        items = value if type(value) is list else [value]
        if any(type(item) not in {str, int, bool} for item in items):
            raise fields.wrong(f"{name} must be a text, integer or boolean, or a list of these")
    return Permission(resource, extra)


def _parse_permission_set(fields: _Fields) -> PermissionSet:
    if "permissions" not in fields.raw:
        raise fields.wrong("must have permissions")
    permissions = tuple(_parse_permission(entry) for entry in fields.entries("permissions"))
    return PermissionSet(fields.text("title"), fields.text("detail"), permissions)


_MAIN_PARSERS: Final[Mapping[str, Callable[[_Fields], Definition]]] = {
    "query": _parse_method,
    "procedure": _parse_method,
    "subscription": _parse_method,
    "record": _parse_record,
    "permission-set": _parse_permission_set,
}
