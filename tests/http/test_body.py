"""A body is never more than its limit, and a truncated one is never taken for whole."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.errors import BadInput, TooLarge
from pds_lite.http.body import BodyStream


def stream(
    chunks: list[bytes], *, length: int | None = None, encoding: str = "", ended: bool = True, present: bool = True
) -> BodyStream:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": not ended or index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ]
    messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return BodyStream(receive, length, encoding, present=present)


def read(body: BodyStream, limit: int = 1 << 20) -> bytes:
    return asyncio.run(body.read(limit))


def test_chunks_come_as_they_arrive() -> None:
    async def collect() -> list[bytes]:
        return [chunk async for chunk in stream([b"ab", b"", b"c"])]

    assert asyncio.run(collect()) == [b"ab", b"c"]


def test_no_body_is_empty_without_waiting() -> None:
    body = stream([], present=False)
    assert body.empty
    assert read(body) == b""


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    body = stream([], length=11)
    with pytest.raises(TooLarge):
        read(body, 10)


def test_a_chunked_body_over_the_limit_is_refused_at_the_limit() -> None:
    with pytest.raises(TooLarge):
        read(stream([b"x" * 6, b"x" * 5]), 10)
    assert read(stream([b"x" * 5, b"x" * 5]), 10) == b"x" * 10


def test_a_client_that_left_is_an_error_not_an_end() -> None:
    with pytest.raises(BadInput, match="ended before"):
        read(stream([b"abc"], ended=False))


def test_a_body_shorter_than_declared_is_an_error() -> None:
    with pytest.raises(BadInput, match="not as long"):
        read(stream([b"abc"], length=4))


def test_reading_has_a_total_time() -> None:
    async def drip() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(BadInput) as caught:
        asyncio.run(BodyStream(drip, None).read(1 << 20, seconds=0.1))
    assert caught.value.status == 408


@given(st.binary(max_size=5000), st.integers(1, 700), st.sampled_from(["gzip", "x-gzip", "deflate", "identity"]))
def test_encoded_bodies_are_decoded_however_they_are_cut(content: bytes, step: int, encoding: str) -> None:
    raw = {"deflate": zlib.compress, "identity": lambda data: data}.get(encoding, gzip.compress)(content)
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)] or [b""]
    assert read(stream(pieces, length=len(raw), encoding=encoding)) == content


def test_a_gzip_bomb_ends_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    body = stream([bomb], length=len(bomb), encoding="gzip")
    with pytest.raises(TooLarge):
        read(body, 150_000)
    assert body.received < 150_000 + 65_537


def test_several_gzip_members_are_one_body() -> None:
    assert read(stream([gzip.compress(b"a" * 100_000) + gzip.compress(b"b")], encoding="gzip")) == b"a" * 100_000 + b"b"


@pytest.mark.parametrize("raw", [b"not gzip", gzip.compress(b"hello")[:-3], gzip.compress(b"hello") + b"tail"])
def test_a_body_that_is_not_what_it_says_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInput):
        read(stream([raw], encoding="gzip"))


def test_an_unknown_encoding_is_415() -> None:
    with pytest.raises(BadInput) as caught:
        read(stream([b"x"], encoding="br"))
    assert caught.value.status == 415
