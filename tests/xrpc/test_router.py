"""Every call meets the same rules before its handler, and every answer under /xrpc has the XRPC shape."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.lexicon.catalog import catalog
from pds_lite.clock import Clock
from pds_lite.errors import BadInput, NotFound, StoreBroken, StoreFull, Unauthorized, Unavailable
from pds_lite.http.asgi import WebApp
from pds_lite.http.protocol import ConnectionLimits
from pds_lite.services.access import NOBODY, Access, Kind, Principal
from pds_lite.services.rate_limits import RateLimits
from pds_lite.xrpc import router as router_module
from pds_lite.xrpc.responses import CAR, Reply
from pds_lite.xrpc.router import Call, Method, Router, query_pairs
from tests.http.http_server import Answer, Connection, RunningServer, running

OWNER = Principal(Kind.OWNER, did="did:plc:ewvi7nxzyoun6zhxrhs64oiz")
REPO = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


class FakeAccess:
    """Knows one token; what a real one decides is tested with services/access."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, Access, str]] = []

    async def authenticate(
        self, authorization: str | None, access: Access, nsid: str, _dpop: Any, _address: str
    ) -> Principal:
        self.asked.append((authorization, access, nsid))
        if access is Access.PUBLIC:
            return NOBODY
        if authorization == "Bearer owner":
            return OWNER
        if access in (Access.OPTIONAL, Access.OPTIONAL_SERVICE) and authorization is None:
            return NOBODY
        if authorization is None:
            raise Unauthorized("Authentication Required", error="AuthMissing")
        raise Unauthorized("Token could not be verified", error="InvalidToken", status=400)


calls: list[Call] = []


async def describe(_services: Any, call: Call) -> dict[str, Any]:
    calls.append(call)
    return {"did": "did:web:a.example.com", "availableUserDomains": []}


async def nothing(_services: Any, call: Call) -> None:
    calls.append(call)


async def upload(_services: Any, call: Call) -> dict[str, Any]:
    calls.append(call)
    assert call.body is not None
    call.body.limit = 1000
    return {"size": sum([len(chunk) async for chunk in call.body])}


async def export(_services: Any, _call: Call) -> Reply:
    async def chunks() -> Any:
        yield b"car"
        yield b"bytes"

    return Reply(chunks(), CAR, headers={"Vary": "Accept"})


async def links(_services: Any, _call: Call) -> dict[str, Any]:
    return {"cid": Cid.of_cbor(b"\xa0"), "raw": b"\x01"}


async def fail(_services: Any, call: Call) -> dict[str, Any]:
    raise {
        "a": NotFound("Could not locate record", error="RecordNotFound", hint="/var/lib/secret"),
        "b": StoreFull("no room in /var/lib/secret"),
        "c": StoreBroken("/var/lib/secret/data.mdb is damaged"),
        "d": RuntimeError("/var/lib/secret"),
        "e": Unavailable("try later"),
    }[call.params["rkey"]]


_SERVER, _REPO, _SYNC = "com.atproto.server.", "com.atproto.repo.", "com.atproto.sync."

ROWS = [
    (_SERVER + "describeServer", "GET", Access.PUBLIC, describe),
    (_SERVER + "getSession", "GET", Access.SESSION, describe),
    (_SERVER + "createSession", "POST", Access.PUBLIC, describe),
    (_SERVER + "activateAccount", "POST", Access.OWNER, nothing),
    (_SERVER + "createAccount", "POST", Access.OPTIONAL_SERVICE, describe),
    (_REPO + "createRecord", "POST", Access.SESSION, describe),
    (_REPO + "uploadBlob", "POST", Access.SESSION_OR_SERVICE, upload),
    (_REPO + "listRecords", "GET", Access.OPTIONAL, describe),
    (_REPO + "getRecord", "GET", Access.OPTIONAL, fail),
    (_SYNC + "getRepo", "GET", Access.OPTIONAL, export),
    (_SYNC + "getHead", "GET", Access.PUBLIC, links),
]


