"""Proxy: calls reach the right service with a token of ours and nothing else of the caller's, and come back whole."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from pds_lite.services import proxy as proxy_module
from tests.fake_service import JSON, Asked, FakeService, Reply, fake_service, raw_service
from tests.live_box import LiveBox, live_box

APPVIEW_DID = "did:web:appview.example"
TIMELINE = "app.bsky.feed.getTimeline"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveBox, FakeService, str]]:
    with fake_service() as appview:
        folder = tmp_path_factory.mktemp("proxy") / "box"
        with live_box(folder, appview_url=appview.url, appview_did=APPVIEW_DID, rate_limits=False) as box:
            yield box, appview, box.token()


@pytest.fixture
def appview(running: tuple[LiveBox, FakeService, str]) -> FakeService:
    service = running[1]
    service.asked.clear()
    service.answers.clear()
    service.answer = FakeService().answer
    return service


@pytest.fixture
def box(running: tuple[LiveBox, FakeService, str], appview: FakeService) -> LiveBox:
    _point_appview_at(running[0], appview.url)
    return running[0]


@pytest.fixture
def token(running: tuple[LiveBox, FakeService, str]) -> str:
    return running[2]


def _bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): text for name, text in more.items()}}


# What reaches the service


def test_only_listed_headers_reach_the_service(box: LiveBox, token: str, appview: FakeService) -> None:
    headers = {
        **_bearer(token),
        "Cookie": "secret=1",
        "DPoP": "proof",
        "X-Secret": "1",
        "X-Forwarded-For": "192.0.2.1",
        "Origin": "https://app.example",
        "User-Agent": "an app",
        "Referer": "https://app.example/secret",
        "atproto-proxy": f"{APPVIEW_DID}#bsky_appview",
        "Accept-Language": "de",
        "atproto-accept-labelers": "did:web:labels.example;redact",
        "x-bsky-topics": "cats",
        "x-atproto-later": "kept",
    }

    answer = box.request("GET", f"/xrpc/{TIMELINE}?limit=3&x=%C3%BC&x=2", headers=headers)

    assert (answer.status, answer.json) == (200, {"ok": True})
    asked = appview.asked[0]
    assert (asked.verb, asked.path) == ("GET", f"/xrpc/{TIMELINE}?limit=3&x=%C3%BC&x=2")
    passed_on = {"accept-language", "atproto-accept-labelers", "x-bsky-topics", "x-atproto-later"}
    assert asked.headers.keys() == passed_on | {"host", "authorization", "accept-encoding", "user-agent"}
    assert asked.headers["user-agent"] == "pds-lite"
    assert asked.headers["atproto-accept-labelers"] == "did:web:labels.example;redact"
    assert asked.headers["accept-encoding"] == "identity"
    assert token not in str(asked)


def test_the_token_is_for_this_service_and_this_method_and_a_minute(
    box: LiveBox, token: str, appview: FakeService
) -> None:
    for nsid in (TIMELINE, TIMELINE, "app.bsky.feed.getPosts"):
        assert box.get(nsid, token).status == 200

    first, second, other = (asked.claims for asked in appview.asked)
    assert (first["iss"], first["aud"], first["lxm"]) == (box.did, APPVIEW_DID, TIMELINE)
    assert first["exp"] - first["iat"] == 60
    assert abs(first["iat"] - time.time()) < 10
    assert second == first
    assert other["lxm"] == "app.bsky.feed.getPosts"


def test_every_procedure_gets_a_token_of_its_own(box: LiveBox, token: str, appview: FakeService) -> None:
    for _ in range(2):
        assert box.post("app.bsky.notification.updateSeen", {"seenAt": "2026-01-01T00:00:00Z"}, token).status == 200

    first, second = (asked.claims["jti"] for asked in appview.asked)
    assert first != second


@pytest.mark.parametrize(
    ("nsid", "service"),
    [
        ("app.bsky.graph.getMutes", "appview"),
        ("app.bsky.unspecced.getConfig", "appview"),
        ("com.example.anything", "appview"),
        ("com.atproto.label.queryLabels", "appview"),
        ("chat.bsky.convo.listConvos", "chat"),
        ("tools.ozone.moderation.getEvent", "reports"),
    ],
)
def test_without_a_header_the_settings_say_who_is_asked(
    tmp_path: Path, appview: FakeService, nsid: str, service: str
) -> None:
    with fake_service() as chat, fake_service() as reports:
        settings = {
            "appview_url": appview.url,
            "appview_did": "did:web:appview.example",
            "chat_url": chat.url,
            "chat_did": "did:web:chat.example",
            "report_url": reports.url,
            "report_did": "did:web:reports.example",
        }
        with live_box(tmp_path / "box", **settings) as box:
            assert box.get(nsid, box.token()).status == 200

        asked = {"appview": appview, "chat": chat, "reports": reports}
        assert {name: len(each.asked) for name, each in asked.items() if each.asked} == {service: 1}
        assert asked[service].asked[0].claims["aud"] == f"did:web:{service}.example"


def test_the_header_names_the_service_by_its_did_document(box: LiveBox, token: str, appview: FakeService) -> None:
    with fake_service() as other:
        headers = _bearer(token, atproto_proxy=f"{other.did}#test_svc", Content_Type="application/json")
        answer = box.request("POST", "/xrpc/com.example.act?a=1", b'{"a":1}', headers)

        assert answer.status == 200
        (asked,) = other.asked
        assert (asked.verb, asked.path, asked.body) == ("POST", "/xrpc/com.example.act?a=1", b'{"a":1}')
        assert asked.claims["aud"] == other.did
        assert appview.asked == []


def test_methods_of_services_go_out_with_a_header_and_are_refused_without(box: LiveBox, token: str) -> None:
    with fake_service() as labeler:
        named = _bearer(token, atproto_proxy=f"{labeler.did}#test_svc")
        assert box.request("GET", "/xrpc/com.atproto.temp.fetchLabels", headers=named).status == 200
        assert labeler.asked[0].claims["lxm"] == "com.atproto.temp.fetchLabels"
    assert box.get("com.atproto.temp.fetchLabels", token).error == (501, "MethodNotImplemented")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("#x", "no did specified in proxy header"),
        ("did:web:localhost%3A1", "no service id specified in proxy header"),
        ("did:web:localhost%3A1#", "no service id specified in proxy header"),
        ("did:web:localhost%3A1#a#b", "invalid proxy header format"),
        ("did:web:localhost%3A1#a b", "proxy header cannot contain spaces"),
        ("nonsense#x", "could not resolve proxy did"),
        ("did:example:a#x", "could not resolve proxy did"),
    ],
)
def test_a_header_that_names_nothing_is_refused(box: LiveBox, token: str, header: str, message: str) -> None:
    answer = box.request("GET", f"/xrpc/{TIMELINE}", headers=_bearer(token, atproto_proxy=header))

    assert answer.error == (400, "InvalidRequest")
    assert answer.json["message"] == message


def test_a_document_without_the_service_is_refused(box: LiveBox, token: str, appview: FakeService) -> None:
    named = _bearer(token, atproto_proxy=f"{appview.did}#nothing")

    answer = box.request("GET", f"/xrpc/{TIMELINE}", headers=named)

    assert answer.error == (400, "InvalidRequest")
    assert answer.json["message"] == "could not resolve proxy did service url"


@pytest.mark.parametrize(
    "nsid",
    ["COM.ATPROTO.admin.sendEmail", "com.Atproto.server.updateEmail"],
)
def test_no_token_is_made_for_account_management(box: LiveBox, token: str, appview: FakeService, nsid: str) -> None:
    named = _bearer(token, atproto_proxy=f"{appview.did}#test_svc")

    assert box.request("POST", f"/xrpc/{nsid}", headers=named).error == (400, "InvalidToken")
    assert appview.asked == []


def test_direct_messages_need_more_than_a_plain_app_password(tmp_path: Path, appview: FakeService) -> None:
    with live_box(tmp_path / "box", chat_url=appview.url, chat_did="did:web:chat.example") as box:
        owner = box.token()

        def app_password(name: str, privileged: bool) -> str:
            made = box.server("createAppPassword", {"name": name, "privileged": privileged}, owner)
            return box.token(made.json["password"])

        plain, trusted = app_password("phone", False), app_password("trusted", True)
        refused = box.get("chat.bsky.convo.listConvos", plain)
        assert (refused.error, refused.json["message"]) == ((400, "InvalidToken"), "Bad token method")
        for nsid in ("Chat.Bsky.convo.listConvos", "chat.bsky.later.somethingNew"):
            assert box.get(nsid, plain).error == (400, "InvalidToken")
        assert appview.asked == []
        assert box.get("chat.bsky.convo.listConvos", trusted).status == 200
        assert box.get("chat.bsky.convo.listConvos", owner).status == 200


def test_strangers_and_odd_verbs_are_not_passed_on(box: LiveBox, token: str, appview: FakeService) -> None:
    assert box.get(TIMELINE).error == (401, "AuthMissing")
    assert box.get(TIMELINE, "a.b.c").status in (400, 401)
    for verb in ("PUT", "DELETE", "PATCH"):
        answer = box.request(verb, f"/xrpc/{TIMELINE}", b"", _bearer(token))
        assert answer.error == (405, "MethodNotAllowed")
    assert appview.asked == []


# What comes back


def test_only_listed_headers_come_back(box: LiveBox, token: str, appview: FakeService) -> None:
    listed = {
        "Content-Type": "text/x-odd",
        "Content-Language": "de",
        "Atproto-Repo-Rev": "3kaaaaaaaaaaa",
        "Atproto-Content-Labelers": "did:web:labels.example",
        "Retry-After": "7",
    }
    appview.answer = (200, {**listed, "Set-Cookie": "a=b", "X-Powered-By": "x", "Server": "s", "Location": "/"}, b"hi")

    answer = box.get(TIMELINE, token)

    assert {name: answer.headers.get(name.lower()) for name in listed} == listed
    assert not {"set-cookie", "x-powered-by", "location"} & answer.headers.keys()
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "private"
    assert answer.body == b"hi"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"error":"UnknownFeed","message":"m"}', (400, "UnknownFeed", "m")),
        (404, b'{"error":"NotFound","message":"no"}', (404, "NotFound", "no")),
        (429, b'{"error":"RateLimitExceeded","message":"slow"}', (429, "RateLimitExceeded", "slow")),
        (500, b'{"error":"Overloaded","message":"later"}', (502, "Overloaded", "later")),
        (500, b"", (502, "UpstreamFailure", "Upstream Failure")),
        (503, b'{"error":7,"message":[]}', (503, "NotEnoughResources", "Not Enough Resources")),
        (400, b"not json", (400, "InvalidRequest", "Invalid Request")),
        (418, b'{"error":"Tea\\r\\nX: y"}', (418, "TeaX: y", "Invalid Request")),
        (599, b"[]", (599, "UpstreamFailure", "Upstream Failure")),
    ],
)
def test_errors_keep_name_and_message(
    box: LiveBox, token: str, appview: FakeService, status: int, body: bytes, expected: tuple[int, str, str]
) -> None:
    appview.answer = (status, {**JSON, "Retry-After": "9", "Content-Language": "x"}, body)

    answer = box.get(TIMELINE, token)

    assert (answer.status, answer.json["error"], answer.json["message"]) == expected
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["retry-after"] == "9"
    assert "content-language" not in answer.headers


def test_an_error_that_is_not_json_is_told_by_its_status(box: LiveBox, token: str, appview: FakeService) -> None:
    appview.answer = (502, {"Content-Type": "text/html"}, b"<html>" + b"x" * 100_000)

    answer = box.get(TIMELINE, token)

    assert answer.error == (502, "UpstreamFailure")
    assert b"html" not in answer.body


def test_an_empty_answer_comes_back_without_a_type(box: LiveBox, token: str, appview: FakeService) -> None:
    appview.answer = (200, {}, b"")

    answer = box.post("app.bsky.notification.updateSeen", {"seenAt": "2026-01-01T00:00:00Z"}, token)

    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers


def test_a_packed_error_is_read(box: LiveBox, token: str, appview: FakeService) -> None:
    body = gzip.compress(b'{"error":"Nope","message":"m"}')
    appview.answer = (400, {**JSON, "Content-Encoding": "gzip"}, body)

    answer = box.request("GET", f"/xrpc/{TIMELINE}", headers=_bearer(token, Accept_Encoding="gzip, br"))

    assert answer.error == (400, "Nope")
    assert appview.asked[0].headers["accept-encoding"] == "gzip"


def test_a_bomb_of_an_error_is_no_more_than_its_status(box: LiveBox, token: str, appview: FakeService) -> None:
    bomb = gzip.compress(b'{"error":"Big","message":"' + b"a" * 30_000_000 + b'"}')
    assert len(bomb) < 64 << 10
    appview.answer = (400, {**JSON, "Content-Encoding": "gzip"}, bomb)

    assert box.get(TIMELINE, token).error == (400, "InvalidRequest")


def test_a_redirect_is_a_fault_and_is_not_followed(box: LiveBox, token: str, appview: FakeService) -> None:
    with fake_service() as elsewhere:
        appview.answer = (302, {"Location": f"{elsewhere.url}/xrpc/{TIMELINE}"}, b"")

        assert box.get(TIMELINE, token).error == (502, "UpstreamFailure")
        assert elsewhere.asked == []


def test_a_packed_answer_comes_back_as_it_was_packed(box: LiveBox, token: str, appview: FakeService) -> None:
    packed = gzip.compress(json.dumps({"a": "x" * 5000}).encode())
    appview.answer = (200, {**JSON, "Content-Encoding": "gzip"}, packed)

    answer = box.request("GET", f"/xrpc/{TIMELINE}", headers=_bearer(token, Accept_Encoding="gzip, br, zstd"))

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(packed))
    assert answer.body == packed


def test_head_gives_the_length_and_no_body(box: LiveBox, token: str, appview: FakeService) -> None:
    appview.answer = (200, {"Content-Type": "image/png"}, b"x" * 1234)

    answer = box.request("HEAD", "/xrpc/com.example.getImage", headers=_bearer(token))

    assert appview.asked[0].verb == "HEAD"
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "1234", b"")
    assert answer.headers["content-type"] == "image/png"


# Bodies


def test_a_packed_request_body_is_passed_on_packed(box: LiveBox, token: str, appview: FakeService) -> None:
    packed = gzip.compress(b'{"a":1}')
    headers = _bearer(token, Content_Type="application/json", Content_Encoding="gzip")

    assert box.request("POST", "/xrpc/com.example.act", packed, headers).status == 200
    (asked,) = appview.asked
    assert asked.body == packed
    assert asked.headers["content-encoding"] == "gzip"
    assert asked.headers["content-length"] == str(len(packed))


def test_an_upload_without_a_length_streams(box: LiveBox, token: str, appview: FakeService) -> None:
    pieces = [bytes([number]) * 50_000 for number in range(40)]
    connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=60)
    headers = {**_bearer(token), "Content-Type": "video/mp4"}

    connection.request("POST", "/xrpc/com.example.upload", iter(pieces), headers, encode_chunked=True)

    assert connection.getresponse().status == 200
    connection.close()
    (asked,) = appview.asked
    assert asked.body == b"".join(pieces)
    assert asked.headers["transfer-encoding"] == "chunked"


def test_the_service_sees_an_upload_while_it_still_comes(box: LiveBox, token: str) -> None:
    first_half_arrived = threading.Event()
    half = b"a" * 1_000_000

    def script(connection: socket.socket, head: bytes) -> None:
        assert b"content-length: 2000000\r\n" in head.lower()
        received = len(head.partition(b"\r\n\r\n")[2])
        while received < 2 * len(half):
            received += len(connection.recv(65536))
            if received >= len(half) - 300_000:
                first_half_arrived.set()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with raw_service(script) as url:
        _point_appview_at(box, url)
        connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=60)
        connection.putrequest("POST", "/xrpc/com.example.upload")
        for name, value in {**_bearer(token), "Content-Length": "2000000", "Content-Type": "video/mp4"}.items():
            connection.putheader(name, value)
        connection.endheaders(half)
        assert first_half_arrived.wait(60)
        connection.send(half)
        assert connection.getresponse().read() == b"ok"
        connection.close()


def test_an_early_refusal_of_an_upload_comes_through(box: LiveBox, token: str) -> None:
    """A service may answer, and stop reading, before it has the whole body."""

    def script(connection: socket.socket, _head: bytes) -> None:
        body = b'{"error":"TooBig","message":"no"}'
        connection.sendall(
            b"HTTP/1.1 413 x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        time.sleep(5)

    with raw_service(script) as url:
        _point_appview_at(box, url)
        headers = {**_bearer(token), "Content-Type": "video/mp4"}
        assert box.request("POST", "/xrpc/com.example.upload", b"x" * 3_000_000, headers).error == (413, "TooBig")


def test_an_answer_streams_and_a_slow_reader_slows_the_service(box: LiveBox, token: str, appview: FakeService) -> None:
    sent = 0
    piece = b"z" * 65536

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += len(piece)
            yield piece

    appview.answer = lambda _asked: (200, {"Content-Type": "application/octet-stream"}, pieces())
    connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=60)
    connection.request("GET", "/xrpc/com.example.getLarge", headers=_bearer(token))
    answer = connection.getresponse()
    assert answer.read(10) == b"z" * 10  # the first bytes are there long before the last ones were made
    deadline, before = time.monotonic() + 5, -1
    while sent != before and time.monotonic() < deadline:
        before = sent
        time.sleep(0.3)

    assert sent < 800 * len(piece) // 2
    assert len(answer.read()) == 800 * len(piece) - 10
    connection.close()


def test_a_reader_who_leaves_frees_the_connection(box: LiveBox, token: str, appview: FakeService) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"z" * 65536

    appview.answer = lambda _asked: (200, {"Content-Type": "application/octet-stream"}, endless())
    for _ in range(proxy_module.AT_ONCE + 5):
        connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=60)
        connection.request("GET", "/xrpc/com.example.getLarge", headers=_bearer(token))
        connection.getresponse().read(10)
        connection.close()

    appview.answer = (200, JSON, b"{}")
    assert box.get(TIMELINE, token).status == 200


# Services that misbehave


def _point_appview_at(box: LiveBox, url: str) -> None:
    from dataclasses import replace

    assert box.app is not None
    targets = box.app.services.proxy.targets
    targets.appview = replace(targets.appview, url=url)


def _raw(answer: bytes):
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(answer)

    return script


def test_a_service_that_is_not_there_is_a_502(box: LiveBox, token: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    _point_appview_at(box, f"http://localhost:{port}")

    assert box.get(TIMELINE, token).error == (502, "UpstreamFailure")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 20000 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nhello",
    ],
    ids=[
        "nothing",
        "half a head",
        "half a body",
        "bad chunk",
        "no HTTP",
        "head",
        "101",
        "huge",
        "two framings",
        "two lengths",
        "no length",
    ],
)
def test_a_service_that_dies_or_lies_at_once_is_a_502(box: LiveBox, token: str, answer: bytes) -> None:
    with raw_service(_raw(answer)) as url:
        _point_appview_at(box, url)
        assert box.get(TIMELINE, token).error == (502, "UpstreamFailure")


def test_more_than_announced_is_not_passed_on(box: LiveBox, token: str) -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    with raw_service(_raw(smuggled)) as url:
        _point_appview_at(box, url)
        assert [box.get(TIMELINE, token).body for _ in range(2)] == [b"ok", b"ok"]


@pytest.mark.parametrize("framing", [b"Content-Length: 2000000", b"Transfer-Encoding: chunked"])
def test_an_answer_that_breaks_off_later_does_not_look_whole(box: LiveBox, token: str, framing: bytes) -> None:
    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        piece = b"x" * 500_000
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in framing else piece)

    with raw_service(script) as url:
        _point_appview_at(box, url)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            box.get("com.example.getLarge", token)


def test_a_service_that_does_not_answer_in_time_is_a_504(
    box: LiveBox, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_S", 0.3)
    with raw_service(lambda _connection, _head: time.sleep(10)) as url:
        _point_appview_at(box, url)
        assert box.get(TIMELINE, token).error == (504, "UpstreamTimeout")


def test_a_service_that_stops_in_the_middle_is_cut(box: LiveBox, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "IDLE_S", 0.3)

    def stalls(size: int):
        def script(connection: socket.socket, _head: bytes) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * size)
            time.sleep(10)

        return script

    with raw_service(stalls(0)) as url:
        _point_appview_at(box, url)
        assert box.get(TIMELINE, token).error == (504, "UpstreamTimeout")
    with raw_service(stalls(1_000_000)) as url:
        _point_appview_at(box, url)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            box.get("com.example.getLarge", token)


def test_a_slow_upload_may_last_longer_than_an_answer(
    box: LiveBox, token: str, appview: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_S", 2)

    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            time.sleep(0.5)
            yield b"x" * 1000

    connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=60)
    headers = {**_bearer(token), "Content-Type": "video/mp4"}
    connection.request("POST", "/xrpc/com.example.upload", pieces(), headers, encode_chunked=True)

    assert connection.getresponse().status == 200
    connection.close()
    assert len(appview.asked[0].body) == 5000


RECORD = "com.atproto.repo.getRecord"
CID = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"
FOREIGN = {"repo": "did:plc:bv6ggog3tya2z3vxsub7hnal", "collection": "app.bsky.feed.post", "rkey": "3jt6walwmos2y"}


def test_a_record_of_a_foreign_repository_is_the_appviews_to_show(
    box: LiveBox, token: str, appview: FakeService
) -> None:
    """To strangers, too, and in nobody's name: it is public there."""
    value = {"uri": "at://x", "cid": "c", "value": {"text": "hello & goodbye"}}
    appview.says(RECORD, value)
    for session in (None, token):
        assert box.get(RECORD, session, **FOREIGN, cid=CID).json == value
    for asked in appview.calls(RECORD):
        assert dict(parse_qsl(urlsplit(asked.path).query)) == {**FOREIGN, "cid": CID}
        assert "authorization" not in asked.headers
    appview.says(RECORD, {"error": "RecordNotFound", "message": "Could not locate record"}, 400)
    assert box.get(RECORD, **FOREIGN).error == (400, "RecordNotFound")
    assert box.get(RECORD, repo=box.did, collection="a.b.c", rkey="x").error == (400, "RecordNotFound")
    assert len(appview.calls(RECORD)) == 3


