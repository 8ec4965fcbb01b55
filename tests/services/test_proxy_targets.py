"""Where a call may go: a stranger's DID document cannot lead this server into a private network.

The parts are those of a public box (no development mode); only names are resolved by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite import config as settings
from pds_lite.atproto import did_doc
from pds_lite.atproto.did_doc import DidDoc
from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.clock import Clock
from pds_lite.errors import BadInput, Forbidden, NotFound, UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.services.access import Kind, Principal
from pds_lite.services.feed_generators import GET_FEED, GET_FEED_SKELETON
from pds_lite.services.identity import Identity
from pds_lite.services.proxy import ProxiedCall, Proxy
from pds_lite.services.proxy_targets import ProxyTargets
from pds_lite.storage.store import Store, StoreLimits

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OWNER = Principal(Kind.OWNER, DID, privileged=True)
TIMELINE = "app.bsky.feed.getTimeline"
PUBLIC = "93.184.216.34"


class Names:
    """A resolver that answers what the test says, a different thing each time if it likes, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class Documents:
    """One DID document, whose service is at `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def did_doc(self, did: str) -> DidDoc:
        entry = {"id": "#svc", "type": "X", "serviceEndpoint": self.endpoint}
        return did_doc.parse({"id": did, "service": [entry]}, did)


class Tokens:
    """Stands in for the signing key."""

    def mint(self, _aud: str, _lxm: str) -> str:
        return "token"

    token_for_read = mint


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Addresses the process would have connected to; nobody is home anywhere."""
    tried: list[tuple[str, int]] = []

    async def create_connection(_self: Any, _factory: Any, host: str, port: int, **_more: Any) -> Any:
        tried.append((host, port))
        raise OSError("nobody home")

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", create_connection)
    return tried


@pytest.fixture
def config(tmp_path: Path) -> settings.Config:
    return settings.load(tmp_path, environ={}, overrides={"hostname": "pds.example.com"})


async def _call(config: settings.Config, names: Names, identity: Any, header: str = f"{DID}#svc") -> None:
    http = HttpClient(resolve=names)
    proxy = Proxy(http, ProxyTargets(config, identity), Tokens())
    try:
        await proxy.call(OWNER, ProxiedCall("com.example.read", "GET", "", {"atproto-proxy": header}))
    finally:
        await http.close()


PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::7f00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "not an address",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_no_connection_to_an_address_that_is_not_public(
    config: settings.Config, connects: list[tuple[str, int]], address: str
) -> None:
    with pytest.raises(UpstreamFailure, match="not a public server"):
        await _call(config, Names([address]), Documents("https://svc.example.com"))
    with pytest.raises(UpstreamFailure, match="not a public server"):
        await _call(config, Names([PUBLIC, address]), Documents("https://svc.example.com"))
    assert connects == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "[::ffff:7f00:1]", "169.254.169.254"])
async def test_addresses_in_documents_are_judged_alike(
    config: settings.Config, connects: list[tuple[str, int]], host: str
) -> None:
    with pytest.raises((UpstreamFailure, BadInput)):
        await _call(config, Names([host.strip("[]")]), Documents(f"https://{host}"))
    assert connects == []


async def test_the_judged_address_is_the_one_connected_to(
    config: settings.Config, connects: list[tuple[str, int]]
) -> None:
    """A name that leads elsewhere when it is asked a second time (DNS rebinding) is not asked a second time."""
    names = Names([PUBLIC], ["127.0.0.1"])
    with pytest.raises(UpstreamFailure, match="cannot be reached"):
        await _call(config, names, Documents("https://svc.example.com"))
    assert names.asked == ["svc.example.com"]
    assert connects == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://svc.example.com",
        "http://localhost:2583",
        "https://svc.example.com/path",
        "https://svc.example.com?query",
        "https://svc.example.com#fragment",
        "https://user@svc.example.com",
        "ftp://svc.example.com",
        "file:///etc/passwd",
        "https://svc.example.com\r\nX: y",
        "https://",
        "https://svc.example.com:0",
        "svc.example.com",
    ],
)
async def test_an_endpoint_that_is_no_https_origin_is_not_connected_to(
    config: settings.Config, connects: list[tuple[str, int]], endpoint: str
) -> None:
    names = Names([PUBLIC])
    with pytest.raises(BadInput):
        await _call(config, names, Documents(endpoint))
    assert (connects, names.asked) == ([], [])


