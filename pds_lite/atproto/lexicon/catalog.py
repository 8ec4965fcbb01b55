"""Which lexicons this server knows: NSID to Definition, compiled when first asked for.

Rules: the generated bundle (pds_lite/lexicons.py) is unpacked once, but none of its documents is parsed before it is
needed; start-up costs an index. Bundled documents were checked when they were generated, added ones are checked here.
This module must not know methods, HTTP or where added documents come from.
"""

from binascii import a2b_base64
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal
from zlib import decompress

from pds_lite import lexicons, ujson
from pds_lite.atproto.lexicon import definitions as kinds
from pds_lite.atproto.lexicon.params import compile_params
from pds_lite.atproto.lexicon.scalars import Check
from pds_lite.atproto.lexicon.schema import parse_definition, parse_document
from pds_lite.atproto.lexicon.validate import Compiler, guard
from pds_lite.atproto.syntax import is_nsid, is_record_key, is_tid
from pds_lite.errors import BadRecord

ValidationStatus = Literal["valid", "unknown"]


class Definition:
    """The main definition of one NSID. `kind` is the lexicon's type; "object" stands for every kind of plain data.

    Everything but nsid and kind is parsed and compiled on first use. What does not apply to a kind is None or empty.
    """

    def __init__(self, nsid: str, kind: str, catalog: "Catalog") -> None:
        self.nsid = nsid
        self.kind = kind
        self._catalog = catalog

    def __repr__(self) -> str:
        return f"Definition({self.nsid}, {self.kind})"

    @cached_property
    def _schema(self) -> kinds.Definition:
        return self._catalog.definition(f"{self.nsid}#main")

    @property
    def _method(self) -> kinds.Method | None:
        return self._schema if isinstance(self._schema, kinds.Method) else None

    @cached_property
    def input_encoding(self) -> str | None:
        """The MIME type a procedure's body must have ("*/*" for any); None if it takes no body."""
        return self._method.input.encoding if self._method and self._method.input else None

    @cached_property
    def output_encoding(self) -> str | None:
        return self._method.output.encoding if self._method and self._method.output else None

    @cached_property
    def errors(self) -> tuple[str, ...]:
        """The error names the lexicon declares."""
        return self._method.errors if self._method else ()

    @cached_property
    def parse_params(self) -> Callable[[Sequence[tuple[str, str]]], dict[str, Any]]:
        """Typed parameters, defaults filled in, from a query string's pairs; see compile_params. Raises BadRecord."""
        return compile_params(self._method.parameters if self._method else None)

    @cached_property
    def check_input(self) -> Callable[[Any], Any]:
        """Takes a decoded JSON body and gives it back unchanged (no defaults). Raises BadRecord."""
        return self._body_check(self._method.input if self._method else None, "Input")

    @cached_property
    def check_output(self) -> Callable[[Any], Any]:
        """Like check_input, for answers; for tests, since nothing checks its own answers at run time."""
        return self._body_check(self._method.output if self._method else None, "Output")

    def _body_check(self, body: kinds.Body | None, root: str) -> Callable[[Any], Any]:
        check = guard(self._catalog.bodies.field(body.schema), root) if body and body.schema else _anything

        def checked(value: Any) -> Any:
            check(value)
            return value

        return checked

    @cached_property
    def record_key(self) -> str | None:
        """One of "tid", "nsid", "any" and "literal:<value>"; None unless this is a record."""
        return self._schema.key if isinstance(self._schema, kinds.Record) else None

    @cached_property
    def check_record(self) -> Check:
        """Checks a data-model value, $type included, against a record (or plain data) definition. Raises BadRecord."""
        return guard(self._catalog.data.definition(f"{self.nsid}#main"), "Record")

    @cached_property
    def check_record_key(self) -> Callable[[str | None], None]:
        """Raises BadRecord; None stands for a TID that the server will make."""
        return _compile_record_key(self.nsid, self.record_key or "any")

    @cached_property
    def permissions(self) -> tuple[kinds.Permission, ...]:
        """What a permission set grants."""
        return self._schema.permissions if isinstance(self._schema, kinds.PermissionSet) else ()


def _anything(_value: Any) -> None:
    """For bodies without a schema: a method whose lexicon does not describe its JSON."""


