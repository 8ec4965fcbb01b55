"""What checkAccountStatus counts: migration tools compare it between the old and the new host.

Reads one snapshot of the store and nothing else; it scans all record keys, so callers run it in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.atproto.mst.node import key_layer
from pds_lite.storage import account_store, blob_store, repo_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pds_lite.storage.store import Store, Txn

GIVE_BACK_RECORDS = 2000


def account_status(store: Store) -> dict[str, Any]:
    """Head, block, record, blob and preference counts, named as in the lexicon."""
    with store.read() as txn:
        head = repo_store.read_head(txn)
        records = repo_store.record_count(txn)
        nodes = count_nodes(_paths(store, txn))
        expected, present = blob_store.blob_counts(txn)
        preferences = account_store.get_preferences(txn)
    return {
        "repoCommit": str(head.commit) if head is not None else "",
        "repoRev": head.rev if head is not None else "",
        "repoBlocks": records + nodes + 1 if head is not None else 0,
        "indexedRecords": records,
        "privateStateValues": len(ujson.loads(preferences)) if preferences else 0,
        "expectedBlobs": expected,
        # Only those records refer to: unreferenced uploads would make it larger, which stops some migration tools.
        "importedBlobs": present,
    }


def _paths(store: Store, txn: Txn) -> Iterator[bytes]:
    """All record paths in order. What the walk maps is let go on the way: it would count as memory of ours."""
    for number, (path, _record) in enumerate(repo_store.scan_records(txn), 1):
        yield path
        if number % GIVE_BACK_RECORDS == 0:
            store.give_back_pages()


def count_nodes(paths: Iterable[bytes]) -> int:
    """Nodes of the MST over these paths, in order.

    A node of layer L is a run between keys of higher layers, if it holds any key.
    """
    begun: list[bool] = []  # per layer: the current run holds a key
    nodes = 0
    for path in paths:
        layer = key_layer(path)
        while len(begun) <= layer:
            # A new top layer: the keys before this one, if any, stand in one node on each layer below it.
            begun.append(any(begun))
            nodes += begun[-1]
        for below in range(layer):
            begun[below] = False
        for above in range(layer, len(begun)):
            nodes += not begun[above]
            begun[above] = True
    return nodes or 1
