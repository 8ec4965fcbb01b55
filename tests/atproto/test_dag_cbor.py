"""DAG-CBOR against the interop vectors, cbor2's canonical mode, libipld, and a slow decoder written from the rules."""

import datetime
import decimal
import json
import struct
import sys
import tracemalloc
from base64 import b64decode
from pathlib import Path
from typing import Any

import cbor2
import libipld
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pds_lite.atproto import dag_cbor, data
from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadData
from tests.atproto.values import Refused, slow_decode, slow_encode, values

LINK = Cid.of_cbor(b"x")


def test_interop_fixtures_have_the_published_bytes_and_cids(vectors: Path) -> None:
    fixtures = json.loads((vectors / "data-model" / "data-model-fixtures.json").read_text())
    assert fixtures
    for fixture in fixtures:
        value = data.from_json(fixture["json"])
        block = dag_cbor.encode(value)
        assert block == b64decode(fixture["cbor_base64"] + "==")
        assert str(Cid.of_cbor(block)) == fixture["cid"]
        assert dag_cbor.decode(block) == dag_cbor.decode_own(block) == value


def typed(value: Any) -> Any:
    """The value with its types spelled out: 1 is True and Cid is bytes to ==."""
    if isinstance(value, dict):
        return {key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    return type(value), value


@given(values)
def test_a_value_comes_back_by_every_decoder(value: Any) -> None:
    block = dag_cbor.encode(value)
    assert typed(dag_cbor.decode(block)) == typed(dag_cbor.decode_own(block)) == typed(value)
    assert dag_cbor.decode_prefix(b"\xff" + block + b"\xff", 1) == (value, 1 + len(block))


@given(values)
def test_bytes_are_those_of_independent_encoders(value: Any) -> None:
    block = dag_cbor.encode(value)
    assert block == slow_encode(value)
    assert block == cbor2.dumps(
        value, canonical=True, encoders={Cid: lambda encoder, cid: encoder.encode(cbor2.CBORTag(42, b"\0" + cid))}
    )
    # libipld has no type for links, so compare what it reads; it reads a block of ours as the same value.
    assert libipld.decode_dag_cbor(block) == value


@given(values)
def test_the_value_given_is_left_as_it_was(value: Any) -> None:
    before = repr(value)
    dag_cbor.encode(value)
    assert repr(value) == before


@example({"b": 0, "aa": 0, "a": 0, "": 0, "é": 0, "z\u0301": 0, "\ue000": 0, "\U00010000": 0})
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), st.none(), max_size=12))
def test_keys_sort_by_length_and_then_bytes(value: dict[str, None]) -> None:
    keys = list(dag_cbor.decode_own(dag_cbor.encode(value)))  # type: ignore[arg-type]
    assert keys == sorted(value, key=lambda key: (len(key.encode()), key.encode()))


class Subclass(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**63,
        -(2**63) - 1,
        (1, 2),
        {1, 2},
        frozenset(),
        bytearray(b"x"),
        memoryview(b"x"),
        Subclass(),
        decimal.Decimal(1),
        datetime.datetime(2026, 8, 20, tzinfo=datetime.UTC),
        cbor2.CBORTag(42, b"\0" + LINK),
        cbor2.CBORSimpleValue(1),
        cbor2.undefined,
        object(),
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {b"a": 1},
        {None: 1},
        {LINK: 1},
        {"a": 1, 2: 3},
    ],
    ids=repr,
)
def test_values_outside_the_data_model_are_refused_wherever_they_stand(value: Any) -> None:
    for outer in (value, [value], {"a": value}, [[{"a": [value]}]]):
        with pytest.raises(BadData):
            dag_cbor.encode(outer)


def float_bytes(number: float) -> bytes:
    return b"\xfb" + struct.pack(">d", number)


