"""kill -9 of the real server at named places and at random times: what it acknowledged is there, nothing is half.

PDS_LITE_CRASH_RUNS sets the number of crashes (default 40), PDS_LITE_CRASH_SEED repeats a run of it.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from http.client import HTTPException

import pytest

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, sign_commit, verify_commit
from pds_lite.atproto.mst.node import decode_node
from pds_lite.atproto.mst.tree import build, seal, walk
from pds_lite.atproto.tid import make_tid
from tests.crash.follower import Follower
from tests.crash.workload import Workload
from tests.served_box import COMMAND, ServedBox, environment

pytestmark = [pytest.mark.crash, pytest.mark.timeout(7200)]
RUNS = int(os.environ.get("PDS_LITE_CRASH_RUNS", "40"))
SEED = int(os.environ.get("PDS_LITE_CRASH_SEED", str(random.randrange(1 << 32))))
EVERY_WRITE = (
    "store.job",
    "store.before_commit",
    "store.committed",
    "store.announced",
    "event.appended",
    "repo.applied",
)
EVERY_UPLOAD = ("blob.flushed", "blob.renamed", "blob.installed", "blob.row")


def run(*words, failpoint=""):
    more = {"PDS_LITE_FAILPOINT": failpoint}
    return subprocess.run(words, env=environment(more), capture_output=True, check=False)


def read_repo(box):
    """(commit, path to CID) of an export, every block compared with its CID and the signature verified."""
    answer = box.client(box.token()).get("com.atproto.sync.getRepo", did=box.did)
    assert answer.status == 200, answer.body
    return read_export(answer.body, box.did, box.did_key)


def read_export(car, did, did_key):
    root, blocks = read_car(car)
    commit = decode_commit(blocks[root])
    verify_commit(commit, did_key)
    assert commit.did == did
    top = decode_node(blocks[commit.data], cid=commit.data)
    entries = walk(top, lambda stub: decode_node(blocks[stub.cid], stub.layer, stub.low, stub.high, stub.cid))
    records = {path.decode(): cid for path, cid in entries}
    assert set(records.values()) <= set(blocks), "a record has no block"
    return commit, records


def choose(chance):
    """(failpoint setting or "", seconds after which it is killed anyway)."""
    kind = chance.random()
    if kind < 0.55:
        return f"{chance.choice(EVERY_WRITE)}:{chance.randrange(1, 120)}", 4.0
    if kind < 0.75:
        return f"{chance.choice(EVERY_UPLOAD)}:{chance.randrange(1, 8)}", 4.0
    return "", chance.uniform(0.02, 0.8)


def open_again(box):
    """The token of a session; the account is active afterwards, whatever was under way."""
    token = box.token()
    client = box.client(token)
    session = client.get("com.atproto.server.getSession")
    assert session.status == 200, session.body
    if not session.json["active"]:
        assert client.post("com.atproto.server.activateAccount").status == 200
    return token


def catch_up(follower, rev):
    end = time.monotonic() + 60
    while follower.rev != rev and follower.problem is None:
        assert time.monotonic() < end, f"the stream stopped at {follower.rev}, the head is {rev}"
        time.sleep(0.01)


def after_crash(box, workload, follower):
    """Starts again and judges. Returns the session's token."""
    token = open_again(box)
    follower.follow()
    commit, records = read_repo(box)
    workload.reconcile(box, token, records)
    probe = {"repo": box.did, "collection": "com.example.probe", "record": {"$type": "com.example.probe"}}
    written = box.client(token).post("com.atproto.repo.createRecord", probe)
    assert written.status == 200, written.body
    uri, cid = written.json["uri"], written.json["cid"]
    assert written.json["commit"]["rev"] > commit.rev
    catch_up(follower, written.json["commit"]["rev"])
    expected = {**records, uri.removeprefix(f"at://{box.did}/"): Cid.parse(cid)}
    if follower.problem is None:
        assert follower.records == expected
    return token


def one_life(folder, chance, runs):
    """`runs` crashes of one box; how often it died where."""
    box = ServedBox(folder)
    box.init()
    workload = Workload(box, chance)
    follower = Follower(box.url, box.did, box.did_key, lambda: read_repo(box)[1])
    died_at = Counter()
    try:
        for _ in range(runs):
            failpoint, seconds = choose(chance)
            try:
                if not box.start(failpoint):
                    raise ConnectionError  # as below, only sooner
                token = after_crash(box, workload, follower)
                workload.start(box, token)
            except (OSError, HTTPException):
                # The failpoint came by while the last crash was being judged; the next start judges both.
                assert box.wait_until_dead(5)
            if not box.wait_until_dead(seconds):
                box.kill()
                failpoint = ""
            workload.join()
            follower.join()
            died_at[failpoint.partition(":")[0] or "any time"] += 1
            box.check_store()
        box.start()
        after_crash(box, workload, follower)
        doctor = run(*COMMAND, "doctor", "--store", "--data-dir", str(box.data_dir))
        assert doctor.returncode == 0, doctor.stdout
        assert box.stop() == 0
        follower.join()
    finally:
        if box.process is not None and box.process.poll() is None:
            box.kill()
    print(f"{workload.acknowledged} answers, {follower.events} events, {len(follower.records)} records: {died_at}")
    assert "Traceback" not in box.log, box.log[-3000:]
    return died_at