def _compile_record_key(nsid: str, kind: str) -> Callable[[str | None], None]:
    tests: dict[str, tuple[Callable[[str], bool], str]] = {
        "tid": (is_tid, "must be a TID"),
        "nsid": (is_nsid, "must be an NSID"),
        "any": (is_record_key, "is not a record key"),
    }
    literal = kind.removeprefix("literal:")
    is_key, rule = tests.get(kind, (literal.__eq__, f'must be "{literal}"'))
    takes_tid = kind in {"tid", "any"}

    def check(rkey: str | None) -> None:
        if not (takes_tid if rkey is None else is_key(rkey)):
            raise BadRecord(f"Invalid record key for {nsid}: {rule}")

    return check


class Catalog:
    """The bundled lexicons and, before them in precedence, added ones."""

    def __init__(self, documents: Iterable[object] = ()) -> None:
        """`documents`: decoded lexicon JSON. Raises BadRecord for one that is not valid."""
        unpacked = decompress(a2b_base64(lexicons.BUNDLE))
        index_end = unpacked.index(b"\n")
        self._text = unpacked[index_end + 1 :]
        self._index: dict[str, tuple[str, int, int]] = ujson.loads(unpacked[:index_end])
        self._added: dict[str, kinds.Document] = {}
        self._definitions: dict[str, Definition] = {}
        self.data = Compiler(self.definition, in_json=False)
        self.bodies = Compiler(self.definition, in_json=True)
        for document in documents:
            added = parse_document(document)
            self._added[added.id] = added

    def get(self, nsid: str) -> Definition | None:
        """The main definition of an NSID; None if no document has this NSID or it has no main definition."""
        found = self._definitions.get(nsid)
        if found is None and (kind := self.kind(nsid)) is not None:
            found = self._definitions[nsid] = Definition(nsid, kind, self)
        return found

    def kind(self, nsid: str) -> str | None:
        """The kind that `get(nsid)` would have, without parsing anything."""
        if (added := self._added.get(nsid)) is not None:
            return _kind_of(added.defs["main"]) if "main" in added.defs else None
        return self._index[nsid][0] or None if nsid in self._index else None

    def nsids(self, kind: str) -> list[str]:
        """Every NSID of a kind, sorted."""
        return sorted(nsid for nsid in {*self._index, *self._added} if self.kind(nsid) == kind)

    def definition(self, target: str) -> kinds.Definition:
        """The parsed definition of an absolute reference "nsid#name". Raises BadRecord if there is none."""
        nsid, _, name = target.partition("#")
        if nsid in self._added:
            defs: Any = self._added[nsid].defs
        else:
            _kind, start, end = self._index.get(nsid, ("", 0, 0))
            defs = ujson.loads(self._text[start:end]) if end else {}
        if name not in defs:
            raise BadRecord(f"Lexicon {target} is not known")
        return defs[name] if nsid in self._added else parse_definition(nsid, name, defs[name])

    def check_record(
        self, collection: str, rkey: str | None, value: Any, validate: bool | None
    ) -> ValidationStatus | None:
        """Checks a record before it is written; the meaning of `validate` is the reference's.

        True: an unknown collection is an error. None: an unknown one passes as "unknown". False: only $type is checked,
        the answer is None. `value` is a data-model value whose $type the caller has filled in; `rkey` None means that
        the server will choose a TID. Raises BadRecord.
        """
        if type(value) is not dict:
            raise BadRecord("Record must be an object")
        if value.get("$type") != collection:
            raise BadRecord(f"Invalid $type: expected {collection}, got {str(value.get('$type'))[:320]}")
        if validate is False:
            return None
        definition = self.get(collection)
        if definition is None or definition.kind != "record":
            if validate:
                raise BadRecord(f"Unknown lexicon type: {collection}")
            return "unknown"
        definition.check_record_key(rkey)
        try:
            definition.check_record(value)
        except BadRecord as problem:
            raise BadRecord(f"Invalid {collection} record: {problem.message}") from None
        return "valid"


def _kind_of(definition: kinds.Definition) -> str:
    match definition:
        case kinds.Method(kind):
            return kind
        case kinds.Record():
            return "record"
        case kinds.PermissionSet():
            return "permission-set"
    return "object"


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """The one catalog of the bundled lexicons."""
    return Catalog()


def check_record(collection: str, rkey: str | None, value: Any, validate: bool | None) -> ValidationStatus | None:
    """Catalog.check_record of the bundled lexicons."""
    return catalog().check_record(collection, rkey, value, validate)
