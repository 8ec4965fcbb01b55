"""`pds-lite migrate`: the box pulls an account from the reference PDS, killed at every step, and loses nothing."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.storage import account_store
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.interop.moving import BLOBS, HANDLE, PASSWORD, RECORDS, Host, Refused, contents, fill, verify_head
from tests.interop.reference import mailed_code, plc_directory, reference_pds
from tests.served_box import COMMAND, ServedBox, environment

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


class EmptyBox(ServedBox):
    """A served box without an account."""

    failpoint = ""
    """For `pds-lite migrate`, which does the work itself where no daemon runs."""

    def prepare(self) -> None:
        words = ["init", "--data-dir", str(self.data_dir), "--hostname", f"localhost:{self.port}", "--dev", "--json"]
        made = subprocess.run([*COMMAND, *words, "--empty"], env=environment(), capture_output=True, check=True)
        self.claim_code = json.loads(made.stdout)["claim_code"]

    def run(self, *words: str, lines: str = "", status: int | None = 0) -> Any:
        """`pds-lite migrate --json`: its answer, and what it said on the way in `said`."""
        done = subprocess.run(
            [*COMMAND, *words, "--data-dir", str(self.data_dir), "--json"],
            input=lines.encode(),
            env=environment({**self.settings, "PDS_LITE_FAILPOINT": self.failpoint}),
            capture_output=True,
            check=False,
            timeout=100,
        )
        self.said = done.stderr.decode()
        assert status is None or done.returncode == status, (done.returncode, self.said, self.log[-3000:])
        return json.loads(done.stdout) if done.stdout else None

    def is_active(self) -> bool:
        """As the store of a box that does not run says."""
        store = Store.open_readonly(self.data_dir / STORE_FOLDER)
        try:
            with store.read() as txn:
                account = account_store.get_account(txn)
                return account is not None and account.status == "active"
        finally:
            store.close()

    def migrate(self, *words: str, lines: str = "", status: int | None = 0) -> Any:
        return self.run("migrate", *words, lines=lines, status=status)


@dataclass
class World:
    plc_url: str
    old: Host
    folder: Path
    box: EmptyBox
    hosts: list[Host] = field(default_factory=list)

    def host(self) -> Host:
        """A client of the box."""
        self.hosts.append(Host(self.box.url))
        return self.hosts[-1]

    def code(self, did: str) -> str:
        return mailed_code(self.folder, did)

    def audit(self, did: str) -> plc.Audit:
        with urllib.request.urlopen(f"{self.plc_url}/{did}/log/audit") as answer:
            return plc.audit(did, json.load(answer))

    def active(self, did: str) -> list[str]:
        """Which hosts count the account as active."""
        return [host.url for host in (self.old, self.host()) if is_active(host, did)]


def is_active(host: Host, did: str) -> bool:
    try:
        return bool(host.get("com.atproto.sync.getRepoStatus", did=did)["active"])
    except Refused as problem:
        assert problem.error == "RepoNotFound", problem  # noqa: PT017
        return False


@pytest.fixture
def world(reference_node: tuple[str, Path], tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "reference"
    with plc_directory(reference_node) as plc_url, reference_pds(reference_node, plc_url, folder) as url:
        box = EmptyBox(tmp_path / "box", {"PDS_LITE_PLC_URL": plc_url})
        box.prepare()
        world = World(plc_url, Host(url), folder, box, [])
        world.hosts.append(world.old)
        try:
            yield world
        finally:
            for host in world.hosts:
                host.close()
            if box.process is not None and box.process.poll() is None:
                box.process.kill()
                box.process.wait()


def check_moved(world: World, did: str, before: Any) -> None:
    """Everything is here, byte for byte, under a commit of this box's key, and only here the account is active."""
    new = world.host()
    new.sign_in(did)
    assert contents(new, did) == before
    state = world.audit(did).state
    assert state["services"]["atproto_pds"]["endpoint"] == world.box.url
    verify_head(new, did, state["verificationMethods"]["atproto"])
    assert world.active(did) == [world.box.url]
    sides = ("repo", "diff", f"{did}@{world.old.url}", f"{HANDLE}@{world.box.url}", "--password-stdin")
    answer = world.box.run(*sides, lines=f"{PASSWORD}\n")
    assert answer["equal"]
    assert answer["a"]["records"] == answer["b"]["records"] == len(before[0])
    post = {"$type": "com.example.thing", "fresh": True}
    wanted = {"repo": did, "collection": "com.example.thing", "rkey": "fresh", "record": post}
    made = new.post("com.atproto.repo.createRecord", wanted)
    answer = world.box.run(*sides, lines=f"{PASSWORD}\n", status=1)
    fresh = {"kind": "record", "name": "com.example.thing/fresh", "left": "", "right": made["cid"]}
    assert answer["differences"] == [fresh]
    world.box.stop()
    world.box.check_store()


def add_foreign_parts(world: World, did: str) -> str:
    """A rotation key of the owner's own, which it answers, and a service that is none of a PDS's business."""
    owner = K256Key.from_bytes(b"\x55" * 32).did_key
    state = world.audit(did).state
    world.old.post("com.atproto.identity.requestPlcOperationSignature")
    service = {"type": "Extra", "endpoint": "https://extra.example.com"}
    wanted = {
        "token": world.code(did),
        "rotationKeys": [owner, *state["rotationKeys"]],
        "services": {**state["services"], "com_example": service},
    }
    signed = world.old.post("com.atproto.identity.signPlcOperation", wanted)["operation"]
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{world.plc_url}/{did}", json.dumps(signed).encode(), headers)):
        return owner