def test_a_killed_server_keeps_every_promise(tmp_path):
    """Each box dies forty times at most, so that what is judged after a crash stays small."""
    print(f"PDS_LITE_CRASH_SEED={SEED} PDS_LITE_CRASH_RUNS={RUNS}")
    chance = random.Random(SEED)
    died_at = Counter()
    for first in range(0, RUNS, 40):
        folder = tmp_path / f"box-{first}"
        died_at += one_life(folder, chance, min(40, RUNS - first))
        shutil.rmtree(folder)
    print(f"{died_at.total()} crashes: {died_at}")
    assert len(died_at) > min(4, RUNS // 4)


# -- an import


def make_car(box, number):
    """A CAR as a restore brings it, signed by the box's key, and its records: a third of them are in every one."""
    blocks = {}
    for index in range(1200):
        block = dag_cbor.encode({"$type": "com.example.imported", "text": f"{number if index % 3 else 0} {index}" * 20})
        blocks[f"com.example.imported/r{index:05}".encode()] = (Cid.of_cbor(block), block)
    root = build(sorted((path, cid) for path, (cid, _block) in blocks.items()))
    nodes = seal(root, "")
    rev = make_tid(int(time.time() * 1_000_000), 0)
    commit, commit_block = sign_commit(box.did, rev, root.cid, box.signing_key.sign)
    car = b"".join(write_car(commit, [(commit, commit_block), *nodes, *blocks.values()]))
    return car, {path.decode(): cid for path, (cid, _block) in blocks.items()}


IMPORT_FAILPOINTS = (
    *(f"import.batch:{number}" for number in (1, 2, 3)),
    "import.flip",
    "sparse.saved",
    *(f"store.before_commit:{number}" for number in (2, 4, 6, 7)),
    *(f"store.committed:{number}" for number in (1, 3, 5, 6, 7, 8)),
    "event.appended:1",
    "store.announced:7",
)


def test_an_import_that_is_killed_is_whole_or_nothing(tmp_path):
    """Each time the repository is the one before or the uploaded one; the stream says which, and imports go on."""
    box = ServedBox(tmp_path / "box")
    box.init()
    follower = Follower(box.url, box.did, box.did_key, lambda: read_repo(box)[1])
    records, deaths, taken = {}, 0, 0
    try:
        for number, failpoint in enumerate(("", *IMPORT_FAILPOINTS, "", ""), 1):
            car, wanted = make_car(box, number)
            box.start(failpoint)
            try:
                token = box.token()
                answer = box.client(token).post("com.atproto.repo.importRepo", car, "application/vnd.ipld.car")
                assert answer.status == 200, answer.body
                acknowledged = True
            except (OSError, HTTPException):
                acknowledged = False
            if not box.wait_until_dead(0 if not failpoint else 3):
                box.kill()
            else:
                deaths += 1
            follower.join()
            box.check_store()
            box.start()
            commit, found = read_repo(box)
            assert found == wanted or (not acknowledged and found == records), failpoint
            taken += found == wanted
            records = found
            follower.follow()
            catch_up(follower, commit.rev)
            probe = {"repo": box.did, "collection": "com.example.imported", "rkey": "r00000", "record": {"n": number}}
            written = box.client(box.token()).post("com.atproto.repo.putRecord", probe)
            assert written.status == 200, written.body
            records["com.example.imported/r00000"] = Cid.parse(written.json["cid"])
            catch_up(follower, written.json["commit"]["rev"])
            assert follower.problem or follower.records == records
            assert box.stop() == 0
            follower.join()
    finally:
        if box.process is not None and box.process.poll() is None:
            box.kill()
    assert deaths >= len(IMPORT_FAILPOINTS) - 2
    assert 3 <= taken < len(IMPORT_FAILPOINTS), "some were taken, some not"
    assert "Traceback" not in box.log


# -- beginning and end


BEGINNINGS = ("store.created", "store.migrated", *(f"store.before_commit:{number}" for number in (1, 2, 3)))


@pytest.mark.parametrize("place", BEGINNINGS)
@pytest.mark.parametrize("command", ["init", "serve"])
def test_a_first_start_that_is_killed_is_begun_again(tmp_path, command, place):
    """Until the account is durable nothing stands in the way of doing it once more."""
    box = ServedBox(tmp_path / "box")
    hostname = f"localhost:{box.port}"
    init = [*COMMAND, "init", "--data-dir", str(box.data_dir), "--hostname", hostname, "--dev", "--json"]
    serve = [*COMMAND, "serve", "--data-dir", str(box.data_dir), "--port", str(box.port), "--no-mdns"]
    words = init if command == "init" else serve
    killed = run(*words, failpoint=place)
    if place == "store.migrated" and killed.returncode != -signal.SIGKILL:
        pytest.skip("there is only one format so far, so a first start migrates nothing")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if command == "init":
        again = run(*init)
        assert again.returncode == 0, again.stderr
    box.start()
    try:
        assert box.client().get("com.atproto.sync.listRepos").json["repos"]
        assert box.stop() == 0
        box.check_store()
    finally:
        if box.process.poll() is None:
            box.kill()


def test_a_stop_that_is_killed_while_it_saves_the_tree_loses_nothing(tmp_path):
    box = ServedBox(tmp_path / "box")
    box.init()
    for place in ("sparse.saved", "store.before_commit:8", "store.committed:8"):
        assert box.start(place)
        token = box.token()
        body = {"repo": box.did, "collection": "com.example.probe", "record": {"place": place}}
        written = [box.client(token).post("com.atproto.repo.createRecord", body) for _ in range(5)]
        box.process.terminate()
        box.process.wait(60)
        assert {answer.status for answer in written} == {200}
        box.check_store()
        box.start()
        paths = {answer.json["uri"].removeprefix(f"at://{box.did}/") for answer in written}
        assert paths <= set(read_repo(box)[1])
        assert box.stop() == 0
