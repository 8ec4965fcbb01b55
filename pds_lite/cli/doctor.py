"""`pds-lite doctor`: looks for trouble. Exit status 0 when there is none, 1 otherwise.

`--store` reads the store by itself, beside a running server or without one: a store too broken to serve is just what it
is for. The other checks are the daemon's, which knows what it does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from pds_lite import ujson
from pds_lite.cli import daemon
from pds_lite.cli.typed import as_typed
from pds_lite.errors import StoreBroken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--store"""
    parser.add_argument("--store", action="store_true", help="check every record, block, blob and event on the disk")


def run(arguments: argparse.Namespace) -> int:
    """Prints each problem as `code: what is wrong`."""
    if arguments.store:
        problems = list(_store_problems(arguments.data_dir))
    else:
        problems = daemon.run(arguments.data_dir, "doctor")["problems"]
    if arguments.json:
        print(ujson.dumps({"ok": not problems, "problems": problems}))
    elif not problems:
        print("the store is clean" if arguments.store else "no trouble found")
    else:
        for problem in problems:
            print(as_typed(f"{problem['code']}: {problem['text']}", arguments.data_dir))
    return 1 if problems else 0


def _store_problems(data_dir: Path) -> Iterator[dict[str, str]]:
    from pds_lite.services import key_store
    from pds_lite.storage.blob_store import BLOB_FOLDER
    from pds_lite.storage.check import check_store
    from pds_lite.storage.store import STORE_FOLDER, Store

    own_key = None
    try:
        store = Store.open_readonly(data_dir / STORE_FOLDER)
    except StoreBroken as problem:
        yield {"code": "store", "text": problem.message}
        return
    try:
        try:
            with store.read() as txn:
                keys = key_store.load(txn)
            own_key = keys.signing.did_key if keys is not None else None
        except StoreBroken as problem:
            yield {"code": "keys", "text": problem.message}
        for found in check_store(store, data_dir / BLOB_FOLDER, own_key):
            yield {"code": found.code, "text": found.text}
    finally:
        store.close()
