"""Killed between two steps of changing an identity, the box agrees with the directory once it is asked again."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.storage import account_store
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.plc_server import PlcServer, plc_server
from tests.served_box import CHECKOUT, environment

pytestmark = pytest.mark.crash


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


def run(folder: Path, *words: str, failpoint: str = "") -> Any:
    """The answer of a command in a process of its own; with `failpoint` it has to be killed there."""
    command = [sys.executable, "-m", "pds_lite", *words, "--data-dir", str(folder), "--json"]
    settings = environment({"PDS_LITE_FAILPOINT": failpoint} if failpoint else None)
    done = subprocess.run(command, env=settings, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    if failpoint:
        assert done.returncode == -signal.SIGKILL, (done.returncode, done.stdout, done.stderr)
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def box(tmp_path: Path, directory: PlcServer) -> Any:
    folder = tmp_path / "box"
    made = run(folder, "init", "--hostname", "localhost:2583", "--dev", "--plc-url", directory.url)
    return folder, made["did"]


def check(folder: Path) -> None:
    assert run(folder, "doctor", "--store") == {"ok": True, "problems": []}
    run(folder, "repo", "verify")
    shown = run(folder, "identity", "show")
    assert (shown["alarms"], shown["trouble"], shown["unfinished_rotation"]) == ([], None, False)
    assert shown["log"]["keys"] == {"atproto": shown["signing_key"]}
    assert shown["log"]["names"] == [f"at://{shown['handle']}"]


@pytest.mark.parametrize("place", ["rotate.prepared", "plc.noted", "plc.published", "rotate.published"])
def test_a_rotation(box: Any, directory: PlcServer, place: str) -> None:
    folder, did = box
    run(folder, "identity", "rotate-key", failpoint=place)

    answer = run(folder, "identity", "rotate-key")

    assert directory.operations[did]["verificationMethods"] == {"atproto": answer["signing_key"]}
    assert len(directory.logs[did]) == 2, "one operation, however often it was begun"
    check(folder)


@pytest.mark.parametrize("place", ["plc.noted", "plc.published"])
def test_a_handle(box: Any, directory: PlcServer, place: str) -> None:
    folder, did = box
    run(folder, "identity", "handle", "bob.test", failpoint=place)

    assert run(folder, "identity", "handle", "bob.test") == {"handle": "bob.test"}

    assert len(directory.logs[did]) == 2
    check(folder)


def test_a_deletion(box: Any, tmp_path: Path) -> None:
    """Killed before the step is durable, nothing has happened."""
    folder, did = box
    script = tmp_path / "delete.py"
    script.write_text(
        "import asyncio, sys\nfrom pathlib import Path\nfrom pds_lite.app import open_box\n"
        "async def main():\n    async with open_box(Path(sys.argv[1])) as services:\n"
        "        await services.deletion.delete(sys.argv[2])\n"
        "asyncio.run(main())\n"
    )
    for failpoint, status in (("account.erased", -signal.SIGKILL), ("", 0)):
        settings = {**environment(), "PDS_LITE_FAILPOINT": failpoint}
        done = subprocess.run(
            [sys.executable, str(script), str(folder), did], env=settings, cwd=CHECKOUT, timeout=60, check=False
        )
        assert done.returncode == status
        store = Store.open_readonly(folder / STORE_FOLDER)
        with store.read() as txn:
            assert (account_store.get_account(txn) is None) is (status == 0)
        store.close()
        assert run(folder, "doctor", "--store") == {"ok": True, "problems": []}
