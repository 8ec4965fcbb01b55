"""Values against definitions: containers, references, unions, and the path an error names."""

import copy
from typing import Any

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.lexicon import Catalog
from pds_lite.errors import BadRecord

RAW = Cid.of_raw(b"picture")
RAW_LINK = {"$link": str(RAW)}
THING = "com.example.thing"


def document(**defs: object) -> dict[str, object]:
    return {"lexicon": 1, "id": THING, "defs": defs}


def record(required: tuple[str, ...] = (), nullable: tuple[str, ...] = (), **properties: object) -> dict[str, object]:
    body = {"type": "object", "required": list(required), "nullable": list(nullable), "properties": properties}
    return {"type": "record", "key": "any", "record": body}


def procedure(**properties: object) -> dict[str, object]:
    schema = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "procedure", "input": {"encoding": "application/json", "schema": schema}}


def refusal(known: Catalog, value: object) -> str | None:
    """Why the record is refused; None if it is not."""
    definition = known.get(THING)
    assert definition is not None
    try:
        definition.check_record(value)
    except BadRecord as problem:
        return problem.message
    return None


def thing(**fields: object) -> dict[str, object]:
    return {"$type": THING, **fields}


def test_a_record_says_its_type_and_has_what_is_required() -> None:
    known = Catalog([document(main=record(("a",), a={"type": "integer"}))])
    assert refusal(known, thing(a=1)) is None
    assert refusal(known, {"a": 1}) == 'Record must have the property "$type"'
    assert refusal(known, {"$type": f"{THING}#main", "a": 1}) == f"Record/$type must be {THING}"
    assert refusal(known, {"$type": "com.example.other", "a": 1}) == f"Record/$type must be {THING}"
    assert refusal(known, thing()) == 'Record must have the property "a"'
    assert refusal(known, thing(a=None)) == "Record/a must be an integer"
    assert refusal(known, []) == "Record must be an object"


def test_properties_nobody_defined_are_kept_out_of_it() -> None:
    known = Catalog([document(main=record(a={"type": "integer"}))])
    assert refusal(known, thing(b="anything", c=None, d=[{"$type": "x"}])) is None


def test_null_passes_only_where_it_is_allowed() -> None:
    field = {"type": "string"}
    known = Catalog([document(main=record(("a",), ("a",), a=field, b=field))])
    assert refusal(known, thing(a=None)) is None
    assert refusal(known, thing(a="x", b=None)) == "Record/b must be a string"
    assert refusal(known, thing(b="x")) == 'Record must have the property "a"'


def test_a_required_default_does_not_excuse_a_record_but_does_a_body() -> None:
    field = {"type": "integer", "default": 1}
    known = Catalog([document(main=record(("a",), a=field))])
    assert refusal(known, thing()) == 'Record must have the property "a"'
    method = Catalog([document(main=procedure(a=field))]).get(THING)
    assert method is not None
    assert method.check_input({}) == {}


def test_the_path_leads_through_objects_arrays_and_unions() -> None:
    known = Catalog(
        [
            document(
                main=record(list={"type": "array", "items": {"type": "union", "refs": ["#part"]}}),
                part={"type": "object", "properties": {"names": {"type": "array", "items": {"type": "string"}}}},
            )
        ]
    )
    part = {"$type": f"{THING}#part", "names": ["x", 1]}
    assert refusal(known, thing(list=[{"$type": "x.y.z"}, part])) == "Record/list/1/names/1 must be a string"
    assert refusal(known, thing(list={})) == "Record/list must be an array"


def test_array_lengths_hold_at_their_edges() -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "minLength": 1, "maxLength": 2}
    known = Catalog([document(main=record(a=numbers))])
    assert refusal(known, thing(a=[])) == "Record/a must not have fewer than 1 elements"
    assert refusal(known, thing(a=[1])) is None
    assert refusal(known, thing(a=[1, 2])) is None
    assert refusal(known, thing(a=[1, 2, 3])) == "Record/a must not have more than 2 elements"


def union(closed: bool) -> Catalog:
    number = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    refs = ["#number", "com.example.other"]
    main = record(a={"type": "union", "refs": refs, "closed": closed})
    other = {"lexicon": 1, "id": "com.example.other", "defs": {"main": number}}
    return Catalog([document(main=main, number=number), other])


@pytest.mark.parametrize("closed", [False, True])
def test_a_known_member_is_checked_in_any_union(closed: bool) -> None:
    known = union(closed)
    for name in (f"{THING}#number", "com.example.other", "com.example.other#main"):
        assert refusal(known, thing(a={"$type": name, "n": 1})) is None
        assert refusal(known, thing(a={"$type": name, "n": "x"})) == "Record/a/n must be an integer"
    for value in (1, "x", [], {}, {"n": 1}, {"$type": 1, "n": 1}, {"$type": None}):
        message = 'Record/a must be an object which includes the "$type" property'
        assert refusal(known, thing(a=value)) == message


def test_a_stranger_passes_an_open_union_only() -> None:
    stranger = thing(a={"$type": "com.example.new", "n": "x"})
    assert refusal(union(closed=False), stranger) is None
    message = f"Record/a $type must be one of {THING}#number, com.example.other"
    assert refusal(union(closed=True), stranger) == message


