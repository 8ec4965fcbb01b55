"""What a lexicon document can say, as frozen values: one class for each kind of definition (specs/lexicon).

Made by schema.py, which has checked them, and by nobody else. References are absolute: "nsid#name", also "nsid#main".
What describes but does not constrain (description, knownValues) has no place here. They are named tuples because twenty
dataclasses would take 20 ms of every start.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias


class Boolean(NamedTuple):
    const: bool | None
    default: bool | None


class Integer(NamedTuple):
    minimum: int | None
    maximum: int | None
    enum: tuple[int, ...] | None
    const: int | None
    default: int | None


class String(NamedTuple):
    """Lengths count UTF-8 bytes, graphemes count extended grapheme clusters."""

    format: str | None
    min_length: int | None
    max_length: int | None
    min_graphemes: int | None
    max_graphemes: int | None
    enum: tuple[str, ...] | None
    const: str | None
    default: str | None


class Bytes(NamedTuple):
    min_length: int | None
    max_length: int | None


class CidLink(NamedTuple):
    pass


class Blob(NamedTuple):
    """`accept` holds MIME types and globs ("image/*", "*/*"); `max_size` is in bytes."""

    accept: tuple[str, ...] | None
    max_size: int | None


class Unknown(NamedTuple):
    pass


class Token(NamedTuple):
    """A name that stands for itself; `name` is what a value must say, "nsid#name" or the bare NSID for main."""

    name: str


class Ref(NamedTuple):
    target: str


class Union(NamedTuple):
    targets: tuple[str, ...]
    closed: bool


class Array(NamedTuple):
    items: "Field"
    min_length: int | None
    max_length: int | None


class Object(NamedTuple):
    properties: Mapping[str, "Field"]
    required: tuple[str, ...]
    nullable: frozenset[str]


Field: TypeAlias = Boolean | Integer | String | Bytes | CidLink | Blob | Unknown | Token | Ref | Union | Array | Object


class Params(NamedTuple):
    properties: Mapping[str, Boolean | Integer | String | Unknown | Array]
    required: tuple[str, ...]


class Body(NamedTuple):
    encoding: str
    schema: Ref | Union | Object | None


class Method(NamedTuple):
    """A query, procedure or subscription (`kind`); only a procedure has an input, only a subscription a message."""

    kind: str
    parameters: Params | None
    input: Body | None
    output: Body | None
    message: Union | None
    errors: tuple[str, ...]


class Record(NamedTuple):
    """`key` is "tid", "nsid", "any" or "literal:<value>"."""

    key: str
    record: Object


class Permission(NamedTuple):
    """One entry of a permission set; `fields` are all but type and resource, their meaning is the OAuth scope's."""

    resource: str
    fields: Mapping[str, Any]


class PermissionSet(NamedTuple):
    title: str | None
    detail: str | None
    permissions: tuple[Permission, ...]


Definition: TypeAlias = Field | Method | Record | PermissionSet


class Document(NamedTuple):
    id: str
    defs: Mapping[str, Definition]
