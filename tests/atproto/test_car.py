"""CAR reading and writing, against an independent reader, at every chunking, and with damage."""

import tracemalloc
from collections.abc import Iterable
from typing import Any

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import CarReader, encode_block, encode_header, read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.varint import encode_varint
from pds_lite.errors import BadCar
from tests.atproto.values import values

ROOT = Cid.of_cbor(b"root")
Blocks = list[tuple[Cid, bytes]]

blocks = st.lists(
    st.tuples(st.sampled_from([Cid.of_cbor, Cid.of_raw]), st.binary(max_size=200)).map(
        lambda made: (made[0](made[1]), made[1])
    ),
    max_size=8,
)


def whole(content: Iterable[tuple[Cid, bytes]], root: Cid = ROOT) -> bytes:
    return b"".join(write_car(root, content))


def feed_all(reader: CarReader, chunks: Iterable[bytes]) -> Blocks:
    return [block for chunk in chunks for block in reader.feed(chunk)]


def read_to_the_end(chunks: Iterable[bytes], **limits: int) -> Blocks:
    reader = CarReader(**limits)
    content = feed_all(reader, chunks)
    reader.finish()
    return content


def refuses(car: bytes, **limits: int) -> str:
    """The message with which a CAR is refused, the same at once and byte by byte."""
    messages = set()
    for chunks in ([car], [car[i : i + 1] for i in range(len(car))]):
        with pytest.raises(BadCar) as caught:
            read_to_the_end(chunks, **limits)
        messages.add(caught.value.message)
    assert len(messages) == 1, messages
    return messages.pop()


@given(blocks, st.data())
def test_any_chunking_gives_the_blocks_in_order(content: Blocks, data: st.DataObject) -> None:
    car = whole(content)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(car)), max_size=12)))
    chunks = [car[start:end] for start, end in zip([0, *cuts], [*cuts, len(car)], strict=True)]
    reader = CarReader()
    assert feed_all(reader, chunks) == content
    assert reader.root == reader.finish() == ROOT


@given(st.lists(values, min_size=1, max_size=5))
def test_an_independent_reader_reads_what_is_written(content: list[Any]) -> None:
    encoded = [dag_cbor.encode(value) for value in content]
    root = Cid.of_cbor(encoded[0])
    header, theirs = libipld.decode_car(whole([(Cid.of_cbor(block), block) for block in encoded], root))
    assert header == {"version": 1, "roots": [root]}
    assert theirs == {Cid.of_cbor(block): value for block, value in zip(encoded, content, strict=True)}


@given(blocks)
def test_reading_a_whole_car_gives_root_and_blocks_by_cid(content: Blocks) -> None:
    assert read_car(whole(content)) == (ROOT, dict(content))


def test_the_bytes_are_those_of_the_format() -> None:
    header = dag_cbor.encode({"roots": [ROOT], "version": 1})
    assert encode_header(ROOT) == encode_varint(len(header)) + header
    cid = Cid.of_raw(b"x" * 100)
    assert encode_block(cid, b"x" * 100) == b"\x88\x01" + cid + b"x" * 100


def test_roots_after_the_first_are_ignored() -> None:
    header = dag_cbor.encode({"roots": [ROOT, Cid.of_raw(b"other")], "version": 1})
    assert read_car(encode_varint(len(header)) + header) == (ROOT, {})


def test_duplicate_and_unasked_blocks_pass() -> None:
    block = (Cid.of_raw(b"x"), b"x")
    assert feed_all(CarReader(), [whole([block, block])]) == [block, block]


def test_blocks_not_asked_for_wait_for_the_next_feed() -> None:
    content = [(Cid.of_raw(bytes([i])), bytes([i])) for i in range(5)]
    reader = CarReader()
    given_out = [next(reader.feed(whole(content)))]
    given_out += feed_all(reader, [b""])
    assert given_out == content
    reader.finish()


@pytest.mark.parametrize(
    "header",
    [
        {"version": 2, "roots": [ROOT]},
        {"version": True, "roots": [ROOT]},
        {"roots": [ROOT]},
        {"version": 1},
        {"version": 1, "roots": []},
        {"version": 1, "roots": ROOT},
        {"version": 1, "roots": [bytes(ROOT)]},
        {"version": 1, "roots": [ROOT, "x"]},
        [1],
        None,
    ],
)
def test_a_header_without_version_1_and_a_root_is_refused(header: Any) -> None:
    encoded = dag_cbor.encode(header)
    refuses(encode_varint(len(encoded)) + encoded)


