"""Query strings: typed by the lexicon, defaults filled in, errors naming the parameter."""

import pytest

from pds_lite.atproto.lexicon import catalog
from pds_lite.atproto.lexicon.definitions import Params
from pds_lite.atproto.lexicon.params import compile_params
from pds_lite.atproto.lexicon.schema import parse_definition
from pds_lite.errors import BadRecord

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def params(**properties: object) -> Params:
    raw = {"type": "query", "parameters": {"type": "params", "properties": properties, "required": ["name"]}}
    method = parse_definition("com.example.get", "main", raw)
    found = getattr(method, "parameters", None)
    assert isinstance(found, Params)
    return found


PARSE = compile_params(
    params(
        name={"type": "string", "maxLength": 8},
        flag={"type": "boolean", "default": False},
        count={"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
        numbers={"type": "array", "items": {"type": "integer"}, "maxLength": 3},
        dids={"type": "array", "items": {"type": "string", "format": "did"}},
        flags={"type": "array", "items": {"type": "boolean"}},
        anything={"type": "unknown"},
    )
)


def test_values_are_typed_and_defaults_filled_in() -> None:
    assert PARSE([("name", "x"), ("flag", "true"), ("count", "7"), ("anything", "z")]) == {
        "name": "x", "flag": True, "count": 7, "anything": "z",
    }  # fmt: skip
    assert PARSE([("name", "x")]) == {"name": "x", "flag": False, "count": 50}


def test_repeated_names_are_arrays_also_when_given_once() -> None:
    assert PARSE([("name", "x"), ("numbers", "2"), ("numbers", "-1")])["numbers"] == [2, -1]
    assert PARSE([("name", "x"), ("dids", DID)])["dids"] == [DID]
    assert PARSE([("name", "x"), ("flags", "true"), ("flags", "false")])["flags"] == [True, False]


def test_unknown_names_and_empty_values_are_ignored() -> None:
    assert PARSE([("name", "x"), ("count", ""), ("other", "1"), ("dids", ""), ("flag[]", "true")]) == {
        "name": "x", "flag": False, "count": 50,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], 'Params must have the property "name"'),
        ([("name", "")], 'Params must have the property "name"'),
        ([("name", "far too long")], "name must not be longer than 8 characters"),
        ([("name", "x"), ("name", "y")], "name must be given once"),
        ([("name", "x"), ("count", "0")], "count can not be less than 1"),
        ([("name", "x"), ("count", "101")], "count can not be greater than 100"),
        ([("name", "x"), ("count", "1.0")], "count must be an integer"),
        ([("name", "x"), ("count", "+1")], "count must be an integer"),
        ([("name", "x"), ("count", "1\n")], "count must be an integer"),
        ([("name", "x"), ("count", "٣")], "count must be an integer"),
        ([("name", "x"), ("count", "9" * 5000)], "count must be an integer"),
        ([("name", "x"), ("flag", "1")], "flag must be a boolean"),
        ([("name", "x"), ("flag", "True")], "flag must be a boolean"),
        ([("name", "x"), ("dids", DID), ("dids", "me")], "dids/1 must be a valid did"),
        ([("name", "x")] + [("numbers", "1")] * 4, "numbers must not have more than 3 elements"),
        ([("name", "x"), ("numbers", "9007199254740992")], "numbers/0 can not be greater than 9007199254740991"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(BadRecord) as caught:
        PARSE(pairs)
    assert caught.value.message == message
    assert (caught.value.error, caught.value.status) == ("InvalidRequest", 400)


def test_a_method_without_parameters_takes_any_query_string() -> None:
    assert compile_params(None)([("x", "1")]) == {}


def test_list_records_as_its_lexicon_says() -> None:
    listing = catalog().get("com.atproto.repo.listRecords")
    assert listing is not None
    assert listing.parse_params([("repo", DID), ("collection", "app.bsky.feed.post"), ("reverse", "true")]) == {
        "repo": DID, "collection": "app.bsky.feed.post", "limit": 50, "reverse": True,
    }  # fmt: skip
    with pytest.raises(BadRecord, match="repo must be a valid did or a handle"):
        listing.parse_params([("repo", "nobody"), ("collection", "app.bsky.feed.post")])
