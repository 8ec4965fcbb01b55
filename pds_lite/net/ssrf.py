"""Which addresses and URLs this server may connect to when a stranger chose them.

A PDS fetches DID documents, handles and client metadata from wherever strangers say. Behind a home router the same
request could reach the router, a printer or a cloud's metadata service. So a name is resolved first, every one of its
addresses must be ordinary public unicast, and the connection goes to exactly the address that was judged
(net/http_client).

Pure functions; nothing here opens a socket or resolves a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from pds_lite.errors import BadInput

MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?"
)
_AUTHORITY_END = re.compile(r"[/?]")
_UNSAFE = re.compile(r"[^\x21-\x7e]")

_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast: everything else is refused by default."""
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo (which wraps IPv4), ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which wraps IPv4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """True for an ordinary public unicast address.

    Addresses that carry an IPv4 address inside (mapped, NAT64, 6to4, Teredo) are refused whatever they carry: no public
    server is published under one.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _REFUSED_V4)
    return parsed in _GLOBAL_V6 and not any(parsed in network for network in _REFUSED_V6)


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8 and ::1 (development)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback and not (isinstance(parsed, IPv6Address) and parsed.ipv4_mapped)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart: where to connect and what to ask for."""

    scheme: str
    host: str
    """Name or address, lower case, without brackets or trailing dot."""
    port: int
    path: str
    """Path and query, beginning with "/"."""

    @property
    def authority(self) -> str:
        """As in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"{self.scheme}://{self.authority}"


def parse_url(url: str) -> Target:
    """Takes an http or https URL apart. Raises BadInput for other schemes, user names, control characters, odd
    hosts.
    """
    if len(url) > MAX_URL or _UNSAFE.search(url) or "\\" in url:
        raise BadInput("The URL is too long or holds characters that do not belong in one")
    address, _, _fragment = url.partition("#")
    end = _AUTHORITY_END.search(address, address.find("//") + 2)
    path = address[end.start() :] if end is not None else ""
    scheme, host, port = _parse_origin(address[: len(address) - len(path)])
    return Target(scheme, host, port, path if path.startswith("/") else f"/{path}")


@lru_cache(maxsize=256)
def _parse_origin(origin: str) -> tuple[str, str, int]:
    """(scheme, host, port); most URLs that are asked for have one of a few origins. Raises BadInput."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        raise BadInput("The URL cannot be read") from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or port == 0 or parts.path:
        raise BadInput("Not a plain http or https URL")
    host = parts.hostname.removesuffix(".")
    if not _NAME.fullmatch(host) and not _is_address(host):
        raise BadInput("The URL's host is not a name")
    return parts.scheme, host, port or _PORTS[parts.scheme]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host
