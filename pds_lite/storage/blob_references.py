"""Blob references of a whole repository at once: what an import brings takes the place of what was there.

Only what differs is touched, so that importing again costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pds_lite.storage.blob_store import dereference, reference
from pds_lite.storage.keys import Table, blob_cid, blob_ref_key

if TYPE_CHECKING:
    from pds_lite.atproto.cid import Cid
    from pds_lite.storage.store import WriteTxn


def replace_references(txn: WriteTxn, wanted: Sequence[tuple[Cid, bytes, str]]) -> None:
    """Makes (blob, path of the record, rev that wrote it) in `wanted` the only references there are."""
    keys = {blob_ref_key(cid, path) for cid, path, _rev in wanted}
    ended = []
    for key, value in txn.scan(Table.BLOB_REFS):
        if key in keys:
            keys.remove(key)
        else:
            ended.append((blob_cid(key), value[8:]))
    for cid, path, rev in wanted:
        if blob_ref_key(cid, path) in keys:
            reference(txn, cid, path, rev)
    # After all new ones: a blob that moves from one record to another must not be without any on the way.
    for cid, path in ended:
        dereference(txn, cid, path)