async def stream(_services: Any, scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["query_string"].decode()})
    await send({"type": "websocket.close"})


@contextlib.contextmanager
def served(*, limits: bool = True, **options: Any) -> Iterator[Client]:
    methods = {nsid: Method(nsid, verb, access, handler) for nsid, verb, access, handler in ROWS}
    services: Any = SimpleNamespace(limits=RateLimits(Clock(), enabled=limits), access=FakeAccess())
    router = Router(services, methods=methods, subscriptions={_SYNC + "subscribeRepos": stream}, **options)
    app = WebApp()
    router.install(app)
    calls.clear()
    with running(app, limits=ConnectionLimits(), trusted=("127.0.0.1",), websocket=router.websocket) as server:
        yield Client(server, services)


class Client:
    """One connection, and the services behind it."""

    def __init__(self, server: RunningServer, services: Any) -> None:
        self.server = server
        self.services = services

    def __call__(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        lines = [f"{method} {target if target.startswith('/') else '/xrpc/' + target} HTTP/1.1", "Host: a"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        with self.server.connect() as connection:
            connection.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
            return connection.answer(head=method == "HEAD")

    def post(self, nsid: str, value: Any, **headers: str) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self("POST", nsid, body, **{"content_type": "application/json", **headers})


@pytest.fixture(scope="module")
def ask() -> Iterator[Client]:
    with served(limits=False) as client:
        yield client


def error(answer: Answer, status: int, name: str) -> str:
    body = json.loads(answer.body)
    assert (answer.status, body["error"]) == (status, name), answer
    assert set(body) == {"error", "message"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"].startswith("application/json")
    return str(body["message"])


LOGIN = {"identifier": "a.test", "password": "p"}


# --- finding the method


def test_a_query_and_a_procedure_are_answered(ask: Client) -> None:
    assert json.loads(ask("GET", _SERVER + "describeServer").body)["did"] == "did:web:a.example.com"
    assert ask.post(_SERVER + "createSession", LOGIN).status == 200
    assert calls[-1].input == LOGIN


@pytest.mark.parametrize(("verb", "nsid"), [("GET", "server.createSession"), ("POST", "server.describeServer")])
def test_the_wrong_verb_is_405(ask: Client, verb: str, nsid: str) -> None:
    error(ask(verb, "com.atproto." + nsid), 405, "MethodNotAllowed")


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_any_other_verb_is_405_everywhere(ask: Client, verb: str) -> None:
    error(ask(verb, _SERVER + "createSession"), 405, "MethodNotAllowed")


def test_head_is_get_without_the_body(ask: Client) -> None:
    plain = ask("GET", _SERVER + "describeServer")
    head = ask("HEAD", _SERVER + "describeServer")
    assert head.status == 200
    assert head.headers["content-length"] == str(len(plain.body))
    assert ask("HEAD", _SYNC + f"getRepo?did={REPO}").status == 200
    assert ask("HEAD", _SERVER + "createSession").status == 405


@pytest.mark.parametrize(
    "path", ["", "foo", "com..x", "com.atproto.server.describeServer/x", "a" * 10_000, "com.a." + "b" * 400]
)
def test_what_is_no_nsid_is_404(ask: Client, path: str) -> None:
    error(ask("GET", "/xrpc/" + path), 404, "InvalidRequest")


def test_an_unknown_method_of_com_atproto_is_501(ask: Client) -> None:
    error(ask("GET", "com.atproto.nothing.here"), 501, "MethodNotImplemented")


def test_a_known_method_that_is_not_served_says_why(ask: Client) -> None:
    assert "relay" in error(ask("GET", _SYNC + "listHosts"), 501, "MethodNotImplemented")


def test_any_other_namespace_needs_credentials_and_then_a_service(ask: Client) -> None:
    error(ask("GET", "app.bsky.feed.getTimeline"), 401, "AuthMissing")
    error(ask("GET", "app.bsky.feed.getTimeline", authorization="Bearer owner"), 501, "MethodNotImplemented")


def test_other_namespaces_go_to_the_proxy_if_there_is_one() -> None:
    async def proxy(_services: Any, request: Any, nsid: str) -> Reply:
        return Reply(f"{request.method} {nsid}".encode(), "text/plain")

    with served(proxy=proxy) as ask:
        assert ask("GET", "app.bsky.feed.getTimeline").body == b"GET app.bsky.feed.getTimeline"


def test_health_is_answered(ask: Client) -> None:
    assert json.loads(ask("GET", "_health").body)["version"].startswith("pds-lite ")


def test_a_stream_asked_for_without_a_websocket_is_426(ask: Client) -> None:
    answer = ask("GET", _SYNC + "subscribeRepos")
    error(answer, 426, "UpgradeRequired")
    assert answer.headers["upgrade"] == "websocket"
    error(ask("POST", _SYNC + "subscribeRepos"), 405, "MethodNotAllowed")


def handshake(ask: Client, path: str) -> Connection:
    return ask.server.connect().send(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )


def test_a_stream_gets_its_websocket_and_no_other_path_does(ask: Client) -> None:
    with handshake(ask, f"/xrpc/{_SYNC}subscribeRepos?cursor=5") as client:
        assert client.answer().status == 101
        assert client._take(10)[2:] == b"cursor=5"
    for path in ("/", "/xrpc/", "/xrpc/com.example.stream", f"/xrpc/{_SERVER}describeServer", "/subscribeRepos"):
        with handshake(ask, path) as client:
            assert client.answer().status == 404


# --- parameters and bodies


def test_parameters_are_typed_and_have_their_defaults(ask: Client) -> None:
    ask("GET", _REPO + f"listRecords?repo={REPO}&collection=app.bsky.feed.post&limit=7&reverse=true&foo=bar&x")
    assert calls[-1].params == {"repo": REPO, "collection": "app.bsky.feed.post", "limit": 7, "reverse": True}
    ask("GET", _REPO + f"listRecords?repo={REPO}&collection=app.bsky.feed%2Epost")
    assert calls[-1].params["limit"] == 50


@pytest.mark.parametrize(
    "parameters",
    [
        "repo=did:plc:x",
        f"repo={REPO}",
        *(
            f"repo={REPO}&collection=app.bsky.feed.post&limit={limit}"
            for limit in ("0", "101", "ten", "-1", "1.5", "9" * 40)
        ),
        "repo=%ff&collection=app.bsky.feed.post",
        "repo=not-a-did-or-handle&collection=app.bsky.feed.post",
        f"repo={REPO}&collection={'a.' * 5000}b",
        "&" * 2000,
    ],
    ids=lambda text: text[:60],
)
def test_a_bad_parameter_is_invalid_request(ask: Client, parameters: str) -> None:
    error(ask("GET", _REPO + f"listRecords?{parameters}"), 400, "InvalidRequest")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/json;charset=utf-8", "Application/JSON"],
)
def test_json_is_taken_however_its_type_is_spelt(ask: Client, content_type: str) -> None:
    assert ask.post(_SERVER + "createSession", LOGIN, content_type=content_type).status == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/jsonx", "application/x-www-form-urlencoded", "*/*"]
)
def test_another_type_is_refused(ask: Client, content_type: str) -> None:
    error(ask.post(_SERVER + "createSession", LOGIN, content_type=content_type), 400, "InvalidRequest")


def test_a_body_must_be_there_and_say_what_it_is(ask: Client) -> None:
    assert "body" in error(ask("POST", _SERVER + "createSession"), 400, "InvalidRequest")
    assert "Content-Type" in error(ask("POST", _SERVER + "createSession", b"{}"), 400, "InvalidRequest")
    error(ask.post(_SERVER + "createSession", b""), 400, "InvalidRequest")


def test_a_body_where_none_belongs_is_refused(ask: Client) -> None:
    error(ask.post(_SERVER + "activateAccount", {"x": 1}, authorization="Bearer owner"), 400, "InvalidRequest")
    for body in (b"", None):
        answer = ask("POST", _SERVER + "activateAccount", body, authorization="Bearer owner")
        assert (answer.status, answer.body) == (200, b"")


DEEP = 50_000


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b'{"identifier": "a.test", "password": NaN}',
        b'{"identifier": "a.test"}',
        b'{"identifier": 5, "password": "p"}',
        b'{"identifier": "a.test", "password": "\xed\xa0\x80"}',
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"identifier": "a.test", "password": "p", "x": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"identifier": "a.test", "password": "p", "x": ' + b'{"a":' * 115 + b"1" + b"}" * 116,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_bad_json_is_an_error_with_a_name(ask: Client, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        error(ask.post(_SERVER + "createSession", body), 400, "InvalidRequest")
    assert caplog.records == []


def test_json_may_begin_with_a_byte_order_mark(ask: Client) -> None:
    assert ask.post(_SERVER + "createSession", b"\xef\xbb\xbf" + json.dumps(LOGIN).encode()).status == 200


def test_wide_json_is_not_taken_for_deep(ask: Client) -> None:
    assert ask.post(_SERVER + "createSession", {**LOGIN, "extra": [[{}]] * 1000}).status == 200


def test_a_large_body_is_413_by_the_methods_own_limit(ask: Client) -> None:
    error(ask.post(_SERVER + "createSession", {**LOGIN, "password": "x" * 200_000}), 413, "PayloadTooLarge")
    record = {"repo": REPO, "collection": "com.example.big", "record": {"$type": "com.example.big", "a": "x" * 900_000}}
    assert ask.post(_REPO + "createRecord", record, authorization="Bearer owner").status == 200
    record["record"] = {"a": "x" * 1_100_000}
    error(ask.post(_REPO + "createRecord", record, authorization="Bearer owner"), 413, "PayloadTooLarge")


def test_a_chunked_body_and_a_compressed_one_are_understood(ask: Client) -> None:
    body = json.dumps(LOGIN).encode()
    with ask.server.connect() as client:
        head = f"POST /xrpc/{_SERVER}createSession HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body)))
        client.send(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert client.answer().status == 200
    assert ask.post(_SERVER + "createSession", gzip.compress(body), content_encoding="gzip").status == 200
    bomb = gzip.compress(b"[" + b" " * 20_000_000 + b"]")
    error(ask.post(_SERVER + "createSession", bomb, content_encoding="gzip"), 413, "PayloadTooLarge")
    error(ask.post(_SERVER + "createSession", b"not gzip", content_encoding="gzip"), 400, "InvalidRequest")
    error(ask.post(_SERVER + "createSession", body, content_encoding="br"), 415, "InvalidRequest")


def test_any_type_streams_to_the_handler_with_its_own_limit(ask: Client) -> None:
    answer = ask("POST", _REPO + "uploadBlob", b"x" * 1000, content_type="image/png", authorization="Bearer owner")
    assert json.loads(answer.body) == {"size": 1000}
    answer = ask("POST", _REPO + "uploadBlob", b"x" * 1001, content_type="image/png", authorization="Bearer owner")
    error(answer, 413, "PayloadTooLarge")


def test_credentials_are_judged_before_the_body_is_read(ask: Client) -> None:
    with ask.server.connect() as client:
        client.send(
            f"POST /xrpc/{_REPO}uploadBlob HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
            "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        error(client.answer(), 401, "AuthMissing")


# --- answers


def test_cids_and_bytes_become_links(ask: Client) -> None:
    body = json.loads(ask("GET", _SYNC + f"getHead?did={REPO}").body)
    assert set(body["cid"]) == {"$link"}
    assert body["raw"] == {"$bytes": "AQ"} or body["raw"] == {"$bytes": "AQ=="}


def test_a_stream_of_bytes_goes_out_as_it_comes(ask: Client) -> None:
    answer = ask("GET", _SYNC + f"getRepo?did={REPO}")
    assert (answer.body, answer.headers["content-type"]) == (b"carbytes", CAR)
    assert answer.headers["vary"] == "Accept, Authorization"


def test_authenticated_answers_are_private(ask: Client) -> None:
    answer = ask("GET", _SERVER + "getSession", authorization="Bearer owner")
    assert (answer.headers["cache-control"], answer.headers["vary"]) == ("private", "Authorization")
    public = ask("GET", _SERVER + "describeServer")
    assert "cache-control" not in public.headers
    assert "vary" not in public.headers
    assert ask("GET", _SERVER + "getSession").headers["vary"] == "Authorization"


def test_a_missing_credential_is_challenged(ask: Client) -> None:
    answer = ask("GET", _SERVER + "getSession")
    error(answer, 401, "AuthMissing")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_two_authorization_headers_are_not_two_tries(ask: Client) -> None:
    with ask.server.connect() as client:
        line = f"GET /xrpc/{_SERVER}getSession HTTP/1.1\r\nHost: a\r\n"
        client.send((line + "Authorization: Bearer x\r\nAuthorization: Bearer owner\r\n\r\n").encode())
        error(client.answer(), 400, "InvalidToken")


@pytest.mark.parametrize(
    ("key", "status", "name", "records"),
    [
        ("a", 400, "RecordNotFound", 0),
        ("b", 507, "StorageFull", 0),
        ("c", 500, "StoreBroken", 1),
        ("d", 500, "InternalServerError", 1),
        ("e", 503, "ServiceUnavailable", 0),
    ],
)
def test_errors_keep_their_names_and_give_no_local_path_away(
    ask: Client, caplog: pytest.LogCaptureFixture, key: str, status: int, name: str, records: int
) -> None:
    with caplog.at_level(logging.INFO):
        answer = ask("GET", _REPO + f"getRecord?repo={REPO}&collection=app.bsky.feed.post&rkey={key}")
    error(answer, status, name)
    assert b"/var/lib" not in answer.body
    assert len(caplog.records) == records


def test_the_client_is_told_to_the_handler(ask: Client) -> None:
    ask("GET", _SERVER + "describeServer", x_forwarded_for="192.0.2.77")
    assert calls[-1].client == "192.0.2.77"
    assert calls[-1].headers["x-forwarded-for"] == "192.0.2.77"


# --- limits


def test_every_answer_tells_of_the_limit_and_429_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    small = router_module.Rule("everything", 3, 300)
    monkeypatch.setattr(router_module, "EVERYTHING", small)
    with served() as ask:
        for left in (2, 1, 0):
            answer = ask("GET", _SERVER + "describeServer")
            assert answer.headers["ratelimit-limit"] == "3"
            assert answer.headers["ratelimit-remaining"] == str(left)
            assert answer.headers["ratelimit-policy"] == "3;w=300"
            assert int(answer.headers["ratelimit-reset"]) > 1_700_000_000
        answer = ask("GET", _SERVER + "describeServer")
        error(answer, 429, "RateLimitExceeded")
        assert 0 < int(answer.headers["retry-after"]) <= 300
        assert answer.headers["ratelimit-remaining"] == "0"
        # Another household, and exports, have limits of their own.
        assert ask("GET", _SERVER + "describeServer", x_forwarded_for="192.0.2.1").status == 200
        assert ask("GET", _SYNC + f"getRepo?did={REPO}").status == 200


def test_strangers_at_the_owners_address_do_not_use_up_the_owners_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "EVERYTHING", router_module.Rule("everything", 3, 300))
    own_token = "Bearer owner"
    monkeypatch.setattr(router_module, "may_need_look_up", lambda authorization: authorization != own_token)
    with served() as ask:
        for _ in range(5):
            stranger = ask("GET", _SERVER + "getSession", authorization="Bearer wrong")
        assert stranger.status == 429
        asked = len(ask.services.access.asked)
        ask("GET", _SERVER + "getSession", authorization="Bearer wrong")
        assert len(ask.services.access.asked) == asked, "a refused address must not cause look-ups"
        assert ask("GET", _SERVER + "getSession", authorization=own_token).status == 200


def test_a_methods_own_rules_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {_SERVER + "createAccount": (router_module.Rule("sign-up", 1, 300),)}
    monkeypatch.setattr(router_module, "METHOD_RULES", rules)
    with served() as ask:
        account = {"handle": "a.test", "password": "p"}
        assert ask.post(_SERVER + "createAccount", account).headers["ratelimit-policy"] == "1;w=300"
        error(ask.post(_SERVER + "createAccount", account), 429, "RateLimitExceeded")


def test_with_limits_off_nothing_is_counted_or_told(ask: Client) -> None:
    assert "ratelimit-limit" not in ask("GET", _SERVER + "describeServer").headers


def test_one_address_has_only_so_many_calls_under_way_and_the_owner_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router_module, "CALLS_AT_ONCE", 2)
    gate = asyncio.Event()

    async def slow(_services: Any, call: Call) -> dict[str, Any]:
        if not call.principal.is_account:
            await gate.wait()
        return {}

    async def work() -> None:
        nsid = _REPO + "listRecords"
        services: Any = SimpleNamespace(limits=RateLimits(Clock()), access=FakeAccess())
        router = Router(services, methods={nsid: Method(nsid, "GET", Access.OPTIONAL, slow)}, subscriptions={})

        def call(address: str, **headers: str) -> Any:
            query = f"repo={REPO}&collection=a.b.c"
            request = SimpleNamespace(method="GET", client_addr=(address, 0), headers=headers, query_string=query)
            return asyncio.ensure_future(router.answer(request, nsid))  # type: ignore[arg-type]

        waiting = [call("192.0.2.1") for _ in range(2)]
        await asyncio.sleep(0.01)
        assert (await call("192.0.2.1")).status_code == 429
        assert (await call("192.0.2.1", authorization="Bearer owner")).status_code == 200
        waiting.append(call("192.0.2.2"))
        await asyncio.sleep(0.01)
        gate.set()
        assert [(await task).status_code for task in waiting] == [200, 200, 200]
        assert (await call("192.0.2.1")).status_code == 200
        assert not router._under_way

    asyncio.run(work())


# --- the table


def test_a_row_that_its_lexicon_contradicts_stops_the_start() -> None:
    for nsid, verb in (
        (_SERVER + "createSession", "GET"),
        ("com.example.unknown", "GET"),
        (_SYNC + "subscribeRepos", "GET"),
    ):
        with pytest.raises(ValueError, match="not a query"):
            Router(SimpleNamespace(), methods={nsid: Method(nsid, verb, Access.PUBLIC, describe)}, subscriptions={})  # type: ignore[arg-type]


def test_a_method_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "METHODS", {})
    router_module.query("com.example.a", access=Access.PUBLIC)(describe)
    with pytest.raises(ValueError, match="twice"):
        router_module.procedure("com.example.a", access=Access.PUBLIC)(describe)


def test_every_method_of_com_atproto_is_served_or_says_why_not() -> None:
    import importlib
    import pkgutil

    from pds_lite import xrpc
    from pds_lite.xrpc.unsupported import UNSUPPORTED

    for module in pkgutil.iter_modules(xrpc.__path__):
        importlib.import_module(f"pds_lite.xrpc.{module.name}")
    ours = {*router_module.METHODS, *router_module.SUBSCRIPTIONS}
    known = {
        nsid
        for kind in ("query", "procedure", "subscription")
        for nsid in catalog().nsids(kind)
        if nsid.startswith("com.atproto.")
    }
    assert known - ours - UNSUPPORTED.keys() == set()
    assert ours & UNSUPPORTED.keys() == set()


@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), st.text(max_size=10)), max_size=8))
def test_a_query_string_is_read_as_the_standard_library_writes_it(pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    assert list(query_pairs(urlencode(pairs))) == pairs


@given(st.text(max_size=50))
def test_any_query_string_is_pairs_or_a_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        query_pairs(text)