def test_a_plain_ref_needs_no_type_but_must_not_lie() -> None:
    number = {"type": "object", "properties": {"n": {"type": "integer"}}}
    known = Catalog([document(main=record(a={"type": "ref", "ref": "#number"}), number=number)])
    assert refusal(known, thing(a={"n": 1})) is None
    assert refusal(known, thing(a={"$type": f"{THING}#number", "n": 1})) is None
    assert refusal(known, thing(a={"$type": "com.example.other"})) == f"Record/a/$type must be {THING}#number"


def test_refs_reach_every_kind_of_definition() -> None:
    defs = {
        "main": record(**{name: {"type": "ref", "ref": f"#{name}"} for name in ("word", "list", "red", "pic", "flag")}),
        "word": {"type": "string", "maxLength": 3},
        "list": {"type": "array", "items": {"type": "ref", "ref": "#word"}},
        "red": {"type": "token"},
        "pic": {"type": "blob", "maxSize": 5},
        "flag": {"type": "boolean"},
    }
    known = Catalog([document(**defs)])
    pic = {"$type": "blob", "ref": RAW, "mimeType": "a/b", "size": 5}
    assert refusal(known, thing(word="abc", list=["a"], red=f"{THING}#red", pic=pic, flag=True)) is None
    assert refusal(known, thing(list=["a", "abcd"])) == "Record/list/1 must not be longer than 3 characters"
    assert refusal(known, thing(red=f"{THING}#blue")) == f"Record/red must be {THING}#red"
    assert refusal(known, thing(red=1)) == f"Record/red must be {THING}#red"
    assert refusal(known, thing(pic={**pic, "size": 6})) == "Record/pic must be a blob of at most 5 bytes"


def tree() -> Catalog:
    node = {
        "type": "object",
        "required": ["n"],
        "properties": {
            "n": {"type": "integer"},
            "left": {"type": "ref", "ref": "#node"},
            "all": {"type": "array", "items": {"type": "union", "refs": ["#node", "#main"]}},
        },
    }
    return Catalog([document(main=record(top={"type": "ref", "ref": "#node"}), node=node)])


def test_a_definition_may_contain_itself() -> None:
    known = tree()
    assert refusal(known, thing(top={"n": 1, "left": {"n": 2, "left": {"n": 3}}})) is None
    deep = {"n": 1, "left": {"n": 2, "all": [{"$type": f"{THING}#node", "n": "x"}]}}
    assert refusal(known, thing(top=deep)) == "Record/top/left/all/0/n must be an integer"
    inner = {"n": 1, "all": [thing(top={"n": None})]}
    assert refusal(known, thing(top=inner)) == "Record/top/all/0/top/n must be an integer"


def test_endless_nesting_is_an_error_not_a_crash() -> None:
    value: dict[str, Any] = {"n": 1}
    for _ in range(50_000):
        value = {"n": 1, "left": value}
    assert refusal(tree(), thing(top=value)) == "Record is nested too deeply"


def test_a_ref_to_nothing_is_said_when_it_is_needed() -> None:
    known = Catalog([document(main=record(a={"type": "ref", "ref": "com.example.gone#x"}))])
    assert refusal(known, thing()) == "Lexicon com.example.gone#x is not known"
    known = Catalog([document(main=record(a={"type": "ref", "ref": "com.atproto.repo.getRecord"}))])
    assert refusal(known, thing()) == "Lexicon com.atproto.repo.getRecord#main does not describe data"


def test_a_body_is_json_whose_unknown_parts_stay_as_they_came() -> None:
    method = Catalog(
        [
            document(
                main=procedure(
                    record={"type": "unknown"},
                    link={"type": "cid-link"},
                    data={"type": "bytes", "maxLength": 3},
                    pic={"type": "blob", "accept": ["image/*"]},
                )
            )
        ]
    ).get(THING)
    assert method is not None
    pic = {"$type": "blob", "ref": RAW_LINK, "mimeType": "image/png", "size": 3}
    body = {
        "record": {"pic": pic, "broken": {"$link": 1}, "n": 1.5},
        "link": RAW_LINK,
        "data": {"$bytes": "AAAA"},
        "pic": pic,
    }
    before = copy.deepcopy(body)
    assert method.check_input(body) is body
    assert body == before
    for changes, message in (
        ({"record": []}, "Input/record must be an object"),
        ({"link": {"$link": "x"}}, "Input/link is not valid data: "),
        ({"link": {"n": 1}}, "Input/link must be a CID"),
        ({"link": RAW}, "Input/link "),
        ({"data": {"$bytes": "AAAAAA"}}, "Input/data must not be larger than 3 bytes"),
        ({"data": {"$bytes": "*"}}, "Input/data is not valid data: "),
        ({"pic": {**pic, "mimeType": "text/html"}}, "Input/pic must be a blob of type image/*"),
        ({"pic": "x"}, "Input/pic should be a blob ref"),
    ):
        with pytest.raises(BadRecord) as caught:
            method.check_input({**body, **changes})
        assert caught.value.message.startswith(message)
    assert body == before


def test_a_body_without_schema_is_anything() -> None:
    method = Catalog([document(main={"type": "procedure", "input": {"encoding": "*/*"}})]).get(THING)
    assert method is not None
    assert method.check_input([1]) == [1]
