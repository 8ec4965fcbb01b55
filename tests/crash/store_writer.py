"""The process that test_store_crash kills: mixed writes for ever, each acknowledged on stdout once it is durable.

Lines are JSON: {"rev", "seq", "set": {path: content}, "gone": [path]} after a commit, {"blob"} after an upload.
"""

import json
import random
import sys
from pathlib import Path

from pds_lite.storage import event_log, repo_store
from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.storage.driver import Blob, Driver, record
from tests.store_fixture import small_limits

LONG = "com.example.note/" + "k" * 600


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def one_commit(driver: Driver, chance: random.Random, blobs: list[Blob], number: int) -> None:
    known = list(driver.records())
    changes: dict[bytes, bytes | None] = {}
    for _ in range(chance.choice([1, 1, 1, 3, 40])):
        kind = chance.random()
        if kind < 0.25 and known:
            changes[chance.choice(known)] = None
        else:
            name = f"{LONG}{chance.randrange(20)}" if kind > 0.9 else f"com.example.note/{chance.randrange(4000):05d}"
            pictures = [chance.choice(blobs)] if blobs and kind < 0.5 else []
            changes[name.encode()] = record(f"{number} {chance.random()}", pictures)
    rev = driver.write(changes)
    written = {path.decode(): block.hex() for path, block in changes.items() if block is not None}
    say(rev=rev, seq=driver.now, set=written, gone=[path.decode() for path, block in changes.items() if block is None])


def import_again(driver: Driver, batch: int) -> None:
    """The repository through the other generation of tables; nothing changes for anybody."""
    head = driver.head
    if head is None:
        return
    while driver.store.write_sync(lambda txn: repo_store.drop_idle(txn, 50)):
        pass
    with driver.store.read() as txn:
        rows = [(path, row.cid, row.block) for path, row in repo_store.scan_records(txn)]
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        driver.store.write_sync(lambda txn, part=part: repo_store.put_imported(txn, part, head.rev))
    driver.store.write_sync(lambda txn: repo_store.flip(txn, head))


def main(data_dir: Path, seed: int) -> None:
    chance = random.Random(seed)
    driver = Driver(Store.open(data_dir / STORE_FOLDER, small_limits()), BlobStore(data_dir / BLOB_FOLDER))
    blobs: list[Blob] = []
    for number in range(1_000_000):
        one_commit(driver, chance, blobs, number)
        if number % 5 == 1:
            blobs = [*blobs[-3:], driver.upload(b"blob %d %d" % (seed, number))]
            say(blob=str(blobs[-1].cid))
        if number % 17 == 3:
            driver.save_tree()
        if number % 13 == 5:
            driver.sweep(driver.now - 30)
        if number % 29 == 7:
            driver.store.write_sync(lambda txn: event_log.prune(txn, driver.now - 40, 1 << 40, 40))
        if number % 37 == 11:
            import_again(driver, 60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
