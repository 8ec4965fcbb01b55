"""The codec as a whole, on blocks of the shapes that repositories hold: longer runs than the unit tests take."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite import ujson
from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import CarReader, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.data import find_blob_refs, from_json, has_legacy_blob, json_default, to_json
from pds_lite.errors import BadCar, BadData, BadInput
from tests.atproto.values import Refused, cids, slow_decode, texts, values

posts = st.fixed_dictionaries(
    {
        "$type": st.just("app.bsky.feed.post"),
        "text": texts,
        "createdAt": st.just("2026-08-20T12:00:00.000Z"),
        "reply": st.fixed_dictionaries({"root": st.fixed_dictionaries({"uri": texts, "cid": cids.map(str)})}),
        "embed": st.fixed_dictionaries(
            {
                "image": st.fixed_dictionaries(
                    {"$type": st.just("blob"), "ref": cids, "mimeType": texts, "size": st.integers()}
                )
            }
        ),
    }
)
nodes = st.fixed_dictionaries(
    {
        "l": st.none() | cids,
        "e": st.lists(
            st.fixed_dictionaries(
                {"p": st.integers(0, 30), "k": st.binary(max_size=20), "v": cids, "t": st.none() | cids}
            ),
            max_size=5,
        ),
    }
)
commits = st.fixed_dictionaries(
    {
        "did": texts,
        "version": st.just(3),
        "data": cids,
        "rev": st.just("3jzfcijpj2z2a"),
        "prev": st.none(),
        "sig": st.binary(min_size=64, max_size=64),
    }
)
shapes: st.SearchStrategy[Any] = st.one_of(posts, nodes, commits, values)


def damage(data: bytes, draw: Any) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(changed)))
        end = min(len(changed), start + draw(st.integers(0, 6)))
        changed[start:end] = draw(st.one_of(st.binary(max_size=6), st.just(bytes(changed[end : end + 9]))))
    return bytes(changed)


def encodable(value: Any) -> bytes:
    try:
        return dag_cbor.encode(value)
    except BadData:  # an integer of a blob's size beyond 64 bits
        return b"\xa0"


@pytest.mark.slow
@settings(max_examples=5000)
@given(shapes, st.data())
def test_a_damaged_block_is_accepted_exactly_when_it_is_canonical(value: Any, data: st.DataObject) -> None:
    block = damage(encodable(value), data.draw)
    try:
        expected = slow_decode(block)
    except Refused:
        with pytest.raises(BadData):
            dag_cbor.decode(block)
    else:
        assert repr(dag_cbor.decode(block)) == repr(expected) == repr(dag_cbor.decode_own(block))


@pytest.mark.slow
@settings(max_examples=3000)
@given(shapes, st.data())
def test_whatever_a_block_holds_can_be_shown_as_json(value: Any, data: st.DataObject) -> None:
    try:
        value = dag_cbor.decode(damage(encodable(value), data.draw))
    except BadData:
        return
    assert ujson.loads(ujson.dumpb(value, json_default)) == to_json(value)
    assert isinstance(find_blob_refs(value), list)
    assert isinstance(has_legacy_blob(value), bool)


@pytest.mark.slow
@settings(max_examples=3000)
@given(shapes, st.data())
def test_damaged_json_is_refused_or_becomes_a_value_that_comes_back(value: Any, data: st.DataObject) -> None:
    text = damage(ujson.dumpb(to_json(value), None) if is_json(value) else b"{}", data.draw)
    try:
        value = from_json(ujson.loads(text))
        block = dag_cbor.encode(value)
    except BadInput:
        return
    assert dag_cbor.decode(block) == value == from_json(to_json(value))


def is_json(value: Any) -> bool:
    try:
        ujson.dumpb(value, json_default)
    except BadData:
        return False
    return True


def outcome(chunks: list[bytes]) -> tuple[list[tuple[Cid, bytes]], Cid | None, str]:
    reader = CarReader(max_block=400, max_blocks=6, max_header=100, max_total=3000)
    content: list[tuple[Cid, bytes]] = []
    try:
        for chunk in chunks:
            for block in reader.feed(chunk):
                content.append(block)  # what came before the error counts
        reader.finish()
    except BadCar as problem:
        return content, reader.root, problem.message
    return content, reader.root, ""


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.lists(shapes, min_size=1, max_size=5), st.data())
def test_a_damaged_car_is_judged_alike_at_every_chunking(content: list[Any], data: st.DataObject) -> None:
    encoded = [(Cid.of_cbor(block), block) for block in map(encodable, content)]
    car = damage(b"".join(write_car(encoded[0][0], encoded)), data.draw)[:3000]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(car)), max_size=8)))
    chunks = [car[start:end] for start, end in zip([0, *cuts], [*cuts, len(car)], strict=True)]
    assert outcome(chunks) == outcome([car]) == outcome([car[i : i + 1] for i in range(len(car))])
