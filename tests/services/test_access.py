"""AccessControl: each kind of credential opens what its method says, and nothing else."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pds_lite.atproto import service_auth
from pds_lite.atproto.crypto import K256Key
from pds_lite.clock import Clock
from pds_lite.errors import RateLimited, Unauthorized
from pds_lite.services import key_store
from pds_lite.services.access import NOBODY, Access, AccessControl, Kind, Principal
from pds_lite.services.sessions import Sessions
from pds_lite.services.throttle import PASSWORDS, Throttle
from pds_lite.storage.store import Store

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
SERVICE_TOKEN = service_auth.mint(K256Key.generate(b"\1" * 40), DID, "did:web:a.example", "x", 0, 60, "jti")
SERVICE = Principal(Kind.SERVICE, "did:web:video.example.com", lxm="x")
ADMIN = "Basic " + b64encode(b"admin:a:secret").decode()


class ServiceAuth:
    """Accepts SERVICE_TOKEN only."""

    async def accept(self, token: str, nsid: str, *, only_own_account: bool = False) -> Principal:
        if token != SERVICE_TOKEN:
            raise Unauthorized("no", error="BadJwt")
        return SERVICE


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AccessControl, dict[str, str]]]:
    """An AccessControl, and one header of each kind."""
    store = Store.open(tmp_path_factory.mktemp("access") / "store")
    config: Any = SimpleNamespace(service_did="did:web:a.example", access_ttl=7200, admin_password="a:secret")
    sessions = Sessions(config, Clock(), store, key_store.generate())

    async def open_all() -> dict[str, str]:
        owner = await sessions.open(DID, None, True)
        app = await sessions.open(DID, "phone", False)
        return {
            "owner": f"Bearer {owner.access_jwt}",
            "app": f"bearer  {app.access_jwt}",
            "refresh": f"Bearer {owner.refresh_jwt}",
            "service": f"Bearer {SERVICE_TOKEN}",
            "admin": ADMIN,
        }

    headers = asyncio.run(open_all())
    accepting: Any = ServiceAuth()
    no_oauth: Any = None
    throttle = Throttle(Clock(), lambda _address: False, enabled=False)
    yield AccessControl(config, sessions, accepting, no_oauth, throttle), headers
    store.close()


OPENED_BY = {
    Access.PUBLIC: {"owner", "app", "refresh", "service", "admin"},
    Access.OPTIONAL: {"owner", "app", "admin"},
    Access.LENIENT: {"owner", "app", "admin"},
    Access.SESSION: {"owner", "app"},
    Access.OWNER: {"owner"},
    Access.REFRESH: {"refresh"},
    Access.REFRESH_EXPIRED: {"refresh"},
    Access.ADMIN: {"admin"},
    Access.SERVICE: {"service"},
    Access.SESSION_OR_SERVICE: {"owner", "app", "service"},
    Access.OPTIONAL_SERVICE: {"service"},
}
WITHOUT = {Access.PUBLIC, Access.OPTIONAL, Access.LENIENT, Access.OPTIONAL_SERVICE}


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize("kind", ["owner", "app", "refresh", "service", "admin"])
def test_the_table_of_who_may_call_what(shown: tuple[AccessControl, dict[str, str]], access: Access, kind: str) -> None:
    control, headers = shown

    async def ask() -> Principal:
        return await control.authenticate(headers[kind], access, "com.example.method")

    if kind in OPENED_BY[access]:
        principal = asyncio.run(ask())
        expected = Kind.NOBODY if access is Access.PUBLIC else Kind({"app": "app-password"}.get(kind, kind))
        assert principal.kind is expected
    elif access is Access.LENIENT:
        assert asyncio.run(ask()) == NOBODY
    else:
        with pytest.raises(Unauthorized) as refused:
            asyncio.run(ask())
        assert (refused.value.status, refused.value.error) in [
            (401, "AuthenticationRequired") if access is Access.ADMIN else (400, "InvalidToken"),
            (401, "BadJwt"),
        ] or (kind == "admin" and access in REFRESHING and refused.value.error == "AuthMissing")


REFRESHING = {Access.REFRESH, Access.REFRESH_EXPIRED}


@pytest.mark.parametrize("header", ["DPoP x", "Basic eDp5", "Digest x"])
def test_another_scheme_than_a_method_takes_is_named_as_at_the_reference(
    shown: tuple[AccessControl, dict[str, str]], header: str
) -> None:
    control, _headers = shown
    missing = (400, "InvalidToken") if header.startswith("Digest") else (401, "AuthMissing")
    expected = {Access.ADMIN: (401, "AuthenticationRequired"), Access.REFRESH: missing, Access.REFRESH_EXPIRED: missing}
    for access, error in expected.items():
        with pytest.raises(Unauthorized) as refused:
            asyncio.run(control.authenticate(header, access, "x"))
        assert (refused.value.status, refused.value.error) == error


@pytest.mark.parametrize("access", list(Access))
def test_without_a_credential(shown: tuple[AccessControl, dict[str, str]], access: Access) -> None:
    control, _headers = shown
    for nothing in (None, ""):
        if access in WITHOUT:
            assert asyncio.run(control.authenticate(nothing, access, "x")) == NOBODY
        else:
            with pytest.raises(Unauthorized) as refused:
                asyncio.run(control.authenticate(nothing, access, "x"))
            name = "AuthenticationRequired" if access is Access.ADMIN else "AuthMissing"
            assert (refused.value.status, refused.value.error) == (401, name)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer a.b.c",
        "Bearer " + "x" * 10_000,
        "Digest x",
        "DPoP x",
        "Basic !!!",
        "Basic /w==",
        "Basic " + b64encode(b"admin:wrong").decode(),
        "Basic " + b64encode(b"root:a:secret").decode(),
        "Bearer \ud800",
    ],
)
def test_malformed_credentials_open_nothing(shown: tuple[AccessControl, dict[str, str]], header: str) -> None:
    control, _headers = shown
    assert asyncio.run(control.authenticate(header, Access.LENIENT, "x")) == NOBODY
    for access in set(Access) - {Access.PUBLIC, Access.LENIENT}:
        with pytest.raises(Unauthorized):
            asyncio.run(control.authenticate(header, access, "x"))


def test_without_an_admin_password_nobody_is_admin(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(admin_password=None)
    nothing: Any = None
    control = AccessControl(config, nothing, nothing, nothing, nothing)

    for password in (b"admin:", b"admin:None"):
        with pytest.raises(Unauthorized):
            asyncio.run(control.authenticate("Basic " + b64encode(password).decode(), Access.ADMIN, "x"))


def test_the_administrators_password_is_guessed_no_faster_than_the_owners() -> None:
    config: Any = SimpleNamespace(service_did="did:web:a.example", admin_password="a:secret")
    nothing: Any = None
    throttle = Throttle(Clock(), lambda _address: False)
    control = AccessControl(config, nothing, nothing, nothing, throttle)

    def ask(header: str, address: str, access: Access = Access.ADMIN) -> Principal:
        return asyncio.run(control.authenticate(header, access, "x", address=address))

    for _ in range(PASSWORDS[False].burst + 1):
        assert ask(ADMIN, "203.0.113.1").kind is Kind.ADMIN, "a right password is given back"
    for number in range(PASSWORDS[False].burst):
        with pytest.raises(Unauthorized):
            ask("Basic " + b64encode(b"admin:guess").decode(), f"203.0.113.{number}")
    for access in (Access.ADMIN, Access.OPTIONAL):
        with pytest.raises(RateLimited):
            ask(ADMIN, "198.51.100.1", access)
    assert ask(ADMIN, "198.51.100.1", Access.LENIENT) == NOBODY
    assert ask(ADMIN, "192.168.1.5").kind is Kind.ADMIN, "the home network has a budget of its own"
    throttle.take_password("198.51.100.1")  # and the owner's is untouched
