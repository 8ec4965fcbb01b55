"""repo_diff: two repositories are the same only if every record is, and what differs is named."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.car import read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.dag_cbor import encode
from pds_lite.clock import Clock
from pds_lite.errors import BadCar, UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.services import repo_diff
from pds_lite.services.migration.old_host import OldHost
from pds_lite.services.repo_diff import Difference, diff_blobs, diff_records, read, spool
from tests.services.migration.scripted_host import Asked, Reply, scripted_host
from tests.services.test_repo_import import make_car

THING = "com.example.thing"
values = st.dictionaries(st.sampled_from([f"{THING}/k{i}" for i in range(40)]), st.integers(0, 2), max_size=30)


def compare(left: bytes, right: bytes) -> list[Difference]:
    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 700):
            yield data[start : start + 700]

    async def work() -> list[Difference]:
        with spool() as one, spool() as other:
            return list(diff_records(await read(pieces(left), one), await read(pieces(right), other)))

    return asyncio.run(work())


@given(left=values, right=values)
def test_the_differences_are_those_of_two_dicts(left: dict[str, int], right: dict[str, int]) -> None:
    def cid(side: dict[str, int], path: str) -> str:
        return str(Cid.of_cbor(encode({"i": side[path]}))) if path in side else ""

    cars = [make_car({path: {"i": value} for path, value in side.items()}, shuffle=1) for side in (left, right)]
    assert compare(*cars) == [
        Difference("record", path, cid(left, path), cid(right, path))
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path)
    ]


def test_a_repository_that_is_not_whole_is_no_equal_of_anything() -> None:
    car = make_car({f"{THING}/k{i}": {"i": i} for i in range(20)})
    root, blocks = read_car(car)
    for victim in blocks:
        holed = b"".join(write_car(root, [row for row in blocks.items() if row[0] != victim]))
        with pytest.raises(BadCar):
            compare(car, holed)
    with pytest.raises(BadCar):
        compare(car, car[:-1])


def test_a_host_that_lists_blobs_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(asked: Asked) -> Reply:
        page = int(asked.params.get("cursor", 0))
        cids = [str(Cid.of_raw(b"%d %d" % (page, number))) for number in range(10)]
        return 200, {"cids": cids, "cursor": str(page + 1)}, {}

    async def work() -> None:
        with scripted_host() as host:
            host.answers["com.atproto.sync.listBlobs"] = endless
            http = HttpClient(allow_loopback=True)
            try:
                old = OldHost(http, Clock(), host.url)
                with pytest.raises(UpstreamFailure, match="more than 25 blobs"):
                    [found async for found in diff_blobs(old, old, "did:plc:ewvi7nxzyoun6zhxrhs64oiz")]
                assert len(host.asked) == 3
            finally:
                await http.close()

    monkeypatch.setattr(repo_diff, "MAX_BLOBS", 25)
    asyncio.run(work())
