"""Clients and verifiers nobody here wrote use a running box: @atproto/*, @atcute/* from npm, `atproto` from PyPI."""

import os
import random
import subprocess
import threading
from pathlib import Path

import pytest

from tests.interop.reference import plc_directory
from tests.served_box import HANDLE, PASSWORD, served_box

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).resolve().parent / "clients.mjs"


@pytest.fixture(scope="module")
def directory(reference_node):
    """npm's PLC directory."""
    with plc_directory(reference_node) as url:
        yield url


@pytest.fixture
def box(directory, tmp_path):
    """A box whose DID is in that directory."""
    with served_box(tmp_path / "box", {"PDS_LITE_PLC_URL": directory}, "--plc-url", directory) as running:
        yield running
    assert "Traceback" not in running.log, running.log[-3000:]


@pytest.mark.parametrize("case", ["session", "records", "blobs", "importing", "random", "proofs", "firehose"])
def test_npm_clients(case, box, directory, reference_node):
    node, ref_dir = reference_node
    seed = random.randrange(1 << 31)
    print(f"SEED={seed}")
    more = {"URL": box.url, "DID": box.did, "HANDLE": HANDLE, "PASSWORD": PASSWORD, "PLC_URL": directory}
    run = subprocess.run(
        [node, str(SCRIPT), case],
        env={**os.environ, **more, "KEY": box.signing_key.export().hex(), "REF_DIR": str(ref_dir), "SEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stderr[-4000:]


def test_the_python_sdk_signs_in_and_follows_the_stream(box):
    from atproto import CAR, CID, Client, FirehoseSubscribeReposClient, models, parse_subscribe_repos_message

    client = Client(box.url)
    client.login(HANDLE, PASSWORD, fetch_bsky_profile=False)
    seen, done = [], threading.Event()
    stream = FirehoseSubscribeReposClient({"cursor": 0}, base_uri=f"{box.url.replace('http', 'ws')}/xrpc")

    def take(message):
        event = parse_subscribe_repos_message(message)
        seen.append(event)
        if isinstance(event, models.ComAtprotoSyncSubscribeRepos.Commit) and any(
            "/last" in op.path for op in event.ops
        ):
            done.set()

    thread = threading.Thread(target=stream.start, args=(take,), daemon=True)
    thread.start()
    post = client.send_post("from Python", profile_identify=box.did)
    client.com.atproto.repo.delete_record(
        {"repo": box.did, "collection": "app.bsky.feed.post", "rkey": post.uri.rpartition("/")[2]}
    )
    client.com.atproto.server.deactivate_account({})
    client.com.atproto.server.activate_account()
    put = {
        "repo": box.did,
        "collection": "com.example.py",
        "rkey": "last",
        "record": {"$type": "com.example.py", "n": 1},
    }
    made = client.com.atproto.repo.put_record(put)
    assert done.wait(60), [type(event).__name__ for event in seen]
    stream.stop()
    thread.join(10)

    kinds = [type(event).__name__ for event in seen]
    beginning, closed = ["Identity", "Account", "Commit", "Sync"], ["Account", "Account", "Identity", "Sync"]
    assert kinds == [*beginning, "Commit", "Commit", *closed, "Commit"]
    commits = [event for event in seen if type(event).__name__ == "Commit"]
    signed = [car.blocks[car.root] for car in map(CAR.from_bytes, (event.blocks for event in commits))]
    assert [commit["rev"] for commit in signed] == [event.rev for event in commits]
    assert [event.since for event in commits] == [None, *(event.rev for event in commits[:-1])]
    assert [str(event.prev_data) for event in commits[1:]] == [
        str(CID.decode(commit["data"])) for commit in signed[:-1]
    ]
    exported = CAR.from_bytes(client.com.atproto.sync.get_repo({"did": box.did}))
    assert exported.blocks[exported.root]["rev"] == made.commit.rev
    client.request.close()
