"""Lexicon documents: what the specification allows is read, everything else is refused with its place."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.lexicon.definitions import Array, Method, Object, PermissionSet, Record, Ref, Token, Union
from pds_lite.atproto.lexicon.schema import parse_definition, parse_document
from pds_lite.errors import BadRecord


def document(**defs: object) -> dict[str, object]:
    return {"lexicon": 1, "id": "com.example.thing", "defs": defs}


def record(**properties: object) -> dict[str, object]:
    return {"type": "record", "key": "tid", "record": {"type": "object", "properties": properties}}


def test_every_valid_interop_document_is_read(vectors: Path) -> None:
    cases = json.loads((vectors / "lexicon" / "lexicon-valid.json").read_text())
    assert cases
    for case in cases:
        assert parse_document(case["lexicon"]).defs, case["name"]


def test_every_interop_catalog_document_is_read(vectors: Path) -> None:
    paths = sorted((vectors / "lexicon" / "catalog").glob("*.json"))
    assert paths
    for path in paths:
        assert parse_document(json.loads(path.read_text())).defs, path.name


def test_every_invalid_interop_document_is_refused(vectors: Path) -> None:
    cases = json.loads((vectors / "lexicon" / "lexicon-invalid.json").read_text())
    assert cases
    accepted = []
    for case in cases:
        try:
            parse_document(case["lexicon"])
        except BadRecord:
            continue
        accepted.append(case["name"])
    assert accepted == []


def test_references_become_absolute_and_name_their_fragment() -> None:
    raw = record(
        here={"type": "ref", "ref": "#part"},
        there={"type": "ref", "ref": "com.example.other"},
        far={"type": "union", "refs": ["com.example.other#part", "#main"]},
    )
    main = parse_document(document(main=raw)).defs["main"]
    assert isinstance(main, Record)
    properties = main.record.properties
    assert properties["here"] == Ref("com.example.thing#part")
    assert properties["there"] == Ref("com.example.other#main")
    assert properties["far"] == Union(("com.example.other#part", "com.example.thing#main"), closed=False)


def test_a_token_is_named_as_values_name_it() -> None:
    assert parse_definition("com.example.thing", "red", {"type": "token"}) == Token("com.example.thing#red")
    assert parse_definition("com.example.thing", "main", {"type": "token"}) == Token("com.example.thing")


def test_a_method_keeps_parameters_bodies_and_errors() -> None:
    method = parse_definition(
        "com.example.do",
        "main",
        {
            "type": "procedure",
            "parameters": {"type": "params", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "input": {"encoding": "*/*"},
            "output": {"encoding": "application/json", "schema": {"type": "object", "properties": {}}},
            "errors": [{"name": "TooBad", "description": "x"}],
        },
    )
    assert isinstance(method, Method)
    assert method.parameters is not None
    assert method.parameters.required == ("n",)
    assert method.input is not None
    assert (method.input.encoding, method.input.schema) == ("*/*", None)
    assert method.output is not None
    assert method.output.schema == Object({}, (), frozenset())
    assert method.errors == ("TooBad",)


def test_a_permission_set_keeps_its_entries(vectors: Path) -> None:
    raw = json.loads((vectors / "lexicon" / "catalog" / "permission-set.json").read_text())
    main = parse_document(raw).defs["main"]
    assert isinstance(main, PermissionSet)
    assert main.title == "Example for Moderation"
    assert [permission.resource for permission in main.permissions] == ["repo"] * 3 + ["rpc"] * 3
    assert main.permissions[3].fields == {"lxm": ["com.example.calendar.listEvents"], "aud": "*"}


def test_fields_nobody_knows_are_ignored() -> None:
    field = {"type": "array", "items": {"type": "boolean", "colour": 1}, "description": "x", "sorted": True}
    assert isinstance(parse_definition("com.example.thing", "list", field), Array)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"lexicon": True, "id": "com.example.thing", "defs": {}},
        {"lexicon": 1.0, "id": "com.example.thing", "defs": {}},
        {"lexicon": 1, "id": "com.example.thing"},
        {"lexicon": 1, "id": "com.example.thing", "defs": []},
        document(main=None),
        document(main={}),
        document(main={"type": 1}),
        document(main={"type": "space"}),
        document(**{"": {"type": "token"}}),
        document(main={"type": "object"}),
        document(main={"type": "object", "properties": {"a": {"type": "query"}}}),
        document(main={"type": "object", "properties": {"a": {"type": "token"}}}),
        document(main={"type": "object", "properties": {}, "required": ["a"]}),
        document(main={"type": "object", "properties": {}, "required": "a"}),
        document(main={"type": "string", "maxLength": -1}),
        document(main={"type": "string", "maxLength": "3"}),
        document(main={"type": "string", "maxLength": True}),
        document(main={"type": "string", "maxLength": None}),
        document(main={"type": "string", "format": "email"}),
        document(main={"type": "string", "enum": ["a", 1]}),
        document(main={"type": "integer", "enum": [True]}),
        document(main={"type": "integer", "default": 1.5}),
        document(main={"type": "array"}),
        document(main={"type": "blob", "accept": "image/*"}),
        document(main=record(a={"type": "ref"})),
        document(main=record(a={"type": "ref", "ref": "#"})),
        document(main=record(a={"type": "ref", "ref": ""})),
        document(main=record(a={"type": "ref", "ref": "com.example.thing#"})),
        document(main=record(a={"type": "ref", "ref": "not an nsid"})),
        document(main=record(a={"type": "union"})),
        document(main=record() | {"key": "literal:"}),
        document(main=record() | {"key": "uuid"}),
        document(main={"type": "record", "record": {"type": "object", "properties": {}}}),
        document(main={"type": "record", "key": "any", "record": {"type": "string"}}),
        document(main={"type": "query", "parameters": {"type": "object", "properties": {}}}),
        document(main={"type": "query", "parameters": {"type": "params", "properties": {"a": {"type": "bytes"}}}}),
        document(main={"type": "query", "output": {}}),
        document(main={"type": "query", "output": {"encoding": "a/b, c/d"}}),
        document(main={"type": "query", "output": {"encoding": "a/b", "schema": {"type": "string"}}}),
        document(main={"type": "query", "errors": [{}]}),
        document(main={"type": "query", "errors": {}}),
        document(main={"type": "subscription"}),
        document(main={"type": "subscription", "message": {"schema": {"type": "object", "properties": {}}}}),
        document(main={"type": "permission-set"}),
        document(main={"type": "permission-set", "permissions": [{"type": "permission"}]}),
        document(main={"type": "permission-set", "permissions": [{"type": "permission", "resource": "a", "b": {}}]}),
    ],
)
def test_a_broken_document_is_refused(raw: object) -> None:
    with pytest.raises(BadRecord):
        parse_document(raw)


def test_nesting_is_bounded() -> None:
    field: dict[str, object] = {"type": "boolean"}
    for _ in range(3000):
        field = {"type": "array", "items": field}
    with pytest.raises(BadRecord, match="nested too deeply"):
        parse_document(document(main=field))


def test_the_error_names_document_and_place() -> None:
    with pytest.raises(BadRecord, match=r"com\.example\.thing: main/record/properties/a/items format"):
        parse_document(document(main=record(a={"type": "array", "items": {"type": "string", "format": 1}})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
PLACES = [
    ("main",), ("main", "key"), ("main", "record"), ("main", "record", "type"), ("main", "record", "properties"),
    ("main", "record", "properties", "a"), ("main", "record", "properties", "a", "refs"),
    ("main", "record", "properties", "b", "items"), ("main", "record", "properties", "b", "maxLength"),
    ("main", "record", "required"), ("main", "record", "nullable"),
]  # fmt: skip


@given(place=st.sampled_from(PLACES), junk=JSON)
def test_a_document_with_anything_anywhere_is_read_or_refused(place: tuple[str, ...], junk: object) -> None:
    fields = {"a": {"type": "union", "refs": ["#main"]}, "b": {"type": "array", "items": {"type": "unknown"}}}
    raw = copy.deepcopy(document(main=record(**fields)))
    node: dict[str, object] = raw["defs"]  # type: ignore[assignment]
    for step in place[:-1]:
        node = node[step]  # type: ignore[assignment]
    node[place[-1]] = junk
    try:
        message = f"read {parse_document(raw).id}"
    except BadRecord as refusal:
        message = refusal.message
    assert "com.example.thing" in message