HOSTILE = {
    "nothing": b"",
    "key order wrong": b"\xa2\x61b\x00\x61a\x00",
    "key length order wrong": b"\xa2\x62aa\x00\x61b\x00",
    "non-minimal int": b"\x18\x05",
    "non-minimal negative": b"\x38\x05",
    "non-minimal length": b"\x58\x01a",
    "non-minimal text length": b"\x78\x01a",
    "non-minimal array": b"\x98\x01\x00",
    "non-minimal map": b"\xb8\x01\x61a\x00",
    "non-minimal tag": b"\xd9\x00\x2a\x58\x25\x00" + LINK,
    "duplicate key": b"\xa2\x61a\x00\x61a\x01",
    "indefinite array": b"\x9f\x00\xff",
    "indefinite map": b"\xbf\x61a\x00\xff",
    "indefinite bytes": b"\x5f\x41a\xff",
    "indefinite text": b"\x7f\x61a\xff",
    "break": b"\xff",
    "reserved head": b"\x1c",
    "float64": float_bytes(1.5),
    "float64 integral": float_bytes(1.0),
    "float64 nan": float_bytes(float("nan")),
    "float64 inf": float_bytes(float("inf")),
    "float32": b"\xfa" + struct.pack(">f", 1.5),
    "float16": b"\xf9\x3e\x00",
    "undefined": b"\xf7",
    "simple 0": b"\xe0",
    "simple 255": b"\xf8\xff",
    "two-byte false": b"\xf8\x14",
    "byte-string key": b"\xa1\x41a\x00",
    "int key": b"\xa1\x01\x00",
    "null key": b"\xa1\xf6\x00",
    "link as key": b"\xa1\xd8\x2a\x58\x25\x00" + LINK + b"\x00",
    "array as key": b"\xa1\x80\x00",
    "trailing": b"\x00\x00",
    "bad UTF-8": b"\x61\xff",
    "surrogate": b"\x63\xed\xa0\x80",
    "overlong UTF-8": b"\x62\xc0\x80",
    "unsigned over 63 bits": b"\x1b\x80" + bytes(7),
    "negative over 63 bits": b"\x3b\x80" + bytes(7),
    "link without its zero": b"\xd8\x2a\x58\x24" + LINK,
    "link with another prefix": b"\xd8\x2a\x58\x25\x01" + LINK,
    "link as text": b"\xd8\x2a\x61a",
    "link as array": b"\xd8\x2a\x81\x00",
    "link to nothing": b"\xd8\x2a\x41\x00",
    "version 0 link": b"\xd8\x2a\x58\x23\x00\x12\x20" + bytes(32),
    "link with a short hash": b"\xd8\x2a\x58\x24\x00" + LINK[:-1],
    "link with a long hash": b"\xd8\x2a\x58\x26\x00" + LINK + b"x",
    "array of 2^63": b"\x9b\x7f" + b"\xff" * 7,
    "array of 2^31": b"\x9a\x7f\xff\xff\xff",
    "map of 2^63": b"\xbb\x7f" + b"\xff" * 7,
    "map of 2^31": b"\xba\x7f\xff\xff\xff",
    "bytes of 2^63": b"\x5b\x7f" + b"\xff" * 7,
    "text of 2^64": b"\x7b" + b"\xff" * 8,
    "arrays in arrays": b"\x9a\x00\xff\xff\xff" * 1000,
    "depth 132": b"\x81" * 132 + b"\x00",
    "depth 1,000": b"\x81" * 1000 + b"\x00",
    "depth 1,000,000": b"\x81" * 1_000_000 + b"\x00",
    "map depth 1,000": b"\xa1\x61a" * 1000 + b"\x00",
    "tags in tags": b"\xd8\x2a" * 100_000 + b"\x00",
    "shared references": b"\xd8\x1c\x82\xd8\x1d\x00\x00",
    "string references": b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00",
    "self-described": b"\xd9\xd9\xf7\x00",
}


@pytest.mark.parametrize("block", HOSTILE.values(), ids=HOSTILE)
def test_what_drisl_forbids_is_refused(block: bytes) -> None:
    for outer in (block, b"\x81" + block, b"\xa1\x61a" + block):
        with pytest.raises(BadData):
            dag_cbor.decode(outer)


DAMAGE = ("nothing", "duplicate key", "indefinite array", "bad UTF-8", "link with another prefix", "link as text")
BOMBS = ("array of 2^63", "depth 1,000,000", "shared references", "self-described", "version 0 link")


@pytest.mark.parametrize("damage", [*DAMAGE, *BOMBS])
def test_damage_to_stored_bytes_is_an_error_too(damage: str) -> None:
    with pytest.raises(BadData):
        dag_cbor.decode_own(HOSTILE[damage])


