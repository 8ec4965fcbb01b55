"""Boxes on one LAN find each other and never harm each other: real multicast between network namespaces."""

import logging
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from pds_lite import ujson
from pds_lite.box import mdns

DRIVER = Path(__file__).with_name("lan_box.py")
ALICE = ("did:plc:aaaaaabbbbbbccccccddddddd", "alice.test")
BOB = ("did:plc:zzzzzzbbbbbbccccccddddddd", "bob.test")


class Lan:
    """A bridge and hosts on it, each a network namespace of its own."""

    def __init__(self):
        self.tag = uuid.uuid4().hex[:6]
        self.bridge = f"br{self.tag}"
        self.hosts = []
        self.boxes = []
        _ip("link", "add", self.bridge, "type", "bridge", "mcast_snooping", "0")
        _ip("link", "set", self.bridge, "up")

    def host(self, number):
        name = f"lan{self.tag}-{number}"
        _ip("netns", "add", name)
        self.hosts.append(name)
        veth = f"v{self.tag}{number}"
        _ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", veth, "master", self.bridge, "up")
        for command in ("link set lo up", "link set eth0 up", "route add default dev eth0"):
            if command.startswith("route"):
                _ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
            _ip("-n", name, *command.split())
        return name

    def announce(self, host, seed, who):
        box = subprocess.Popen(
            [*_inside(host), "announce", seed, *who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.boxes.append(box)
        return box

    def discover(self, host, seconds=2.0):
        done = subprocess.run([*_inside(host), "discover", str(seconds)], capture_output=True, text=True, check=True)
        return {box["handle"]: box for box in ujson.loads(done.stdout)}

    def find(self, host, *handles, seconds=2.0):
        """What `host` discovers, once that is exactly these: answers of a busy machine may miss a listener's time."""
        end = time.monotonic() + 60
        while set(found := self.discover(host, seconds)) != set(handles):
            assert time.monotonic() < end, found
        return found

    def close(self):
        for box in self.boxes:
            box.kill()
            box.wait()
            box.stdin.close()
            box.stdout.close()
        for host in self.hosts:
            _ip("netns", "del", host)
        _ip("link", "del", self.bridge)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _inside(host):
    return ["ip", "netns", "exec", host, sys.executable, str(DRIVER)]


def _leave(box):
    box.stdin.close()
    assert box.stdout.read().endswith("bye\n")
    box.wait(60)


@pytest.fixture
def lan(monkeypatch):
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2 for network namespaces")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    try:
        lan = Lan()
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"no network namespaces here: {problem.stderr.decode().strip()}")
    yield lan
    lan.close()


@pytest.mark.slow
def test_two_boxes_take_different_names_and_the_leaving_one_takes_nothing_along(lan):
    first, second, visitor = (lan.host(number) for number in (1, 2, 3))
    alice = lan.announce(first, "alice", ALICE)
    assert alice.stdout.readline() == "pds-lite.local.\n"
    bob = lan.announce(second, "bob", BOB)
    assert bob.stdout.readline() == "pds-zzzzzz.local.\n"

    found = lan.find(visitor, "alice.test", "bob.test")
    assert all(box["problem"] == "" and box["claimed"] for box in found.values())
    assert found["alice.test"]["did"] == ALICE[0]
    assert found["bob.test"]["addresses"][0] == "10.99.0.2"
    assert found["alice.test"]["fingerprint"] != found["bob.test"]["fingerprint"]

    _leave(bob)
    lan.find(visitor, "alice.test")
    lan.find(first, "alice.test", seconds=3.0)  # a box finds itself too


@pytest.mark.slow
def test_the_common_name_passes_to_one_of_two_boxes_that_took_it_at_once(lan):
    hosts = [lan.host(number) for number in (1, 2, 3)]
    boxes = [lan.announce(host, f"seed{host[-1]}", who) for host, who in zip(hosts, (ALICE, BOB), strict=False)]
    names = [box.stdout.readline().strip() for box in boxes]
    deadline = time.monotonic() + 60
    while len(set(names)) != 2 or names.count("pds-lite.local.") != 1:
        assert time.monotonic() < deadline, names
        names = [box["host"] for box in lan.discover(hosts[2], 3.0).values()]


@pytest.mark.slow
def test_a_cloned_box_is_announced_beside_its_twin_and_unclaimed_boxes_say_so(lan):
    """The same DID on two cards, say after a restore: both stay visible, under different keys and names."""
    hosts = [lan.host(number) for number in (1, 2, 3, 4)]
    names = []
    for host, seed, who in zip(hosts[:3], ("a", "b", "c"), (ALICE, ALICE, ("", "")), strict=True):
        names.append(lan.announce(host, seed, who).stdout.readline().strip())
    assert names[:2] == ["pds-lite.local.", "pds-aaaaaa.local."]
    assert len(set(names)) == 3
    found = lan.find(hosts[3], "", "alice.test")
    assert found[""]["claimed"] is False
    assert found["alice.test"]["did"] == ALICE[0]


@pytest.mark.slow
def test_a_new_address_is_announced_and_the_old_one_is_not(lan):
    host, visitor = lan.host(1), lan.host(2)
    box = lan.announce(host, "alice", ALICE)
    box.stdout.readline()
    _ip("-n", host, "addr", "del", "10.99.0.1/24", "dev", "eth0")
    _ip("-n", host, "addr", "add", "10.99.0.77/24", "dev", "eth0")
    _ip("-n", host, "route", "add", "default", "dev", "eth0")
    deadline = time.monotonic() + 60
    addresses = []
    while "10.99.0.77" not in addresses and time.monotonic() < deadline:
        addresses = lan.discover(visitor).get("alice.test", {"addresses": []})["addresses"]
    assert "10.99.0.77" in addresses
    assert "10.99.0.1" not in addresses


@pytest.mark.slow
def test_plugged_in_again_the_box_is_back(lan):
    host, visitor = lan.host(1), lan.host(2)
    lan.announce(host, "alice", ALICE).stdout.readline()
    _ip("-n", host, "link", "set", "eth0", "down")
    _ip("-n", host, "addr", "flush", "dev", "eth0")
    lan.find(visitor)
    _ip("-n", host, "link", "set", "eth0", "up")
    _ip("-n", host, "addr", "add", "10.99.0.1/24", "dev", "eth0")
    _ip("-n", host, "route", "add", "default", "dev", "eth0")
    lan.find(visitor, "alice.test")


async def test_what_zeroconf_complains_of_is_a_line_without_a_trace(caplog):
    await mdns.discover(0)
    try:
        raise OSError("Network is unreachable")
    except OSError as problem:
        logging.getLogger("zeroconf").warning("Error with socket: %s", problem, exc_info=problem)
    assert "Error with socket: Network is unreachable" in caplog.text
    assert "Traceback" not in caplog.text
