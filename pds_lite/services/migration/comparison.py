"""The counts of both hosts side by side, for the owner.

What the old host counts may be wrong, or it may not count at all: that stops no move. That nothing is missing is shown
by the commit, whose hash covers every record, and by the ledger of the blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pds_lite.errors import UpstreamFailure

if TYPE_CHECKING:
    from pds_lite.services.migration.old_host import OldHost

_COUNTS = {
    "indexedRecords": "records",
    "expectedBlobs": "blobs that records name",
    "importedBlobs": "blobs on the disk",
}


async def compare_counts(old: OldHost, here: Mapping[str, Any], report: Callable[[str], None]) -> None:
    """Tells what checkAccountStatus counts there and `here`. Raises UpstreamFailure for a host that does not answer."""
    try:
        there = await old.get("com.atproto.server.checkAccountStatus")
    except UpstreamFailure as problem:
        if problem.status not in (400, 404, 501):
            raise
        report(f"the old host does not count: {problem.message}")
        return
    for name, words in _COUNTS.items():
        count = there.get(name)
        mark = "" if count == here[name] else "WARN "
        report(f"{mark}{words}: {count if isinstance(count, int) else 'not told'} there, {here[name]} here")