def test_a_header_that_is_not_canonical_is_refused() -> None:
    encoded = b"\xa2\x67version\x01\x65roots\x81\xd8\x2a\x58\x25\x00" + ROOT
    assert "header" in refuses(encode_varint(len(encoded)) + encoded)


@given(blocks.filter(bool), st.data())
def test_a_car_cut_short_gives_whole_blocks_and_then_an_error(content: Blocks, data: st.DataObject) -> None:
    car = whole(content)
    ends = [len(encode_header(ROOT))]
    for block in content:
        ends.append(ends[-1] + len(encode_block(*block)))
    cut = data.draw(st.integers(0, len(car)))
    reader = CarReader()
    assert feed_all(reader, [car[:cut]]) == content[: sum(end <= cut for end in ends[1:])]
    if cut in ends:
        assert reader.finish() == ROOT
    else:
        with pytest.raises(BadCar, match="ends"):
            reader.finish()


@given(blocks.filter(bool), st.data())
def test_a_changed_byte_never_gives_a_block_that_was_not_there(content: Blocks, data: st.DataObject) -> None:
    car = bytearray(whole(content))
    place = data.draw(st.integers(0, len(car) - 1))
    car[place] ^= data.draw(st.integers(1, 255))
    reader = CarReader()
    given_out: Blocks = []
    try:
        for block in reader.feed(bytes(car)):
            given_out.append(block)
        reader.finish()
    except BadCar:
        pass
    # A flip of the codec makes another, true name for the same bytes.
    assert {cid.digest for cid, _ in given_out} <= {cid.digest for cid, _ in content}
    assert all(cid.matches(block) for cid, block in given_out)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_bad_car(car: bytes) -> None:
    for data in (car, encode_header(ROOT) + car):
        try:
            read_car(data)
        except BadCar:
            continue


CID, BLOCK = Cid.of_raw(b"x" * 100), b"x" * 100


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (b"\x00", "empty"),
        (encode_varint(100) + CID + b"y" * 64, "hash"),
        (b"\x88\x81\x00" + CID + BLOCK, "minimal"),
        (encode_varint(20) + CID[:20], "cut short"),
        (encode_varint(2) + b"\x01\x71", "without a CID"),
        (encode_varint(34 + 100) + b"\x12\x20" + CID.digest + BLOCK, "version 1"),  # version 0
        (encode_varint(4 + 64) + b"\x01\x55\x13\x40" + bytes(64), "hash"),  # sha2-512 cannot be checked
        (
            encode_varint(4 + 32 + 100) + b"\x01\x55\x1e\x20" + CID.digest + BLOCK,
            "hash",
        ),  # called blake3, hashed by sha2
        (encode_varint(5 + 100) + b"\x01\x55\x00\x7f" + bytes(101), "version 1"),
    ],
)
def test_a_bad_piece_is_refused_with_its_reason(piece: bytes, reason: str) -> None:
    assert reason in refuses(encode_header(ROOT) + piece + bytes(40))


def test_other_codecs_pass_if_their_hash_is_right() -> None:
    cid = Cid(b"\x01\x70\x12\x20" + CID.digest)
    assert read_car(whole([(cid, BLOCK)])) == (ROOT, {cid: BLOCK})
    multibyte_codec = Cid(b"\x01\xa9\x02\x12\x20" + CID.digest)
    assert read_car(whole([(multibyte_codec, BLOCK)])) == (ROOT, {multibyte_codec: BLOCK})


def test_limits_let_the_limit_itself_pass() -> None:
    car = whole([(CID, BLOCK)] * 3)
    exact = {"max_block": 100, "max_blocks": 3, "max_total": len(car), "max_header": len(encode_header(ROOT)) - 1}
    reader = CarReader(**exact)
    assert len(feed_all(reader, [car])) == 3
    reader.finish()
    for name, value in exact.items():
        refuses(car, **{**exact, name: value - 1})


def test_a_declared_length_reserves_no_memory() -> None:
    tracemalloc.start()
    try:
        refuses(encode_header(ROOT) + encode_varint(1 << 62) + bytes(50))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_car() -> None:
    block = encode_block(CID, BLOCK)
    reader = CarReader()
    feed_all(reader, [encode_header(ROOT)])
    tracemalloc.start()
    try:
        for _ in range(200):
            for _given in reader.feed(block * 50 + block[:30]):
                pass
            for _given in reader.feed(block[30:]):
                pass
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    reader.finish()