@pytest.mark.parametrize("tag", [*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799, 65536, 2**63])
def test_no_tag_but_42_is_accepted_even_with_content_that_suits_it(tag: int) -> None:
    contents: list[Any] = [
        0,
        1.5,
        "a",
        "2013-03-21T20:04:00Z",
        b"a",
        b"\0" + LINK,
        [],
        [1, 2],
        ["a"],
        {},
        None,
        [b"a", 8],
    ]
    for content in contents:
        block = cbor2.dumps(cbor2.CBORTag(tag, content))
        if (tag, content) == (42, b"\0" + LINK):
            assert type(dag_cbor.decode(block)) is Cid
            continue
        with pytest.raises(BadData):
            dag_cbor.decode(block)
        with pytest.raises(BadData):
            dag_cbor.decode_own(block)


def nested(depth: int, inner: Any, wrap: Any) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
@pytest.mark.parametrize("inner", [0, LINK], ids=["int", "link"])
def test_depth_has_one_limit_for_encoding_and_decoding(wrap: Any, inner: Any) -> None:
    deepest = nested(dag_cbor.MAX_DEPTH, inner, wrap)
    block = dag_cbor.encode(deepest)
    assert block == slow_encode(deepest)
    assert dag_cbor.decode(block) == dag_cbor.decode_own(block) == deepest
    with pytest.raises(BadData, match="deep"):
        dag_cbor.encode(wrap(deepest))
    with pytest.raises(BadData):
        dag_cbor.decode(slow_encode(wrap(deepest)))


@given(st.lists(values, max_size=30))
def test_a_list_of_blocks_is_read_as_each_of_them(contents: list[Any]) -> None:
    assert typed(dag_cbor.decode_own_list([dag_cbor.encode(value) for value in contents])) == typed(contents)


@pytest.mark.parametrize("number", [1, 2, 23, 24, 255, 256, 300])
@pytest.mark.parametrize("size", [1, 70_000])
def test_a_list_may_be_long_and_its_blocks_large_and_deep(number: int, size: int) -> None:
    contents: list[Any] = [
        *([0] * (number - 1)),
        ["x" * size, nested(dag_cbor.MAX_DEPTH - 1, LINK, lambda inner: [inner])],
    ]
    assert dag_cbor.decode_own_list([dag_cbor.encode(value) for value in contents]) == contents


def test_a_damaged_block_in_a_list_is_found() -> None:
    whole = dag_cbor.encode({"a": ["text", LINK]})
    for damaged in (whole[:-1], b"", b"\xff", whole.replace(b"\x82", b"\x83")):
        with pytest.raises(BadData):
            dag_cbor.decode_own_list([whole, damaged])


def test_a_value_of_endless_depth_is_refused_without_a_crash() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for value in (nested(200_000, 0, lambda inner: [inner]), cyclic):
        with pytest.raises(BadData, match="deep"):
            dag_cbor.encode(value)


def test_items_have_one_limit_for_encoding_and_decoding() -> None:
    most = [0] * (dag_cbor.MAX_ITEMS - 1)
    assert dag_cbor.decode(dag_cbor.encode(most)) == most  # type: ignore[arg-type]
    with pytest.raises(BadData, match="too many"):
        dag_cbor.encode([*most, 0])
    with pytest.raises(BadData, match="too many"):
        dag_cbor.decode(b"\x9a\x00\x04\x00\x00" + bytes(dag_cbor.MAX_ITEMS))


@pytest.mark.parametrize("item", [b"\x80", b"\xa0"], ids=["lists", "maps"])
def test_a_block_of_empty_containers_cannot_fill_the_memory(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_cbor, "MAX_ITEMS", 10_000)
    block = b"\x9a" + (2_000_000).to_bytes(4, "big") + item * 2_000_000
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match="too many"):
            dag_cbor.decode(block)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_large_text_is_no_problem() -> None:
    value: Any = {"text": "é" * 500_000, "bytes": bytes(500_000)}
    assert dag_cbor.decode(dag_cbor.encode(value)) == value


