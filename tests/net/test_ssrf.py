"""Only ordinary public unicast addresses are public, and only plain URLs are taken."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.errors import BadInput
from pds_lite.net.ssrf import is_loopback, is_public, parse_url


def words(text: str) -> list[str]:
    return text.split()


PRIVATE = words(
    """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254
169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1
::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:a00:1 ::8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::a00:1 64:ff9b:1::1 100::1
2001::1 2001:0:53aa:64c::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:a00:1:: 2002:808:808::1 3fff::1
fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1 5f00::1 4000::1
0:0:0:0:0:ffff:7f00:1
    """
)

PUBLIC = words(
    """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 172.15.255.255 172.32.0.1 192.0.1.1
192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255 2606:4700:4700::1111 2a01:4f8::1
2400:cb00::1 2001:4860:4860::8888 2001:200::1 2620:fe::fe
    """
)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_ordinary_public_unicast_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_taken(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.1.1", "[::1]", "8.8.8.8 ", "08.8.8.8"]
)
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@given(st.ip_addresses())
def test_never_laxer_than_the_standard_librarys_view(address: IPv4Address | IPv6Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not isinstance(address, IPv6Address) or (address.ipv4_mapped, address.sixtofour) == (None, None)


def test_loopback_is_known_for_development() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.8.8.8")
    assert is_loopback("::1")
    for address in ("::ffff:127.0.0.1", "10.0.0.1", "localhost", "0.0.0.0"):
        assert not is_loopback(address)


def test_a_url_is_taken_apart() -> None:
    target = parse_url("https://Example.COM:8443/a/b?c=d#e")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.com", 8443, "/a/b?c=d")
    assert (target.authority, target.origin) == ("example.com:8443", "https://example.com:8443")
    assert parse_url("http://example.com.").authority == "example.com"
    assert parse_url("https://[2001:db8::1]/").authority == "[2001:db8::1]"
    assert parse_url("https://example.com?x").path == "/?x"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "javascript:alert(1)",
        ),
        *(
            "https://user@example.com/",
            "https://user:pw@example.com/",
            "https://example.com@127.0.0.1/",
            "https://:pw@a.b/",
        ),
        *("https://exa mple.com/", "https://example.com/\r\nX: y", "https://example.com/\0", "https://exämple.com/"),
        *("https://example.com\\@127.0.0.1/", "https://example.com:0/", "https://example.com:99999/", "https://a.b:x/"),
        *("https://-a.b/", "https://a..b/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://a.b/" + "x" * 3000),
        "https://" + "a" * 64 + ".com/",
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(BadInput):
        parse_url(url)


@given(st.text(max_size=100))
def test_any_text_is_a_target_or_a_bad_input(text: str) -> None:
    for url in (text, f"https://{text}", f"https://a.b/{text}"):
        try:
            target = parse_url(url)
        except BadInput:
            continue
        assert "\r" not in target.path + target.host
        assert "@" not in target.host
