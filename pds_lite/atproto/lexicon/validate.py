"""Values against their lexicon: every definition is compiled once into closures that know nothing but their limits.

Containers add their step to a refusal's path on its way out, so that the accepting path never builds one: "Record/text
must not be longer than 300 graphemes". Two kinds of value are checked: the data model (records), and decoded JSON
(`in_json`: XRPC bodies, where {"$link": ...} is still a map and what lies inside `unknown` is nobody's business here).
Unknown properties and unknown members of open unions pass (specs/lexicon). This module must not know which lexicons
exist; a lookup gives it definitions.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pds_lite.atproto.data import from_json
from pds_lite.atproto.lexicon import scalars
from pds_lite.atproto.lexicon.definitions import (
    Array,
    Blob,
    Boolean,
    Bytes,
    CidLink,
    Definition,
    Field,
    Integer,
    Object,
    Record,
    Ref,
    String,
    Token,
    Union,
    Unknown,
)
from pds_lite.atproto.lexicon.scalars import Check, Refusal
from pds_lite.errors import BadData, BadRecord

Lookup = Callable[[str], Definition]
"""Gives the definition of an absolute reference ("nsid#name"); raises BadRecord when there is none."""


def guard(check: Check, root: str) -> Check:
    """`check` for callers outside: raises BadRecord whose path starts with `root`, whatever the value is."""

    def guarded(value: Any) -> None:
        try:
            check(value)
        except Refusal as refusal:
            raise BadRecord(refusal.below(root)) from None
        except RecursionError:
            raise BadRecord(f"{root} is nested too deeply") from None

    return guarded


class Compiler:
    """Compiles definitions on demand and keeps the results, so that a definition shared by many is made once.

    Safe to use from several threads: a build works in a dict of its own and publishes finished checks only.
    """

    def __init__(self, lookup: Lookup, *, in_json: bool) -> None:
        self._lookup = lookup
        self._in_json = in_json
        self._checks: dict[str, Check] = {}

    def definition(self, target: str) -> Check:
        """The check of "nsid#name". Raises BadRecord if it, or anything it refers to, is not known."""
        return self._checks.get(target) or self._publish(lambda build: build.definition(target))

    def field(self, schema: Field) -> Check:
        """The check of a schema that has no name of its own. Raises BadRecord like `definition`."""
        return self._publish(lambda build: build.field(schema))

    def _publish(self, compile_in: Callable[["_Build"], Check]) -> Check:
        build = _Build(self._lookup, self._in_json, self._checks)
        check = compile_in(build)
        self._checks.update(build.fresh)
        return check


class _Build:
    """One run of the compiler; `fresh` holds what it finished, `_begun` names what it has at least started."""

    def __init__(self, lookup: Lookup, in_json: bool, known: Mapping[str, Check]) -> None:
        self._lookup = lookup
        self._in_json = in_json
        self._known = known
        self._begun: set[str] = set()
        self.fresh: dict[str, Check] = {}

    def definition(self, target: str) -> Check:
        check = self._known.get(target) or self.fresh.get(target)
        if check is not None:
            return check
        if target in self._begun:
            return _late(self.fresh, target)
        self._begun.add(target)
        check = self.fresh[target] = self._named(target, self._lookup(target))
        return check

    def _named(self, target: str, definition: Definition) -> Check:
        """A named object may say its own name in $type, a record must: only unions ask every member to."""
        names = _names(target)
        if isinstance(definition, Record):
            return self._object(definition.record, {"$type": scalars.one_of(names[:1])}, ("$type",))
        if isinstance(definition, Object):
            return self._object(definition, {"$type": scalars.one_of(names)})
        if isinstance(definition, Field):
            return self.field(definition)
        raise BadRecord(f"Lexicon {target} does not describe data")

    def field(self, schema: Field) -> Check:
        match schema:
            case Ref(target):
                return self.definition(target)
            case Object():
                return self._object(schema)
            case Array(items, low, high):
                return _array(self.field(items), low, high)
            case Union(targets, closed):
                return _union({name: self.definition(target) for target in targets for name in _names(target)}, closed)
        return self._scalar(schema)

    def _scalar(self, schema: Field) -> Check:
        match schema:
            case String():
                return scalars.string(schema)
            case Integer():
                return scalars.integer(schema)
            case Boolean(const):
                return scalars.boolean(const)
            case Token(name):
                return scalars.one_of((name,))
            case Bytes(low, high):
                return self._decoded(scalars.byte_string(low or 0, high))
            case CidLink():
                return self._decoded(scalars.cid_link)
            case Blob(accept, max_size):
                return self._decoded(scalars.blob(accept, max_size))
            case Unknown():
                return scalars.unknown
        raise AssertionError(f"no check for {schema}")

    def _decoded(self, check: Check) -> Check:
        """In JSON these kinds are maps, whose forms data.py knows. It changes what it is given: hence the copy."""
        if not self._in_json:
            return check

        def check_json(value: Any) -> None:
            try:
                decoded = from_json(dict(value) if type(value) is dict else value)
            except BadData as problem:
                raise Refusal(f"is not valid data: {problem.message}") from None
            check(decoded)

        return check_json

    def _object(self, schema: Object, typed: Mapping[str, Check] | None = None, always: tuple[str, ...] = ()) -> Check:
        fields = {**(typed or {}), **{name: self.field(field) for name, field in schema.properties.items()}}
        for name in schema.nullable & fields.keys():
            fields[name] = _nullable(fields[name])
        required = [name for name in schema.required if not (self._in_json and has_default(schema.properties[name]))]
        return _object(fields, (*always, *required))


def has_default(field: Field) -> bool:
    """True if absence means a value: then a parameter or body may lack it even if it is required; a record may not."""
    return getattr(field, "default", None) is not None


def _names(target: str) -> tuple[str, ...]:
    """What $type may say for a definition. The form with #main is not to be written, but is understood."""
    return (target.removesuffix("#main"), target) if target.endswith("#main") else (target,)