@pytest.mark.parametrize("port", [22, 25, 1023])
async def test_ports_of_other_protocols_are_not_connected_to(
    config: settings.Config, connects: list[tuple[str, int]], port: int
) -> None:
    with pytest.raises(UpstreamFailure, match="not a web server's"):
        await _call(config, Names([PUBLIC]), Documents(f"https://svc.example.com:{port}"))
    assert connects == []


@pytest.fixture
async def identity(config: settings.Config, tmp_path: Path) -> AsyncIterator[tuple[Identity, Names]]:
    names = Names(["192.168.1.1"])
    http = HttpClient(resolve=names)
    store = Store.open(tmp_path / "store", StoreLimits(map_bytes=16 << 20))
    yield Identity(config, Clock(), http, store), names
    await http.close()
    store.close()


async def test_the_document_itself_is_not_fetched_from_a_private_address(
    config: settings.Config, connects: list[tuple[str, int]], identity: tuple[Identity, Names]
) -> None:
    with pytest.raises(UpstreamFailure, match="not a public server"):
        await _call(config, Names([PUBLIC]), identity[0], "did:web:router.example.com#svc")
    assert connects == []
    assert identity[1].asked == ["router.example.com"]


@pytest.mark.parametrize("did", ["did:web:localhost", "did:web:localhost%3A2583", "did:key:zQ3sh", "did:web:a.com:b"])
async def test_dids_that_cannot_be_public_services_are_refused(
    config: settings.Config, connects: list[tuple[str, int]], identity: tuple[Identity, Names], did: str
) -> None:
    with pytest.raises(BadInput) as refused:
        await _call(config, Names([PUBLIC]), identity[0], f"{did}#svc")
    assert not isinstance(refused.value, NotFound)
    assert connects == []


async def test_services_of_the_settings_need_no_document_and_may_be_in_the_lan(
    config: settings.Config, connects: list[tuple[str, int]]
) -> None:
    names = Names(["192.168.1.7"])
    known = (
        (config.appview_did, "bsky_appview"),
        (config.chat_did, "bsky_chat"),
        (config.report_did, "atproto_labeler"),
    )
    for did, service in known:
        with pytest.raises(UpstreamFailure, match="cannot be reached"):
            await _call(config, names, Documents("https://wrong.example"), f"{did}#{service}")
    assert connects == [("192.168.1.7", 443)] * 3
    assert "wrong.example" not in names.asked


# What a principal may have called


def _oauth(scope: str) -> Principal:
    return Principal(Kind.OAUTH, DID, scopes=ScopeSet.parse(scope))


@pytest.mark.parametrize(
    ("scope", "nsid", "lxm", "allowed"),
    [
        ("rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview", TIMELINE, None, True),
        ("rpc:app.bsky.feed.getTimeline?aud=*", TIMELINE, None, True),
        ("rpc:app.bsky.feed.getTimeline?aud=did:web:other.example%23bsky_appview", TIMELINE, None, False),
        ("rpc:app.bsky.feed.getPosts?aud=*", TIMELINE, None, False),
        ("rpc:app.bsky.feed.getFeed?aud=*", GET_FEED, GET_FEED_SKELETON, False),
        (
            "rpc?lxm=app.bsky.feed.getFeed&lxm=app.bsky.feed.getFeedSkeleton&aud=*",
            GET_FEED,
            GET_FEED_SKELETON,
            True,
        ),
        ("transition:generic", TIMELINE, None, True),
        ("transition:generic", "chat.bsky.convo.listConvos", None, False),
        ("transition:generic transition:chat.bsky", "chat.bsky.convo.listConvos", None, True),
        ("", TIMELINE, None, False),
    ],
)
async def test_an_app_has_called_what_its_scopes_cover_at_that_service(  # noqa: PLR0913, RUF100
    config: settings.Config, connects: list[tuple[str, int]], scope: str, nsid: str, lxm: str | None, allowed: bool
) -> None:
    http = HttpClient(resolve=Names([PUBLIC]))
    proxy = Proxy(http, ProxyTargets(config, Documents("https://svc.example.com")), Tokens())
    call = proxy.call(_oauth(f"atproto {scope}"), ProxiedCall(nsid, "GET", "", {}), aud=DID, lxm=lxm)
    if allowed:
        with pytest.raises(UpstreamFailure):
            await call
        assert connects == [(PUBLIC, 443)]
    else:
        with pytest.raises(Forbidden, match="Missing required scope") as refused:
            await call
        assert refused.value.error == "ScopeMissingError"
        assert connects == []
    await http.close()
