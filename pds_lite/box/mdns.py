"""The box on the LAN: announced by multicast DNS, found by `pds-lite discover`.

Rules. Instance names carry the key's fingerprint, so no two boxes ever share one: zeroconf's conflict renaming does not
work between hosts, and a goodbye for a shared name would remove the other box. `pds-lite.local` is taken only if nobody
answers for it; when two boxes took it at once, the one with the greater fingerprint gives it up. Addresses are watched,
and a change makes the announcement anew. Only private and link-local IPv4 and link-local or unique-local IPv6 addresses
are announced: a server in a data centre stays silent. zeroconf (about 6 MB) is imported when the announcement starts.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.crypto.ed25519 import fingerprint
from pds_lite.box.mdns_claim import Claim, Place, check, host_suffix, txt_record

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICES = ("_http._tcp.local.", "_atproto-pds._tcp.local.")
COMMON_HOST = "pds-lite.local."
_PROBE_MS = 1500
_WATCH_S = 15.0
_MAX_FOUND = 64
_MAX_LABEL = 63
_log = logging.getLogger(__name__)


def lan_addresses() -> tuple[str, ...]:
    """Addresses of this machine that may be announced, IPv4 first, at most eight."""
    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            address = ipaddress.ip_address(text)
            if address.is_private and not address.is_loopback and not address.is_unspecified:
                found.append(address)
    return tuple(str(address) for address in sorted(found, key=lambda a: (a.version, a))[:8])


class Announcer:
    """Keeps one box announced: `start` in the event loop, `stop` with a goodbye.

    `claim` is asked at every look around, so a new owner or handle is announced soon; `sign` gives the Ed25519
    signature of a message under `public_key`.
    """

    def __init__(
        self,
        claim: Callable[[], Claim],
        port: int,
        public_key: bytes,
        sign: Callable[[bytes], bytes],
        *,
        addresses: Callable[[], tuple[str, ...]] = lan_addresses,
        watch_seconds: float = _WATCH_S,
    ) -> None:
        self._claim = claim
        self._port = port
        self._public_key = public_key
        self._sign = sign
        self._addresses = addresses
        self._watch_seconds = watch_seconds
        self._zeroconf: AsyncZeroconf | None = None
        self._infos: list[AsyncServiceInfo] = []
        self._announced: tuple[Claim, tuple[str, ...]] | None = None
        self._gave_up_common = False
        self._task: asyncio.Task[None] | None = None
        self.host = ""
        """The host name in force, with the trailing dot; empty while nothing is announced."""

    def start(self) -> None:
        """Begins announcing in the background; a LAN that refuses is reported in the log and tried again."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="mdns")

    async def stop(self) -> None:
        """Says goodbye and ends; returns when the packets are out."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._withdraw()

    async def _watch(self) -> None:
        """Announces, and again whenever the addresses changed or another box turned out to own the common name."""
        while True:
            try:
                addresses = await asyncio.to_thread(self._addresses)
                claim = self._claim()
                if (claim, addresses) != self._announced:
                    await self._withdraw()
                    if addresses:
                        await self._announce(claim, addresses)
                elif self._zeroconf and self.host == COMMON_HOST and await self._lost_common_host(self._zeroconf):
                    self._gave_up_common = True
                    await self._withdraw()
                    continue
            except OSError as problem:
                _log.warning("mDNS announcement failed: %s", problem)
                await self._withdraw()
            await asyncio.sleep(self._watch_seconds)

    async def _announce(self, claim: Claim, addresses: tuple[str, ...]) -> None:
        from zeroconf import NonUniqueNameException
        from zeroconf.asyncio import AsyncServiceInfo

        self._zeroconf = zeroconf = _open_zeroconf(addresses)
        self.host = await self._choose_host(claim, zeroconf)
        packed = [ipaddress.ip_address(text).packed for text in addresses]
        for service in SERVICES:
            place = Place(self._instance(claim, service), self.host, self._port, addresses)
            record: dict[Any, Any] = {**txt_record(claim, place, self._public_key, self._sign)}
            info = AsyncServiceInfo(
                service, place.instance, port=self._port, properties=record, server=self.host, addresses=packed
            )
            with contextlib.suppress(NonUniqueNameException):  # our own record from before a crash, still cached
                await (await zeroconf.async_register_service(info, cooperating_responders=True))
            self._infos.append(info)
        self._announced = (claim, addresses)
        _log.info("on the LAN as %s (%s)", self.host.rstrip("."), fingerprint(self._public_key))

    def _instance(self, claim: Claim, service: str) -> str:
        who = claim.handle or "unclaimed"
        room = 63 - len("pds-lite  ()") - 6
        return (
            f"pds-lite {who[:room].replace('.', '-')} ({fingerprint(self._public_key).replace('-', '')[:6]}).{service}"
        )

    async def _choose_host(self, claim: Claim, listener: "AsyncZeroconf") -> str:
        """The first of: the common name, one with the DID's letters, one with the key's, that is free."""
        key_letters = fingerprint(self._public_key)
        letters = host_suffix(claim.did, self._public_key)
        names = [f"pds-{letters}.local.", f"pds-{letters}-{key_letters[:8]}.local."]
        if not self._gave_up_common:
            names.insert(0, COMMON_HOST)
        for name in names[:-1]:
            if not await self._others_at(name, listener):
                return name
        return names[-1]

    async def _others_at(self, host: str, listener: "AsyncZeroconf") -> set[str]:
        """Addresses other than ours that a listener heard for a host name, or hears within the probe time."""
        from zeroconf import AddressResolver, DNSQuestionType  # type: ignore[attr-defined]

        resolver = AddressResolver(host)
        await resolver.async_request(listener.zeroconf, _PROBE_MS, DNSQuestionType.QM)
        ours = set(await asyncio.to_thread(self._addresses))
        return {text.partition("%")[0] for text in resolver.parsed_addresses()} - ours

    async def _lost_common_host(self, listener: "AsyncZeroconf") -> bool:
        """True if another box also holds the common name and has the smaller fingerprint (or does not say)."""
        if not await self._others_at(COMMON_HOST, listener):
            return False
        mine = fingerprint(self._public_key)
        rivals = [box.fingerprint for box in await _browse(listener, 1.5) if box.host == COMMON_HOST]
        others = [other for other in rivals if other != mine]
        if others:
            return min(others) < mine
        # No box claims the name any more: a rival that gave it up while we listened, or a machine of another kind.
        # Only the latter still answers a listener that remembers nothing; else both would give up, and nobody have it.
        afresh = _open_zeroconf(await asyncio.to_thread(self._addresses))
        try:
            return bool(await self._others_at(COMMON_HOST, afresh))
        finally:
            await afresh.async_close()

    async def _withdraw(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        infos, self._infos = self._infos, []
        self._announced, self.host = None, ""
        if zeroconf is None:
            return
        for info in infos:
            await (await zeroconf.async_unregister_service(info))
        await zeroconf.async_close()


@dataclass(frozen=True, slots=True)
class FoundBox:
    """One answer to `discover`. `problem` is empty if the box signed what it says."""

    instance: str
    host: str
    port: int
    addresses: tuple[str, ...]
    did: str
    handle: str
    version: str
    fingerprint: str
    claimed: bool
    problem: str


async def discover(seconds: float) -> list[FoundBox]:
    """Every box that answered within `seconds`, at most 64, by instance name. Raises OSError without a network."""
    zeroconf = _open_zeroconf(lan_addresses())
    try:
        return await _browse(zeroconf, seconds)
    finally:
        await zeroconf.async_close()


def _open_zeroconf(addresses: tuple[str, ...]) -> "AsyncZeroconf":
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    logging.getLogger("zeroconf").addFilter(_without_trace)
    v4 = [text for text in addresses if ":" not in text]
    if v4:
        return AsyncZeroconf(interfaces=v4, ip_version=IPVersion.V4Only)
    try:
        return AsyncZeroconf(ip_version=IPVersion.V6Only)
    except RuntimeError:
        raise OSError(errno.ENETUNREACH, "there is no network to listen on") from None


def _without_trace(record: logging.LogRecord) -> bool:
    """A cable pulled out is a line in the log, to which zeroconf would add where in asyncio it noticed."""
    record.exc_info = None
    return True


async def _browse(zeroconf: "AsyncZeroconf", seconds: float) -> list[FoundBox]:
    from zeroconf import DNSQuestionType, ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

    names: set[str] = set()

    def on_change(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
        if state_change is ServiceStateChange.Removed:
            names.discard(name)
        elif len(names) < _MAX_FOUND:
            names.add(name)

    # Answers by multicast only: a unicast one reaches just one of the programs that share port 5353 on a machine,
    # so a listener on the box itself would miss it.
    asked = DNSQuestionType.QM
    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICES[1], handlers=[on_change], question_type=asked)
    await asyncio.sleep(seconds)
    infos = [AsyncServiceInfo(SERVICES[1], name) for name in sorted(names)]
    answered = await asyncio.gather(*(info.async_request(zeroconf.zeroconf, _PROBE_MS, asked) for info in infos))
    await browser.async_cancel()
    return [_found(info) for info, ok in zip(infos, answered, strict=True) if ok]


def _found(info: "AsyncServiceInfo") -> FoundBox:
    record = {
        key.decode("utf-8", "replace"): (value or b"").decode("utf-8", "replace")
        for key, value in info.properties.items()
    }
    addresses = tuple(text.partition("%")[0] for text in info.parsed_addresses())
    place = Place(info.name, info.server or "", info.port or 0, addresses)
    return FoundBox(
        instance=info.name.removesuffix("." + SERVICES[1]),
        host=place.host,
        port=place.port,
        addresses=addresses,
        did=record.get("did", ""),
        handle=record.get("handle", ""),
        version=record.get("version", ""),
        fingerprint=record.get("fp", ""),
        claimed=record.get("claimed") == "yes",
        problem=check(record, place),
    )
