"""The data model in JSON: the interop vectors, round trips, and every refusal."""

import json
import os
import random
import subprocess
from base64 import b64encode
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite import ujson
from pds_lite.atproto import dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import (
    MAX_CONTAINER,
    MAX_JSON_DEPTH,
    MAX_JSON_INT,
    MAX_KEY,
    BlobRef,
    blob_cids,
    find_blob_refs,
    from_json,
    has_legacy_blob,
    json_default,
    record_from_json,
    to_json,
)
from pds_lite.errors import BadData
from tests.atproto.values import cids, texts

RAW = Cid.of_raw(b"x")
CBOR = Cid.of_cbor(b"x")
BLOB = {"$type": "blob", "ref": {"$link": str(RAW)}, "mimeType": "image/jpeg", "size": 10}
LEGACY = {"cid": str(RAW), "mimeType": "image/jpeg"}

keys = texts.filter(lambda key: not key.startswith("$"))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-MAX_JSON_INT, MAX_JSON_INT), texts, st.binary(max_size=40), cids),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=25,
)


def vector(vectors: Path, name: str) -> list[Any]:
    cases: list[Any] = json.loads((vectors / "data-model" / f"data-model-{name}.json").read_text())
    assert cases
    return cases


def test_valid_interop_vectors_pass(vectors: Path) -> None:
    for case in vector(vectors, "valid"):
        assert type(record_from_json(case["json"])) is dict, case["note"]


def test_invalid_interop_vectors_are_refused(vectors: Path) -> None:
    for case in vector(vectors, "invalid"):
        with pytest.raises(BadData):
            pytest.fail(f"{case['note']}: {record_from_json(case['json'])}")


def test_interop_fixtures_come_back_as_they_were(vectors: Path) -> None:
    for case in vector(vectors, "fixtures"):
        assert to_json(from_json(deepcopy(case["json"]))) == case["json"]


@given(json_values)
def test_a_value_survives_json(value: Any) -> None:
    assert from_json(to_json(value)) == value
    assert from_json(ujson.loads(ujson.dumpb(value, json_default))) == value


@given(json_values)
def test_dumping_without_a_walk_gives_the_same_text(value: Any) -> None:
    stored = dag_cbor.decode_own(dag_cbor.encode(value))
    assert ujson.loads(ujson.dumpb(stored, json_default)) == to_json(value) == json.loads(json.dumps(to_json(value)))


@given(json_values)
def test_what_json_brings_in_can_be_encoded(value: Any) -> None:
    assert dag_cbor.decode(dag_cbor.encode(from_json(to_json(value)))) == value


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("123.0", 123),
        ("1e3", 1000),
        ("-0.0", 0),
        ("9007199254740991", 2**53 - 1),
        ("-9007199254740991.0", -(2**53) + 1),
    ],
)
def test_integral_numbers_are_integers(number: str, expected: int) -> None:
    value = from_json(ujson.loads(f'{{"a": [{number}]}}'))
    assert value == {"a": [expected]}
    assert type(value["a"][0]) is int


@pytest.mark.parametrize(
    "number",
    [
        "0.5",
        "1e-3",
        "9007199254740992",
        "-9007199254740992",
        "9007199254740992.0",
        "18446744073709551616",
        "1e300",
        "1e22",
    ],
)
def test_fractions_and_inexact_integers_are_refused(number: str) -> None:
    for text in (number, f"[{number}]", f'{{"a": {number}}}'):
        with pytest.raises(BadData):
            from_json(ujson.loads(text))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(BadData):
        from_json([number])


@pytest.mark.parametrize("value", [b"x", CBOR, (1,), {1}, object()], ids=repr)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(BadData):
        from_json({"a": value})


BAD_MAPS = {
    "link with number": {"$link": 1},
    "link with null": {"$link": None},
    "link with map": {"$link": {}},
    "link with link": {"$link": {"$link": str(CBOR)}},
    "link empty": {"$link": ""},
    "link bogus": {"$link": "."},
    "link version 0": {"$link": "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"},
    "link upper case": {"$link": str(CBOR).upper()},
    "link with more": {"$link": str(CBOR), "a": 1},
    "link and bytes": {"$link": str(CBOR), "$bytes": ""},
    "link and type": {"$link": str(CBOR), "$type": "com.example.a"},
    "bytes with number": {"$bytes": 1},
    "bytes with list": {"$bytes": [1, 2]},
    "bytes with more": {"$bytes": "AAAA", "a": 1},
    "bytes of the URL alphabet": {"$bytes": "-_-_"},
    "bytes with a space": {"$bytes": "AA AA"},
    "bytes with a line break": {"$bytes": "AAAA\n"},
    "bytes cut": {"$bytes": "A"},
    "bytes with too much padding": {"$bytes": "AAA=="},
    "bytes with padding and none due": {"$bytes": "AAAA="},
    "bytes with a block of padding": {"$bytes": "AAAA===="},
    "bytes with inner padding": {"$bytes": "AA==AAAA"},
    "bytes beyond ASCII": {"$bytes": "AAA\xe9"},
    "type null": {"$type": None},
    "type number": {"$type": 1},
    "type empty": {"$type": ""},
    "blob without ref": {key: BLOB[key] for key in BLOB if key != "ref"},
    "blob without size": {key: BLOB[key] for key in BLOB if key != "size"},
    "blob without mimeType": {key: BLOB[key] for key in BLOB if key != "mimeType"},
    "blob with more": {**BLOB, "a": 1},
    "blob with text ref": {**BLOB, "ref": str(RAW)},
    "blob with a record's CID": {**BLOB, "ref": {"$link": str(CBOR)}},
    "blob with empty mimeType": {**BLOB, "mimeType": ""},
    "blob with number mimeType": {**BLOB, "mimeType": 1},
    "blob with text size": {**BLOB, "size": "10"},
    "blob with true size": {**BLOB, "size": True},
    "blob with size 0": {**BLOB, "size": 0},
    "blob with negative size": {**BLOB, "size": -1},
    "blob with broken size": {**BLOB, "size": 1.5},
}


