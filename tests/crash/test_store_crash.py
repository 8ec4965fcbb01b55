"""kill -9 of a process that writes the store, at named places and at any time: what was acknowledged is there, whole.

PDS_LITE_CRASH_RUNS sets the number of crashes (default 40), PDS_LITE_CRASH_SEED repeats a run of it.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pds_lite.atproto import firehose
from pds_lite.storage import blob_store, event_log
from pds_lite.storage.blob_store import BLOB_FOLDER, BlobStore
from pds_lite.storage.keys import Table
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.conftest import CHECKOUT
from tests.storage.driver import Driver
from tests.store_fixture import assert_clean, small_limits

pytestmark = [pytest.mark.crash, pytest.mark.timeout(7200)]
RUNS = int(os.environ.get("PDS_LITE_CRASH_RUNS", "40"))
SEED = int(os.environ.get("PDS_LITE_CRASH_SEED", str(random.randrange(1 << 32))))
PLACES = {
    "store.job": 120,
    "store.before_commit": 120,
    "store.committed": 120,
    "repo.applied": 80,
    "event.appended": 80,
    "event.pruned": 3,
    "blob.flushed": 12,
    "blob.renamed": 12,
    "blob.installed": 12,
    "blob.row": 12,
    "blob.unlinked": 5,
    "sparse.saved": 5,
    "import.batch": 6,
    "import.flip": 2,
}


def crash(data_dir: Path, seed: int, failpoint: str, seconds: float) -> tuple[list[dict], int]:
    """What the writer acknowledged before it was killed, and how it ended."""
    environment = {**os.environ, "PDS_LITE_FAILPOINT": failpoint, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "tests.crash.store_writer", str(data_dir), str(seed)]
    writer = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT, text=True
    )
    try:
        output, errors = writer.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        writer.kill()
        output, errors = writer.communicate()
    assert "Traceback" not in errors, errors
    lines = output.splitlines()
    if output and not output.endswith("\n"):
        lines.pop()
    return [json.loads(line) for line in lines], writer.returncode


class Model:
    """What must be there: every acknowledged change, and perhaps the one that was under way."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.seqs: list[int] = []
        self.blobs: list[str] = []

    def take(self, acknowledged: list[dict]) -> None:
        for line in acknowledged:
            if "blob" in line:
                self.blobs.append(line["blob"])
                continue
            self.seqs.append(line["seq"])
            self.records.update(line["set"])
            for path in line["gone"]:
                del self.records[path]

    def compare(self, driver: Driver) -> None:
        """The store may be ahead by the one commit that was durable but not acknowledged: the last event says how."""
        with driver.store.read() as txn:
            events = list(event_log.events(txn))
            pruned = event_log.pruned_through(txn)
        stored = {path.decode(): block.hex() for path, block in driver.records().items()}
        kept = [seq for seq, _ in events]
        acknowledged = [seq for seq in self.seqs if seq > pruned]
        assert kept[: len(acknowledged)] == acknowledged, "an acknowledged event is gone, or there is one too many"
        assert len(kept) - len(acknowledged) <= 1
        if len(kept) > len(acknowledged):
            self.seqs.append(kept[-1])
            for op in firehose.decode_frame(events[-1][1])[1]["ops"]:
                if op["cid"] is None:
                    del self.records[op["path"]]
                else:
                    self.records[op["path"]] = stored[op["path"]]
        assert stored == self.records


def test_the_store_survives_every_kill(tmp_path: Path) -> None:
    print(f"PDS_LITE_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    model = Model()
    named = [f"{place}:{chance.randrange(1, most + 1)}" for place, most in PLACES.items()]
    ended_by_failpoint = 0
    for run in range(RUNS):
        failpoint = named[run // 2 % len(named)] if run % 2 else ""
        lines, code = crash(tmp_path, run, failpoint, 20.0 if failpoint else chance.uniform(0.4, 1.5))
        assert code == -9, f"run {run} ended by itself"
        ended_by_failpoint += bool(failpoint)
        model.take(lines)
        reopen_and_compare(tmp_path, model)
    assert len(model.seqs) > RUNS


def reopen_and_compare(data_dir: Path, model: Model) -> None:
    if not (data_dir / STORE_FOLDER / "data.mdb").exists():
        assert not model.seqs
        return
    store = Store.open(data_dir / STORE_FOLDER, small_limits())
    try:
        driver = Driver(store, BlobStore(data_dir / BLOB_FOLDER))
        model.compare(driver)
        assert_clean(store, data_dir)
        if driver.head is not None:
            driver.write({})
            model.seqs.append(driver.now)
        while driver.sweep(0):
            pass
        assert_no_stray_files(driver)
    finally:
        store.close()


def assert_no_stray_files(driver: Driver) -> None:
    """Files without a row are only those of uploads cut between file and row: never more than one a kill."""
    dropped = sum(
        driver.store.write_sync(lambda txn, folder=folder: blob_store.drop_strays(txn, driver.files, folder))
        for folder in range(256)
    )
    assert dropped <= 1
    with driver.store.read() as txn:
        rows = txn.count(Table.BLOBS) + txn.count(Table.BLOBS_TEMPORARY)
    assert len(list(driver.files.folder.glob("??/*"))) == rows


def test_a_kill_while_the_store_is_made_leaves_one_that_opens(tmp_path: Path) -> None:
    for failpoint in ("store.created", "store.migrated", "store.before_commit"):
        lines, code = crash(tmp_path / failpoint, 1, failpoint, 20.0)
        assert (lines, code) == ([], -9)
        reopen_and_compare(tmp_path / failpoint, Model())
        lines, code = crash(tmp_path / failpoint, 2, "store.committed:9", 20.0)
        assert lines
        assert code == -9


def test_the_check_raises_no_alarm_while_another_process_writes(tmp_path: Path) -> None:
    """doctor --store beside a running server."""
    from pds_lite.storage.check import check_store

    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "tests.crash.store_writer", str(tmp_path), "3"]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=CHECKOUT)
    try:
        while not (tmp_path / BLOB_FOLDER).exists():
            time.sleep(0.05)
        time.sleep(0.5)
        for _ in range(15):
            store = Store.open_readonly(tmp_path / STORE_FOLDER, small_limits())
            assert list(check_store(store, tmp_path / BLOB_FOLDER)) == []
            store.close()
            time.sleep(0.05)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
