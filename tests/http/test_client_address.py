"""Who is calling is what trusted proxies say, and nothing that a stranger wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.errors import ConfigError
from pds_lite.http.client_address import ProxyTrust, rate_key

TRUST = ProxyTrust(["127.0.0.1", "::1", "10.0.0.0/8", "unix"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),  # a stranger's header
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # what the client itself sent is left of it
        ("127.0.0.1", "6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"),  # two proxies
        ("127.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),  # a client inside the proxies' network
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("127.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (None, "198.51.100.1", "198.51.100.1"),
        (None, "", "unix"),
    ],
)
def test_the_rightmost_untrusted_address_is_the_client(peer: str | None, forwarded: str, client: str) -> None:
    assert TRUST.client(peer, forwarded) == client


def test_a_unix_peer_is_trusted_only_by_setting() -> None:
    assert ProxyTrust([]).client(None, "198.51.100.1") == "unix"


@given(st.text(max_size=60), st.sampled_from(["127.0.0.1", "192.0.2.1", "::1"]))
def test_no_header_raises_and_none_adds_a_hop_right_of_the_proxys(header: str, peer: str) -> None:
    assert TRUST.client(peer, header)
    assert TRUST.client("127.0.0.1", f"{header}, 198.51.100.7") == "198.51.100.7"


def test_the_scheme_is_believed_from_a_proxy_only() -> None:
    assert TRUST.scheme("127.0.0.1", "https", "http") == "https"
    assert TRUST.scheme("127.0.0.1", "http, https", "http") == "https"
    assert TRUST.scheme("127.0.0.1", "gopher", "http") == "http"
    assert TRUST.scheme("192.0.2.1", "https", "http") == "http"


def test_one_household_is_one_key() -> None:
    assert rate_key("192.0.2.1") == "192.0.2.1"
    assert rate_key("2001:db8:1:2:3:4:5:6") == rate_key("2001:db8:1:2::1")
    assert rate_key("2001:db8:1:2::1") != rate_key("2001:db8:1:3::1")
    assert rate_key("unix") == "unix"


def test_a_proxy_that_is_no_address_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r'trusted_proxies: "caddy\.lan"'):
        ProxyTrust(["caddy.lan"])