def test_strangers_do_not_choose_whom_this_server_asks(box: LiveBox, token: str, appview: FakeService) -> None:
    with fake_service() as other:
        other.says(RECORD, {"value": "other"})
        appview.says(RECORD, {"value": "appview"})
        header = {"atproto-proxy": f"{other.did}#test_svc"}
        path = f"/xrpc/{RECORD}?{urlencode(FOREIGN)}"
        assert box.request("GET", path, headers=header).json == {"value": "appview"}
        assert box.request("GET", path, headers={**header, "Authorization": f"Bearer {token}"}).json == {
            "value": "other"
        }


def test_strangers_questions_do_not_hold_the_owner_up(box: LiveBox, token: str, appview: FakeService) -> None:
    answers = threading.Event()

    def wait(_asked: Asked) -> Reply:
        answers.wait(20)
        return 200, JSON, b"{}"

    appview.answers[RECORD] = wait
    with ThreadPoolExecutor(proxy_module.PUBLIC_AT_ONCE) as strangers:
        waiting = [strangers.submit(box.get, RECORD, **FOREIGN) for _ in range(proxy_module.PUBLIC_AT_ONCE)]
        try:
            while len(appview.calls(RECORD)) < proxy_module.PUBLIC_AT_ONCE:
                time.sleep(0.01)
            assert box.get(RECORD, **FOREIGN).status == 503
            assert box.get(TIMELINE, token).status == 200
        finally:
            answers.set()
        assert [asked.result().status for asked in waiting] == [200] * proxy_module.PUBLIC_AT_ONCE
    assert box.get(RECORD, **FOREIGN).status == 200
