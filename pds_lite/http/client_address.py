"""Who is really calling, and over which scheme, when a reverse proxy stands in between.

Rules that hold here
- X-Forwarded-For and X-Forwarded-Proto are believed only from a peer listed in the `trusted_proxies` setting; from
  anybody else they are what a stranger wrote.
- Of X-Forwarded-For the rightmost address that is not itself a trusted proxy counts: everything left of it is hearsay.
- A peer on our unix socket has no address; it is trusted if the list says "unix".
- It knows nothing of limits or accounts: `rate_key` only says which addresses are one household.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pds_lite.errors import ConfigError

UNIX = "unix"
"""In the setting: whoever reaches the unix socket. As an address: a peer on it whose client is unknown."""

_MAX_HOPS = 32
Network = IPv4Network | IPv6Network


class ProxyTrust:
    """The proxies whose forwarding headers are believed."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        """`proxies`: addresses, networks in CIDR form, or "unix". Raises ConfigError for anything else."""
        entries = tuple(proxies)
        self._unix = UNIX in entries
        self._networks = tuple(_network(entry) for entry in entries if entry != UNIX)
        # The same few clients come again and again: remember the last answers.
        self.client = lru_cache(maxsize=512)(self._client)

    def _client(self, peer: str | None, forwarded_for: str) -> str:
        """The client's address in canonical form. `peer`: the socket's other end, None on a unix socket."""
        nearest = UNIX if peer is None else _canonical(peer) or peer
        if not forwarded_for or not self.trusts(peer):
            return nearest
        for entry in reversed(forwarded_for.split(",")[-_MAX_HOPS:]):
            address = _canonical(_without_port(entry.strip()))
            if address is None:
                return nearest
            nearest = address
            if not self._is_proxy(address):
                return address
        return nearest

    def trusts(self, peer: str | None) -> bool:
        """True if forwarding headers of this peer are believed."""
        if peer is None:
            return self._unix
        address = _canonical(peer)
        return address is not None and self._is_proxy(address)

    def scheme(self, peer: str | None, forwarded_proto: str, own: str) -> str:
        """What a trusted proxy says it spoke with its client, "http" or "https"; else `own`."""
        if forwarded_proto and self.trusts(peer):
            claimed = forwarded_proto.rpartition(",")[2].strip().lower()
            if claimed in ("http", "https"):
                return claimed
        return own

    def _is_proxy(self, address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=1024)
def rate_key(address: str) -> str:
    """One key for one household: an IPv4 address, or the /64 of an IPv6 address (a provider gives out no less)."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address


def _network(entry: str) -> Network:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        raise ConfigError(
            f'trusted_proxies: "{entry}" is neither an IP address, a network such as 10.0.0.0/8, nor "{UNIX}"'
        ) from None


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _canonical(text: str) -> str | None:
    """One spelling per address; IPv4-mapped IPv6 becomes IPv4, a scope id is dropped."""
    address = _parse(text.partition("%")[0])
    return None if address is None else str(address)


def _without_port(entry: str) -> str:
    """`192.0.2.1:81` and `[2001:db8::1]:81` as some proxies write them."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
