"""The blobs of a moving account: those that its records name and that are not here, fetched from the old host.

Rules that hold here
- What is missing is the store's own account of it, so the copy can end at any moment and go on.
- Each blob has an entry in the ledger: how often it was tried and, while it is not here, why not, in words.
- A blob is here only if its bytes hash to the CID that the record names.
- A few at a time: a small board has one disk and one line. A full disk ends the copy, since every blob would fail; so
  does a host that answers nothing any more, since that says nothing of the blobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadInput, TooLarge, UpstreamFailure
from pds_lite.services.migration.old_host import is_silence
from pds_lite.storage import blob_store, failpoints, migration_store
from pds_lite.storage.migration_store import HERE, MISSING, LedgerEntry

if TYPE_CHECKING:
    from pds_lite.services.blobs import Blobs
    from pds_lite.services.migration.old_host import OldHost
    from pds_lite.storage.store import Store

AT_ONCE = 4
PAGE = 500
TRANSFERS = 3
"""How often one that breaks off is begun again."""
MAX_SILENT = AT_ONCE
"""Blobs in a row for which the host did not answer at all."""


class BlobCopy:
    """Copies what is missing. `report(done, total)` is called as it goes on."""

    def __init__(self, store: Store, blobs: Blobs, old: OldHost, did: str, report: Callable[[int, int], None]) -> None:
        self._store = store
        self._blobs = blobs
        self._old = old
        self._did = did
        self._report = report
        self._done = 0
        self._silent = 0

    async def run(self) -> list[Cid]:
        """Tries every missing blob; those that are missing still. Raises StoreFull, UpstreamFailure (SessionEnded)."""
        with self._store.read() as txn:
            expected, present = blob_store.blob_counts(txn)
        self._done, total = present, expected
        queue = missing(self._store)

        async def work() -> None:
            for cid in queue:
                if await self._copy(cid):
                    self._done += 1
                self._report(self._done, total)

        tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return list(missing(self._store))

    async def _copy(self, cid: Cid) -> bool:
        failpoints.hit("migrate.blob")
        with self._store.read() as txn:
            entry = migration_store.get_entry(txn, cid)
        reason = ""
        try:
            reason = await self._fetch(cid)
            self._silent = 0
        except TooLarge:
            reason = f"larger than this box takes ({self._blobs.limit} bytes); raise PDS_LITE_BLOB_LIMIT"
        except UpstreamFailure as problem:
            self._silent = self._silent + 1 if is_silence(problem) else 0
            if problem.error == "SessionEnded" or self._silent > MAX_SILENT:
                raise
            gone = problem.error == "BlobNotFound" or "not found" in problem.message.lower()
            reason = "the old host does not have it any more" if gone else f"the old host: {problem.message}"
        except BadInput as problem:
            reason = f"what the old host sent: {problem.message}"
        state = MISSING if reason else HERE
        await self._note(cid, LedgerEntry(state, entry.tries + 1, reason))
        return not reason

    async def _fetch(self, cid: Cid) -> str:
        """store_blob of what the host serves; once more where the transfer breaks off in the middle."""
        for left in range(TRANSFERS - 1, -1, -1):
            async with self._old.stream("com.atproto.sync.getBlob", did=self._did, cid=str(cid)) as answer:
                try:
                    return await store_blob(self._blobs, cid, answer, answer.headers.get("content-type", ""))
                except UpstreamFailure:
                    if not left:
                        raise
        raise AssertionError("unreachable")

    async def _note(self, cid: Cid, entry: LedgerEntry) -> None:
        await self._store.write(lambda txn: migration_store.put_entry(txn, cid, entry), "ledger")


async def store_blob(blobs: Blobs, cid: Cid, chunks: AsyncIterator[bytes], kind: str) -> str:
    """Stores what `chunks` brings as the blob `cid`: why it is not that, or nothing. Raises TooLarge, StoreFull."""
    declared = kind.partition(";")[0].strip().lower() or "application/octet-stream"
    stored = await blobs.upload(chunks, declared, None)
    found = stored["ref"]["$link"]
    return "" if found == str(cid) else f"these are other bytes, those of {found}"


def missing(store: Store) -> Iterator[Cid]:
    """The blobs that records name and that are not here, page by page, so that the list is never whole in memory."""
    cursor = None
    while True:
        with store.read() as txn:
            page = blob_store.missing_blobs(txn, cursor, PAGE)
        for cid, _path in page:
            yield cid
        if len(page) < PAGE:
            return
        cursor = page[-1][0]