def _late(checks: Mapping[str, Check], target: str) -> Check:
    """A definition inside itself: looked up when it is used, since it is not finished yet."""

    def check(value: Any) -> None:
        checks[target](value)

    return check


def _object(fields: Mapping[str, Check], required: tuple[str, ...]) -> Check:
    field_of = fields.get

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Refusal("must be an object")
        for name in required:
            if name not in value:
                raise Refusal(f'must have the property "{name}"')
        name = ""
        try:
            for name, item in value.items():
                field = field_of(name)
                if field is not None:
                    field(item)
        except Refusal as refusal:
            refusal.steps.append(name)
            raise

    return check


def _nullable(check: Check) -> Check:
    def check_unless_null(value: Any) -> None:
        if value is not None:
            check(value)

    return check_unless_null


def _array(check_item: Check, low: int | None, high: int | None) -> Check:
    def check(value: Any) -> None:
        if type(value) is not list:
            raise Refusal("must be an array")
        if high is not None and len(value) > high:
            raise Refusal(f"must not have more than {high} elements")
        if low is not None and len(value) < low:
            raise Refusal(f"must not have fewer than {low} elements")
        done = 0
        try:
            for item in value:
                check_item(item)
                done += 1
        except Refusal as refusal:
            refusal.steps.append(str(done))
            raise

    return check


def _union(members: Mapping[str, Check], closed: bool) -> Check:
    member_of = members.get
    choice = ", ".join(name for name in members if not name.endswith("#main"))

    def check(value: Any) -> None:
        if type(value) is not dict or type(name := value.get("$type")) is not str:
            raise Refusal('must be an object which includes the "$type" property')
        member = member_of(name)
        if member is not None:
            member(value)
        elif closed:
            raise Refusal(f"$type must be one of {choice}")

    return check