@pytest.mark.parametrize("content", BAD_MAPS.values(), ids=BAD_MAPS)
def test_malformed_links_bytes_and_blobs_are_refused_wherever_they_stand(content: Any) -> None:
    for outer in (content, {"a": content}, [content], {"a": [{"b": content}]}):
        with pytest.raises(BadData):
            from_json(deepcopy(outer))


STRICTER_HERE = {"blob with size 0", "bytes of the URL alphabet", "link version 0"}
"""What npm takes and the specification refuses."""


@pytest.mark.interop
def test_npm_refuses_the_same_maps(reference_node: tuple[str, Path]) -> None:
    verdicts = ask_codec(reference_node, [json.dumps({"a": content}) for content in BAD_MAPS.values()])
    accepted = {name for name, verdict in zip(BAD_MAPS, verdicts, strict=True) if "error" not in verdict}
    assert accepted == STRICTER_HERE


@pytest.mark.interop
def test_npm_makes_the_same_blocks_of_the_same_json(reference_node: tuple[str, Path]) -> None:
    texts = [json.dumps(random_json(random.Random(seed), 4)) for seed in range(300)]
    verdicts = ask_codec(reference_node, texts)
    outcomes = set()
    for text, verdict in zip(texts, verdicts, strict=True):
        try:
            value = from_json(ujson.loads(text))
        except BadData:
            outcomes.add("refused")
            assert "error" in verdict, text
            continue
        outcomes.add("accepted")
        assert dag_cbor.encode(value).hex() == verdict["cbor"], text
        assert json.loads(verdict["json"]) == to_json(value)
    assert outcomes == {"accepted", "refused"}


def random_json(dice: random.Random, depth: int) -> Any:
    """Mostly fit JSON with links, bytes, blobs and odd numbers, now and then something that does not fit."""
    kind = dice.randrange(12) if depth else dice.randrange(9)
    if kind >= 10:
        return {dice.choice(["a", "bb", "é", "", "ccc", "$x", "B"]): random_json(dice, depth - 1) for _ in range(5)}
    if kind == 9:
        return [random_json(dice, depth - 1) for _ in range(3)]
    cid = (Cid.of_raw if dice.randrange(2) else Cid.of_cbor)(dice.randbytes(4))
    return [
        None,
        dice.choice([True, False]),
        dice.choice([0, -1, 24, 255, 256, 65536, 2**32, MAX_JSON_INT, -MAX_JSON_INT]),
        dice.choice([1.0, 1e3, 3e9]),
        dice.choice(["", "a", "é😀", "long" * 20]),
        {"$link": str(cid)},
        {"$bytes": b64encode(dice.randbytes(dice.randrange(7))).decode()},
        {"$type": "blob", "ref": {"$link": str(Cid.of_raw(b"x"))}, "mimeType": "image/png", "size": 7},
        dice.choice([0, 0, 0, 0, 0, 0, 0, 0, 0.5, MAX_JSON_INT + 1, {"$link": "x"}]),
    ][kind]


