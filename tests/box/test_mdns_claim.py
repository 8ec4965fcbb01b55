"""A LAN claim verifies only unchanged, at the place it was signed for, under the key it shows."""

import dataclasses

import pytest

from pds_lite.atproto.crypto.ed25519 import Ed25519Key, fingerprint
from pds_lite.box.mdns_claim import Claim, Place, check, host_suffix, txt_record

KEY = Ed25519Key.from_bytes(b"\x01" * 32)
OTHER = Ed25519Key.from_bytes(b"\x02" * 32)
PLACE = Place("pds-lite alice._http._tcp.local.", "pds-lite.local.", 2583, ("10.0.0.5", "fe80::1"))
CLAIM = Claim("did:plc:abcdefghijklmnopqrstuvwx", "alice.example.com", "0.1.0")


def signed():
    return txt_record(CLAIM, PLACE, KEY.public_key, KEY.sign)


def test_a_claim_verifies_where_it_was_made():
    assert check(signed(), PLACE) == ""


@pytest.mark.parametrize("field", ["did", "handle", "version", "claimed", "addr"])
def test_a_changed_field_is_noticed(field):
    assert check(signed() | {field: "10.0.0.5x"}, PLACE) == "its signature is wrong"


@pytest.mark.parametrize("change", [{"host": "other.local."}, {"port": 80}, {"instance": "x._http._tcp.local."}])
def test_a_claim_copied_to_another_name_or_port_is_noticed(change):
    assert check(signed(), dataclasses.replace(PLACE, **change)) == "its signature is wrong"


def test_a_claim_copied_to_another_address_is_noticed():
    assert "address" in check(signed(), dataclasses.replace(PLACE, addresses=("10.0.0.66",)))


def test_another_key_shows_another_fingerprint():
    forged = txt_record(CLAIM, PLACE, OTHER.public_key, OTHER.sign)
    assert check(forged, PLACE) == ""
    assert forged["fp"] != signed()["fp"]
    assert check(forged | {"fp": fingerprint(KEY.public_key)}, PLACE) != ""


@pytest.mark.parametrize(
    "change", [{"key": "!"}, {"sig": ""}, {"sig": "AAAA"}, {"key": "AAAA"}, {"handle": "x" * 2000}]
)
def test_malformed_records_are_named_not_raised(change):
    assert check(signed() | change, PLACE)
    assert check({}, PLACE) == "its record is incomplete"


def test_the_host_suffix_is_six_letters_also_without_a_did():
    assert host_suffix("did:plc:abcdefgh", KEY.public_key) == "abcdef"
    assert host_suffix("did:web:a.io", KEY.public_key) == host_suffix("", KEY.public_key)
    assert len(host_suffix("", KEY.public_key)) == 6