STEPS = (
    "migrate.account",
    "migrate.account.done",
    "migrate.repo",
    "migrate.repo.done",
    f"migrate.blob:{max(BLOBS // 2, 1)}",
    "migrate.blobs.done",
    "migrate.preferences",
    "migrate.preferences.done",
    "migrate.compare",
    "migrate.compare.done",
    "migrate.identity",
    "migrate.signed",
    "migrate.submitted",
    "migrate.identity.done",
    "migrate.deactivate",
    "migrate.deactivate.done",
    "migrate.activate",
    "migrate.activate.done",
    "migrate.retire",
    "migrate.retire.done",
)


def test_the_box_pulls_killed_at_every_step(world: World) -> None:
    old, box = world.old, world.box
    did = fill(old)
    before = contents(old, did)
    assert (len(before[0]), len(before[1])) == (RECORDS, BLOBS)
    rotation_keys = world.audit(did).state["rotationKeys"]
    for step in STEPS:
        box.failpoint = step
        if box.start(step) and not box.wait_until_dead(1.0):  # else the job went on by itself and met it
            lines = f"{PASSWORD}\n"
            for _ in range(4):
                words = ["--from", old.url, "--account", HANDLE] if step.startswith("migrate.account") else []
                answer = box.migrate(*words, lines=lines, status=None)
                if answer is None or answer["state"] != "needs":
                    break
                lines = f"{world.code(did)}\n" if answer["needs"] == "plc_code" else f"{PASSWORD}\n"
        assert box.wait_until_dead(10), (step, answer, box.said, box.log[-1000:])
        assert [box.is_active(), is_active(old, did)].count(True) <= 1, step
    box.failpoint = ""
    box.start()
    answer = box.migrate()
    assert answer["state"] == "done"
    assert answer["missing_blobs"] == []
    assert set(world.audit(did).state["rotationKeys"]).isdisjoint(rotation_keys)  # the old host has no say any more
    check_moved(world, did, before)


def test_a_rehearsal_changes_nothing_and_can_be_taken_back(world: World) -> None:
    old, box = world.old, world.box
    did = fill(old, 50, 5)
    owner = add_foreign_parts(world, did)
    before = contents(old, did)
    log = world.audit(did)
    box.start()
    answer = box.migrate(
        "--from", old.url, "--account", HANDLE, "--rehearse", "--password-stdin", lines=f"{PASSWORD}\n"
    )
    assert answer["state"] == "rehearsed"
    assert "ok   reachable" in box.said
    assert "the commit is the same on both hosts" in box.said
    new = world.host()
    new.sign_in(did)
    assert contents(new, did) == before
    assert world.audit(did) == log
    assert world.active(did) == [old.url]
    assert box.migrate("--abandon")["state"] == "abandoned"
    assert world.active(did) == [old.url]
    assert contents(old, did) == before
    with pytest.raises(Refused, match="RepoNotFound"):
        new.get("com.atproto.sync.getRepoStatus", did=did)

    # Once more, after somebody has written to the old host in mid-move.
    answer = box.migrate(
        "--from", old.url, "--account", HANDLE, "--rehearse", "--password-stdin", lines=f"{PASSWORD}\n"
    )
    assert answer["state"] == "rehearsed"
    picture = old.upload(b"\xff\xd8\xff late", "image/jpeg")
    late = {"$type": "com.example.thing", "late": True, "picture": picture}
    old.post("com.atproto.repo.createRecord", {"repo": did, "collection": "com.example.thing", "record": late})
    assert box.migrate(status=3)["needs"] == "plc_code"
    assert box.migrate("--plc-code", "WRONG-CODES", status=3)["text"] == "the old host does not know that code"
    before = contents(old, did)
    assert len(before[0]) == 51
    assert box.migrate("--plc-code", world.code(did))["state"] == "done"
    check_moved(world, did, before)
    state = world.audit(did).state
    assert state["services"]["com_example"]["endpoint"] == "https://extra.example.com"
    assert state["rotationKeys"][0] == owner
    assert len(state["rotationKeys"]) == 2


def test_from_files_and_a_key_when_the_old_host_is_gone(world: World, tmp_path: Path) -> None:
    old, box = world.old, world.box
    did = fill(old, 300, 20)
    add_foreign_parts(world, did)
    before = contents(old, did)
    car, folder = tmp_path / "repo.car", tmp_path / "blobs"
    car.write_bytes(old.get("com.atproto.sync.getRepo", did=did))
    folder.mkdir()
    for number, (cid, data) in enumerate(before[1].items()):
        (folder / f"{cid}{'.png' if number % 2 else ''}").write_bytes(data)
    victim = folder / next(path.name for path in folder.iterdir())
    kept = victim.read_bytes()
    victim.write_bytes(b"rotten")
    box.start()
    words = ("--did", did, "--car", str(car), "--blobs", str(folder), "--recovery-key-stdin", "--password-stdin")
    wrong = f"{bytes([7] * 32).hex()}\n{PASSWORD}\n"
    assert box.migrate(*words, lines=wrong, status=1) is None
    assert "is no rotation key" in box.said
    right = f"{bytes([0x55] * 32).hex()}\n{PASSWORD}\n"
    assert box.migrate(*words, lines=right, status=3) is None
    assert "other bytes" in box.said
    assert "1 blobs are missing" in box.said
    victim.write_bytes(kept)
    assert box.migrate(*words, lines=right)["state"] == "done"
    new = world.host()
    new.sign_in(did)
    records, blobs, _none = contents(new, did)
    assert (records, blobs) == before[:2]
    state = world.audit(did).state
    assert state["rotationKeys"][0] == K256Key.from_bytes(b"\x55" * 32).did_key
    assert state["services"]["atproto_pds"]["endpoint"] == box.url
    verify_head(new, did, state["verificationMethods"]["atproto"])
    assert is_active(new, did)
    assert box.stop() == 0
    box.check_store()