def mutate(block: bytes, draw: Any) -> bytes:
    changed = bytearray(block)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["replace", "flip", "insert", "delete", "repeat"]))
        if kind == "insert" or not changed:
            changed.insert(place, draw(st.integers(0, 255)))
        elif kind == "replace":
            changed[place] = draw(st.integers(0, 255))
        elif kind == "flip":
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "delete":
            del changed[place]
        else:
            changed[place:place] = changed[place : place + draw(st.integers(1, 8))]
    return bytes(changed)


def judge(block: bytes) -> None:
    """Accepts exactly what the slow decoder accepts, as the same value; and libipld, which is laxer, reads it alike."""
    try:
        expected = slow_decode(block)
    except Refused:
        with pytest.raises(BadData):
            dag_cbor.decode(block)
        return
    value = dag_cbor.decode(block)
    assert typed(value) == typed(expected) == typed(dag_cbor.decode_own(block))
    assert dag_cbor.encode(value) == block
    if all(cid.is_blessed for cid in links(value)):
        assert libipld.decode_dag_cbor(block) == value


def links(value: Any) -> list[Cid]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [cid for entry in value for cid in links(entry)]
    return [value] if type(value) is Cid else []


@given(st.data())
def test_mutated_blocks_are_accepted_exactly_when_canonical(data: st.DataObject) -> None:
    judge(mutate(dag_cbor.encode(data.draw(values)), data.draw))


@given(st.binary(max_size=24))
def test_random_bytes_are_accepted_exactly_when_canonical(block: bytes) -> None:
    judge(block)


@given(st.binary(max_size=64), st.integers(0, 70))
def test_a_prefix_is_read_as_the_whole_object_would_be(block: bytes, offset: int) -> None:
    try:
        value, end = dag_cbor.decode_prefix(block, offset)
    except BadData:
        return
    assert slow_decode(block[offset:end]) == value


@given(values, values)
def test_two_objects_in_one_frame_come_apart(first: Any, second: Any) -> None:
    frame = dag_cbor.encode(first) + dag_cbor.encode(second)
    value, offset = dag_cbor.decode_prefix(frame)
    assert value == first
    assert dag_cbor.decode_prefix(frame, offset) == (second, len(frame))


def test_buffers_are_read_like_bytes() -> None:
    block = dag_cbor.encode({"a": [1, LINK]})
    for buffer in (bytearray(block), memoryview(block)):
        assert dag_cbor.decode(buffer) == dag_cbor.decode_own(buffer) == {"a": [1, LINK]}  # type: ignore[arg-type]


def test_decoding_needs_little_python_stack() -> None:
    """A request is deep in the server's frames already when its block is decoded."""
    block = dag_cbor.encode(nested(dag_cbor.MAX_DEPTH, 0, lambda inner: [inner]))

    def under(frames: int) -> Any:
        return under(frames - 1) if frames else dag_cbor.decode(block)

    used = len(__import__("inspect").stack(0))
    assert under(sys.getrecursionlimit() - used - 250)


@pytest.mark.parametrize(
    ("block", "value"),
    [
        (cbor2.dumps({"b": 1, "a": 1.5}), {"b": 1, "a": 1.5}),
        (b"\xa1\x61a\x18\x01", {"a": 1}),
        (dag_cbor.encode({"a": [None, True, -1, b"x", LINK]}), {"a": [None, True, -1, b"x", LINK]}),
    ],
)
def test_the_lenient_decoder_reads_what_was_signed_long_ago(block: bytes, value: Any) -> None:
    assert dag_cbor.decode_lenient(block) == value


@pytest.mark.parametrize(
    "block",
    [
        cbor2.dumps({"a": float("inf")}),
        cbor2.dumps({1: 2}),
        cbor2.dumps({"a": 1 << 63}),
        cbor2.dumps({"a": cbor2.undefined}),
        b"\xa2\x61a\x01\x61a\x02",
        b"\xbf\xff",
        b"\xa1\x61a\xc1\x00",
        b"\x81" * 140 + b"\x00",
        b"\x82\x00",
        b"\xa0\x00",
        b"",
    ],
)
def test_the_lenient_decoder_refuses_what_cannot_be_shown(block: bytes) -> None:
    with pytest.raises(BadData):
        dag_cbor.decode_lenient(block)
