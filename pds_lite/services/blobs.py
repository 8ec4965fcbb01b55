"""Blobs: streaming uploads into content-addressed files, and their way back out.

Rules that hold here
- An upload is hashed while it is written and never held in memory; a length that was announced must be met exactly.
- The stored type is what the first bytes show, the announced one only where they show nothing known (media_types).
- File before row: a row always has its file. A new blob is temporary, neither listed nor served, until a record refers
  to it, and goes after TEMPORARY_US without one. Uploading known bytes again changes nothing.
- It does not know records; references are counted by the repo writer in the record's own transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pds_lite.errors import BadInput, TooLarge
from pds_lite.services.media_types import HEAD_BYTES, media_type
from pds_lite.storage import blob_store

if TYPE_CHECKING:
    from pds_lite.atproto.cid import Cid
    from pds_lite.clock import Clock
    from pds_lite.storage.blob_store import BlobRow, BlobStore, BlobUpload
    from pds_lite.storage.store import Store, WriteTxn

log = logging.getLogger(__name__)

TEMPORARY_US = 12 * 3600 * 1_000_000
"""How long an upload waits for its record: a draft written over a day on the road should still post."""
SWEEP_BUDGET = 200
_PIECE = 1 << 20
"""Bytes gathered before a worker thread writes them: one hop per MiB, small uploads take one in all."""


class Blobs:
    """Uploads, look-ups and the sweep of what no record wants."""

    def __init__(self, store: Store, files: BlobStore, clock: Clock, limit: int) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._folders_to_search = iter(range(256))
        self.limit = limit
        """Bytes of one blob, as describeServer announces it."""

    async def upload(self, chunks: AsyncIterator[bytes], declared_type: str, length: int | None) -> dict[str, Any]:
        """Stores what `chunks` brings and answers its blob ref in JSON form.

        `length` is the announced number of bytes, None for a body in chunks. Raises TooLarge over the limit, BadInput
        for an empty body or one of another length than announced; nothing is left behind then.
        """
        if length is not None and length > self.limit:
            raise self._too_large()
        incoming = self._files.upload()
        try:
            head, size, cid = await self._receive(incoming, chunks, length)
        except BaseException:
            incoming.abort()
            raise
        mime_type = media_type(head, declared_type)
        now = self._clock.now_us()

        def note(txn: WriteTxn) -> str:
            known = blob_store.get_blob(txn, cid)
            if known is not None and known.refs:
                return known.mime_type
            kept = mime_type if known is None else known.mime_type
            blob_store.put_temporary(txn, cid, kept, size, now)
            return kept

        kept_type = await self._store.write(note, "upload blob")
        return {"$type": "blob", "ref": {"$link": str(cid)}, "mimeType": kept_type, "size": size}

    async def _receive(
        self, incoming: BlobUpload, chunks: AsyncIterator[bytes], length: int | None
    ) -> tuple[bytes, int, Cid]:
        """Writes the body piece by piece; (its first bytes, its size, its CID)."""
        gathered, size, head = bytearray(), 0, b""
        async for chunk in chunks:
            size += len(chunk)
            if size > self.limit:
                raise self._too_large()
            gathered += chunk
            if len(head) < HEAD_BYTES:
                head += chunk[: HEAD_BYTES - len(head)]
            if len(gathered) >= _PIECE:
                await asyncio.to_thread(incoming.write, bytes(gathered))
                gathered.clear()
        if size == 0:
            raise BadInput("The blob is empty")
        if length is not None and size != length:
            raise BadInput(f"Content-Length announced {length} bytes, {size} came")
        cid, _size = await asyncio.to_thread(_finish, incoming, bytes(gathered))
        return head, size, cid

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Blobs may have {self.limit} bytes here")

    def row(self, cid: Cid) -> BlobRow | None:
        """What is known of a blob, temporary ones too."""
        with self._store.read() as txn:
            return blob_store.get_blob(txn, cid)

    def path(self, cid: Cid) -> str:
        """Where the file of a blob with a row lies."""
        return str(self._files.path(cid))

    async def sweep(self) -> int:
        """Drops temporary blobs past their time and files whose last reference went; how many steps that took.

        Once after each start it also searches, one folder a call, for files that a power cut left without a row.
        """
        before = self._clock.now_us() - TEMPORARY_US
        steps = 0
        folder = next(self._folders_to_search, None)
        if folder is not None:
            await self._store.write(
                partial(blob_store.drop_strays, files=self._files, first_byte=folder), "stray blobs"
            )
        while True:
            done = await self._store.write(
                lambda txn: blob_store.sweep(txn, self._files, before, SWEEP_BUDGET), "sweep blobs", use_reserve=True
            )
            if not done:
                return steps
            steps += done


def _finish(incoming: BlobUpload, rest: bytes) -> tuple[Cid, int]:
    incoming.write(rest)
    return incoming.finish()
