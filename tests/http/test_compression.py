"""What is compressed, for whom."""

from __future__ import annotations

import gzip

import pytest

from pds_lite.http.compression import MIN_SIZE, accepts_gzip, compressible, gzip_bytes


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, gzip, br", True),
        ("GZIP;Q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip ; q = 0", False),
        ("identity", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("xgzip", False),
        ("gzip;q=0.001", True),
    ],
)
def test_gzip_is_used_only_for_whoever_takes_it(accept_encoding: str, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is accepted


def test_cars_blobs_and_small_answers_are_not_compressed() -> None:
    assert compressible("application/json; charset=utf-8", MIN_SIZE)
    assert compressible("text/html", MIN_SIZE)
    assert not compressible("application/json", MIN_SIZE - 1)
    assert not compressible("application/vnd.ipld.car", 10_000)
    assert not compressible("image/png", 10_000)


def test_what_is_compressed_is_gzip() -> None:
    assert gzip.decompress(gzip_bytes(b"x" * 10_000)) == b"x" * 10_000
