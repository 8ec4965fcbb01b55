"""Whom `discover` believes: the first key seen for an account, and nobody who shows another."""

from dataclasses import replace

from pds_lite.box.mdns import FoundBox
from pds_lite.cli.discover import judge
from pds_lite.cli.main import main

MINE = FoundBox(
    "pds-lite alice (aaaaaa)", "pds-lite.local.", 80, ("10.0.0.2",), "did:plc:a", "alice.test", "1", "key-a", True, ""
)
COPY = replace(MINE, host="pds-aaaaaa.local.", fingerprint="key-b")


def test_the_first_key_seen_is_remembered_and_known_from_then_on():
    known = {}
    assert judge([MINE], known) == ["known"]
    assert known == {"did:plc:a": "key-a"}
    assert judge([MINE], known) == ["known"]


def test_another_key_for_a_known_account_is_an_impostor_and_does_not_replace_it():
    known = {"did:plc:a": "key-a"}
    (verdict,) = judge([COPY], known)
    assert verdict.startswith("impostor")
    assert known == {"did:plc:a": "key-a"}


def test_two_boxes_that_claim_one_account_are_told_apart_only_by_what_is_remembered():
    assert [verdict.partition(":")[0] for verdict in judge([MINE, COPY], {"did:plc:a": "key-a"})] == [
        "known",
        "impostor",
    ]
    known = {}
    assert [verdict.partition(":")[0] for verdict in judge([MINE, COPY], known)] == ["impostor", "impostor"]
    assert known == {}


def test_a_broken_claim_is_an_impostor_and_teaches_nothing():
    known = {}
    assert judge([replace(MINE, problem="its signature is wrong")], known) == ["impostor: its signature is wrong"]
    assert known == {}


def test_unclaimed_boxes_are_neither():
    assert judge([replace(MINE, did="", handle="", claimed=False)], {}) == ["unclaimed"]


def test_without_a_network_it_says_so(monkeypatch, capsys, tmp_path):
    def no_interfaces(**_named):
        raise RuntimeError("No interfaces to listen on")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("pds_lite.box.mdns.lan_addresses", tuple)
    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", no_interfaces)
    assert main(["discover"]) == 1
    assert capsys.readouterr().err == "pds-lite: there is no network to listen on\n"
