"""What a lexicon document can say, as frozen values: one class for each kind of definition (specs/lexicon).

Made by schema.py, which has checked them, and by nobody else. References are absolute: "nsid#name", also "nsid#main".
What describes but does not constrain (description, knownValues) has no place here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Boolean:
    const: bool | None
    default: bool | None


@dataclass(frozen=True, slots=True)
class Integer:
    minimum: int | None
    maximum: int | None
    enum: tuple[int, ...] | None
    const: int | None
    default: int | None


@dataclass(frozen=True, slots=True)
class String:
    """Lengths count UTF-8 bytes, graphemes count extended grapheme clusters."""

    format: str | None
    min_length: int | None
    max_length: int | None
    min_graphemes: int | None
    max_graphemes: int | None
    enum: tuple[str, ...] | None
    const: str | None
    default: str | None


@dataclass(frozen=True, slots=True)
class Bytes:
    min_length: int | None
    max_length: int | None


@dataclass(frozen=True, slots=True)
class CidLink:
    pass


@dataclass(frozen=True, slots=True)
class Blob:
    """`accept` holds MIME types and globs ("image/*", "*/*"); `max_size` is in bytes."""

    accept: tuple[str, ...] | None
    max_size: int | None


@dataclass(frozen=True, slots=True)
class Unknown:
    pass


@dataclass(frozen=True, slots=True)
class Token:
    """A name that stands for itself; `name` is what a value must say, "nsid#name" or the bare NSID for main."""

    name: str


@dataclass(frozen=True, slots=True)
class Ref:
    target: str


@dataclass(frozen=True, slots=True)
class Union:
    targets: tuple[str, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class Array:
    items: "Field"
    min_length: int | None
    max_length: int | None


@dataclass(frozen=True, slots=True)
class Object:
    properties: Mapping[str, "Field"]
    required: tuple[str, ...]
    nullable: frozenset[str]


Field: TypeAlias = Boolean | Integer | String | Bytes | CidLink | Blob | Unknown | Token | Ref | Union | Array | Object


@dataclass(frozen=True, slots=True)
class Params:
    properties: Mapping[str, Boolean | Integer | String | Unknown | Array]
    required: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Body:
    encoding: str
    schema: Ref | Union | Object | None


@dataclass(frozen=True, slots=True)
class Method:
    """A query, procedure or subscription (`kind`); only a procedure has an input, only a subscription a message."""

    kind: str
    parameters: Params | None
    input: Body | None
    output: Body | None
    message: Union | None
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """`key` is "tid", "nsid", "any" or "literal:<value>"."""

    key: str
    record: Object


@dataclass(frozen=True, slots=True)
class Permission:
    """One entry of a permission set; `fields` are all but type and resource, their meaning is the OAuth scope's."""

    resource: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PermissionSet:
    title: str | None
    detail: str | None
    permissions: tuple[Permission, ...]


Definition: TypeAlias = Field | Method | Record | PermissionSet


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    defs: Mapping[str, Definition]
