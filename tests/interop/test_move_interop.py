"""An account moves between the reference PDS and this box, in and out again, and nothing is lost or changed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.box import setup
from tests.interop.moving import BLOBS, HANDLE, RECORDS, Host, Move, Refused, contents, fill, verify_head
from tests.interop.reference import mailed_code, plc_directory, reference_pds
from tests.live_box import LiveBox, live_box

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@dataclass
class World:
    """A directory and two hosts."""

    plc_url: str
    reference: Host
    reference_folder: Path
    box: LiveBox
    hosts: list[Host]

    def host(self) -> Host:
        """A client of the box."""
        self.hosts.append(Host(self.box.url))
        return self.hosts[-1]

    def read_code_of_box(self, _did: str) -> str:
        assert self.box.app is not None
        (pending,) = self.box.app.services.codes.pending()
        return pending.code

    def read_code(self, did: str) -> str:
        return mailed_code(self.reference_folder, did)

    def document(self, did: str) -> Any:
        with urllib.request.urlopen(f"{self.plc_url}/{did}/data") as answer:
            return json.load(answer)

    def audit(self, did: str) -> plc.Audit:
        with urllib.request.urlopen(f"{self.plc_url}/{did}/log/audit") as answer:
            return plc.audit(did, json.load(answer))


@pytest.fixture
def world(reference_node: tuple[str, Path], tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "reference"
    with (
        plc_directory(reference_node) as plc_url,
        reference_pds(reference_node, plc_url, folder) as url,
        live_box(tmp_path / "box", account=False, plc_url=plc_url, rate_limits=False) as box,
    ):
        assert box.app is not None
        box.run(setup.wait_for_claim(box.app.services, with_code=False))
        world = World(plc_url, Host(url), folder, box, [])
        world.hosts.append(world.reference)
        yield world
        for host in world.hosts:
            host.close()


def check_that_it_lives(world: World, new: Host, old: Host, did: str) -> None:
    """The identity names the new host, whose commits its key has signed, and the old one writes no more."""
    document = world.document(did)
    assert document["services"]["atproto_pds"]["endpoint"] == new.url
    key = document["verificationMethods"]["atproto"]
    post = {"$type": "app.bsky.feed.post", "text": "moved", "createdAt": "2026-01-01T00:00:00Z"}
    write = {"repo": did, "collection": "app.bsky.feed.post", "record": post}
    before = new.get("com.atproto.sync.getLatestCommit", did=did)["rev"]
    made = new.post("com.atproto.repo.createRecord", write)
    assert made["commit"]["rev"] > before
    assert verify_head(new, did, key) == made["commit"]["rev"]
    with pytest.raises(Refused, match="Deactivated"):
        old.post("com.atproto.repo.createRecord", write)


def test_in_by_the_standard_calls_begun_again_after_every_step(world: World) -> None:
    old, new = world.reference, world.host()
    did = fill(old)
    before = contents(old, did)
    assert len(before[0]) == RECORDS
    assert len(before[1]) == BLOBS
    for step in Move.STEPS[:-1]:
        move = Move(old, new, HANDLE, world.read_code)
        if step == "blobs":
            move.blobs_before_failing = BLOBS // 2
        move.run(step)
    assert old.get("com.atproto.server.checkAccountStatus")["activated"]
    Move(old, new, HANDLE, world.read_code).run()
    assert not old.get("com.atproto.server.checkAccountStatus")["activated"]

    assert contents(new, did) == before
    verify_head(new, did, world.document(did)["verificationMethods"]["atproto"])
    check_that_it_lives(world, new, old, did)


def test_out_by_the_standard_calls_begun_again_after_every_step(world: World) -> None:
    old, new = world.host(), world.reference
    did = fill(old)
    before = contents(old, did)
    assert (len(before[0]), len(before[1])) == (RECORDS, BLOBS)
    for step in Move.STEPS[:-1]:
        Move(old, new, HANDLE, world.read_code_of_box).run(step)
    Move(old, new, HANDLE, world.read_code_of_box).run()

    assert contents(new, did) == before
    assert contents(old, did) == before
    check_that_it_lives(world, new, old, did)
