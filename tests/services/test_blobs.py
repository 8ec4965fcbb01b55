"""Uploads become files of their content, judged by their bytes, and leave nothing behind when they fail."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.clock import Clock
from pds_lite.errors import BadInput, TooLarge
from pds_lite.services.blobs import TEMPORARY_US
from pds_lite.storage.blob_store import blob_path

from .conftest import open_repo

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def chunks(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "blobs").rglob("*") if path.is_file()]


def test_an_upload_is_its_content_and_its_shown_type_counts(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            blob = await repo.blobs.upload(chunks(PNG), "image/jpeg", len(PNG))
            cid = Cid.of_raw(PNG)
            assert blob == {"$type": "blob", "ref": {"$link": str(cid)}, "mimeType": "image/png", "size": len(PNG)}
            path = Path(repo.blobs.path(cid))
            other = await repo.blobs.upload(chunks(b"words"), "text/plain", None)
            assert other["mimeType"] == "text/plain"
        assert [file.read_bytes() for file in files(tmp_path) if file == path] == [PNG]

    run(story())


def test_uploading_again_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            first = await repo.blobs.upload(chunks(b"words"), "text/plain", 5)
            assert await repo.blobs.upload(chunks(b"words"), "text/html", 5) == first
            assert len(files(tmp_path)) == 1

    run(story())


@pytest.mark.parametrize(
    ("data", "length", "error"),
    [
        (b"", 0, BadInput),
        (b"abc", 4, BadInput),
        (b"abc", 2, BadInput),
        (b"x" * (2 << 20), None, TooLarge),
        (b"a", 1 << 30, TooLarge),
    ],
)
def test_a_bad_upload_is_refused_and_leaves_no_file(
    tmp_path: Path, data: bytes, length: int | None, error: type[BadInput]
) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            with pytest.raises(error):
                await repo.blobs.upload(chunks(data, 100_000), "text/plain", length)
            assert files(tmp_path) == []

    run(story())


def test_an_upload_whose_client_leaves_leaves_no_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:

            async def broken() -> AsyncIterator[bytes]:
                yield b"x" * 100
                raise BadInput("gone")

            with pytest.raises(BadInput):
                await repo.blobs.upload(broken(), "text/plain", 200)
            assert files(tmp_path) == []

    run(story())


class _Ahead(Clock):
    ahead = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead


def test_an_upload_that_no_record_wants_goes_after_its_time_and_not_before(tmp_path: Path) -> None:
    async def story() -> None:
        clock = _Ahead()
        async with open_repo(tmp_path, clock=clock) as repo:
            await repo.blobs.upload(chunks(b"forgotten"), "text/plain", None)
            kept = await repo.blobs.upload(chunks(b"kept"), "text/plain", None)
            await repo.create({"b": kept})
            clock.ahead = TEMPORARY_US - 60_000_000
            await repo.blobs.sweep()
            assert len(files(tmp_path)) == 2
            clock.ahead = TEMPORARY_US + 60_000_000
            await repo.blobs.sweep()
            assert [path.read_bytes() for path in files(tmp_path)] == [b"kept"]

    run(story())


def test_a_file_that_a_power_cut_left_without_a_row_goes_within_one_round_and_others_stay(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            kept = await repo.blobs.upload(chunks(b"kept"), "text/plain", None)
            await repo.create({"b": kept})
            (known,) = files(tmp_path)
            stray = blob_path(tmp_path / "blobs", Cid.of_raw(b"stray"))
            stray.parent.mkdir(exist_ok=True)
            stray.write_bytes(b"stray")
            for _ in range(256):
                await repo.blobs.sweep()
            assert files(tmp_path) == [known]

    run(story())