def ask_codec(reference_node: tuple[str, Path], texts: list[str]) -> list[dict[str, str]]:
    node, ref_dir = reference_node
    oracle = Path(__file__).resolve().parents[1] / "interop" / "codec_oracle.mjs"
    answer = subprocess.run(
        [node, str(oracle)],
        input=json.dumps(texts),
        env={**os.environ, "REF_DIR": str(ref_dir)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    verdicts: list[dict[str, str]] = json.loads(answer.stdout)
    return verdicts


def test_unknown_dollar_keys_are_kept() -> None:
    value = {"$type": "com.example.a", "$other": 1, "$": None}
    assert from_json(deepcopy(value)) == value


@given(st.binary(max_size=60))
def test_bytes_are_read_with_and_without_padding_and_written_without(data: bytes) -> None:
    padded = b64encode(data).decode()
    assert from_json({"$bytes": padded}) == from_json({"$bytes": padded.rstrip("=")}) == data
    assert json_default(data) == {"$bytes": padded.rstrip("=")}


def test_a_blob_with_an_integral_size_passes() -> None:
    assert from_json({**deepcopy(BLOB), "size": 10.0}) == {**BLOB, "ref": RAW, "size": 10}


def test_json_default_refuses_the_rest() -> None:
    with pytest.raises(BadData):
        ujson.dumpb({"a": {1, 2}}, json_default)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
def test_depth_is_limited_at_the_limit_exactly(wrap: Any) -> None:
    value: Any = 0
    for _ in range(MAX_JSON_DEPTH):
        value = wrap(value)
    assert from_json(deepcopy(value)) == value
    with pytest.raises(BadData, match="deep"):
        from_json(wrap(value))
    with pytest.raises(BadData, match="deep"):
        from_json(wrap(wrap({"$link": str(CBOR)})), max_depth=2)


def test_containers_are_limited_at_the_limit_exactly() -> None:
    most = [None] * MAX_CONTAINER
    assert from_json(most) == most
    with pytest.raises(BadData, match="entries"):
        from_json([*most, None])
    many = {str(number): None for number in range(MAX_CONTAINER)}
    assert from_json(many) == many
    with pytest.raises(BadData, match="entries"):
        from_json({**many, "a": None})


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"])
def test_keys_are_limited_in_bytes(letter: str) -> None:
    longest = letter * (MAX_KEY // len(letter.encode()))
    assert from_json({longest: 1}) == {longest: 1}
    with pytest.raises(BadData, match="key"):
        from_json({longest + letter: 1})


def test_a_record_is_a_map() -> None:
    for value in ("blah", None, [], 1, {"$link": str(CBOR)}, {"$bytes": ""}):
        with pytest.raises(BadData, match="object"):
            record_from_json(value)


def test_blob_references_are_found_in_document_order_with_repeats() -> None:
    def blob(name: bytes) -> dict[str, Any]:
        return {
            "$type": "blob",
            "ref": {"$link": str(Cid.of_raw(name))},
            "mimeType": f"image/{name.decode()}",
            "size": 1,
        }

    value = from_json(
        {"z": blob(b"a"), "a": [[blob(b"b")], {"x": {"y": blob(b"c")}}, blob(b"a")], "m": {"mimeType": 1}}
    )
    assert find_blob_refs(value) == [
        BlobRef(Cid.of_raw(name), f"image/{name.decode()}", 1) for name in (b"a", b"b", b"c", b"a")
    ]
    assert find_blob_refs(from_json([blob(b"a")])) == find_blob_refs(from_json(blob(b"a")))
    assert find_blob_refs("text") == [] == find_blob_refs(None)


@pytest.mark.parametrize(
    "almost",
    [
        {"$type": "blob", "ref": "x", "mimeType": "a/b", "size": 1},
        {"$type": "blob", "mimeType": "a/b", "size": 1},
        {"$type": "blob", "ref": RAW, "mimeType": 1, "size": 1},
        {"$type": "blob", "ref": RAW, "mimeType": "a/b"},
        {"$type": "blob", "ref": RAW, "mimeType": "a/b", "size": True},
        {"$type": "image", "ref": RAW, "mimeType": "a/b", "size": 1},
        LEGACY,
    ],
)
def test_what_an_imported_record_only_calls_a_blob_is_not_one(almost: Any) -> None:
    assert find_blob_refs({"a": [almost]}) == []


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": [[v]]}}])
def test_legacy_blobs_are_known_by_a_cid_that_parses(wrap: Any) -> None:
    assert has_legacy_blob(wrap(LEGACY))
    for other in (
        {**LEGACY, "cid": "mine"},
        {**LEGACY, "cid": 1},
        {**LEGACY, "cid": RAW},
        {**LEGACY, "mimeType": 1},
        {**LEGACY, "more": 1},
        {"cid": str(RAW)},
        {"mimeType": "a/b"},
        {"mimeType": "a/b", "uri": "x"},
        {**BLOB, "ref": RAW},
    ):
        assert not has_legacy_blob(wrap(other))


def test_blob_cids_are_those_of_both_forms_once_each() -> None:
    new, old = Cid.of_raw(b"new"), Cid.of_raw(b"old")
    value: Any = {
        "a": [{"$type": "blob", "ref": new, "mimeType": "image/png", "size": 3}] * 2,
        "b": {"cid": str(old), "mimeType": "image/png"},
        "c": {"cid": "no cid", "mimeType": "image/png"},
        "d": {"cid": str(Cid.of_raw(b"more")), "mimeType": "image/png", "more": 1},
        "ratio": 1.5,
    }
    assert blob_cids(value) == {new, old}
