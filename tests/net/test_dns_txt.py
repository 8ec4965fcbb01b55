"""TXT look-ups against a real DNS server on loopback."""

import pytest

from pds_lite.errors import UpstreamFailure
from pds_lite.net import dns_txt
from tests.net.dns_server import SILENT, dns_server

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OTHER = "did:web:other.example.com"
NAME = "_atproto.alice.example.com"


async def lookup(records):
    async with dns_server({NAME: records}) as (server, asked):
        dids = await dns_txt.lookup_dids("alice.example.com", server=server)
        assert asked == [NAME]
        return dids


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([f'"did={DID}"'], [DID]),
        ([f'"did={DID}"', f'"did={DID} "'], [DID]),
        ([f'"did={DID}"', f'"did={OTHER}"'], [DID, OTHER]),
        (['"v=spf1 -all"', f'"did={DID}"'], [DID]),
        ([f'"did={DID[:9]}" "{DID[9:]}"'], [DID]),
        (['"did=nonsense"'], []),
        ([f'"DID={DID}"'], []),
        (['"\\255\\254"'], []),
        ([], []),
        ("NXDOMAIN", []),
    ],
)
async def test_the_different_dids_named_are_found(records, expected):
    assert await lookup(records) == expected


async def test_a_server_that_fails_is_named_as_such():
    with pytest.raises(UpstreamFailure, match=r"TXT _atproto\.alice\.example\.com"):
        await lookup("SERVFAIL")


async def test_a_silent_server_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(dns_txt, "TIMEOUT_S", 0.2)
    with pytest.raises(UpstreamFailure, match="no DNS server answered"):
        await lookup(SILENT)


async def test_a_handle_too_long_for_a_name_under_it_has_no_record():
    handle = ".".join(["a" * 61] * 4) + ".com"
    assert await dns_txt.lookup_dids(handle, server="127.0.0.1:1") == []
