"""Proxy: calls reach the right service with a token of ours and nothing else of the caller's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.jwt import decode_jws
from tests.live_box import LiveBox, live_box


class FakeService:
    """An AppView on loopback that remembers what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.did = ""
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {"Content-Type": "application/json"}, b'{"ok":true}')


@contextmanager
def fake_service() -> Iterator[FakeService]:
    service = FakeService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/.well-known/did.json":
                entry = {"id": "#test_svc", "type": "TestService", "serviceEndpoint": service.url}
                self._send(200, {}, json.dumps({"id": service.did, "service": [entry]}).encode())
                return
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append((self.command, self.path, headers, self.rfile.read(length)))
            self._send(*service.answer)

        do_POST = do_GET  # noqa: N815 - the name http.server looks for

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://localhost:{server.server_port}"
    service.did = f"did:web:localhost%3A{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def appview() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, appview: FakeService) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", appview_url=appview.url, appview_did="did:web:appview.example") as running:
        yield running


def test_without_a_header_the_appview_is_asked_with_our_token(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    headers = {
        "Authorization": f"Bearer {token}",
        "Cookie": "secret=1",
        "X-Secret": "1",
        "Accept-Language": "de",
        "atproto-accept-labelers": "did:web:labels.example",
    }

    answer = box.request("GET", "/xrpc/app.bsky.feed.getTimeline?limit=3&x=%C3%BC", headers=headers)

    assert (answer.status, answer.json) == (200, {"ok": True})
    verb, path, sent, _body = appview.asked[0]
    assert (verb, path) == ("GET", "/xrpc/app.bsky.feed.getTimeline?limit=3&x=%C3%BC")
    assert "cookie" not in sent
    assert "x-secret" not in sent
    assert (sent["accept-language"], sent["atproto-accept-labelers"]) == ("de", "did:web:labels.example")
    claims = decode_jws(sent["authorization"].removeprefix("Bearer ")).claims
    assert (claims["iss"], claims["aud"]) == (box.did, "did:web:appview.example")
    assert claims["lxm"] == "app.bsky.feed.getTimeline"
    assert token not in str(sent)


def test_the_header_names_the_service_by_its_did_document(box: LiveBox, appview: FakeService) -> None:
    headers = {
        "Authorization": f"Bearer {box.token()}",
        "atproto-proxy": f"{appview.did}#test_svc",
        "Content-Type": "application/json",
    }

    answer = box.request("POST", "/xrpc/com.example.act", b'{"a":1}', headers)

    assert answer.status == 200
    verb, _path, sent, body = appview.asked[0]
    assert (verb, body) == ("POST", b'{"a":1}')
    assert decode_jws(sent["authorization"].removeprefix("Bearer ")).claims["aud"] == appview.did
    for wrong in (f"{appview.did}#nothing", appview.did, "#x", f"{appview.did}#a#b", "nonsense#x"):
        refused = box.request("GET", "/xrpc/com.example.read", headers={**headers, "atproto-proxy": wrong})
        assert refused.status == 400, wrong


def test_only_listed_headers_come_back_and_faults_are_502(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    appview.answer = (
        404,
        {"Content-Type": "application/json", "Set-Cookie": "a=b", "Atproto-Repo-Rev": "3kaaaaaaaaaaa"},
        b'{"error":"NotFound","message":"no"}',
    )
    missing = box.get("app.bsky.feed.getPosts", token)
    assert missing.error == (404, "NotFound")
    assert missing.headers["atproto-repo-rev"] == "3kaaaaaaaaaaa"
    assert "set-cookie" not in missing.headers
    assert missing.headers["access-control-allow-origin"] == "*"

    appview.answer = (500, {}, b'{"error":"Overloaded","message":"later"}')
    assert box.get("app.bsky.feed.getPosts", token).error == (502, "Overloaded")


def test_what_is_not_passed_on(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    phone = box.token(box.server("createAppPassword", {"name": "phone"}, token).json["password"])

    assert box.get("app.bsky.feed.getTimeline").error == (401, "AuthMissing")
    assert box.get("chat.bsky.convo.listConvos", phone).error == (400, "InvalidToken")
    headers = {"Authorization": f"Bearer {token}"}
    assert box.request("PUT", "/xrpc/app.bsky.feed.getTimeline", b"", headers).status == 405
    assert appview.asked == []
