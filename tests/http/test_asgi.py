"""microdot's handlers get whole requests, and every answer of whatever status can be read by a web page."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from microdot import Request, abort

from pds_lite.errors import BadInput, PdsError
from pds_lite.http.asgi import WebApp, form_body
from tests.http.http_server import Connection, RunningServer, running

LONG = json.dumps({"text": "hello " * 2000})


async def who(request: Any) -> dict[str, Any]:
    return {"client": request.client_addr[0], "scheme": request.scheme, "args": request.args, "path": request.path}


async def form(request: Request) -> dict[str, Any]:
    await form_body(request)
    return dict(request.form)


async def refuse(_request: Request) -> str:
    raise BadInput("not like this", error="NotLikeThis", hint="see /etc/secret")


async def teapot(_request: Request) -> str:
    abort(418, "short and stout")


async def long(_request: Request) -> Any:
    return LONG, 200, {"Content-Type": "application/json"}


async def picture(_request: Request) -> Any:
    return LONG.encode(), 200, {"Content-Type": "image/png"}


async def nothing(_request: Request) -> Any:
    return b"", 200


async def cookies(_request: Request) -> Any:
    return "x", 200, {"Set-Cookie": ["a=1", "b=2"]}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    app = WebApp()
    for handler in (who, refuse, teapot, long, picture, nothing, cookies):
        app.get(f"/{handler.__name__}")(handler)
    app.post("/form")(form)
    with running(app, trusted=("127.0.0.1",)) as started:
        yield started


def get(client: Connection, path: str, *lines: str) -> Any:
    return client.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()).answer()


@pytest.mark.parametrize("path", ["/who", "/refuse", "/teapot", "/nowhere", "/%00", "/who/%3Fx"])
def test_every_status_carries_cors_headers(server: RunningServer, path: str) -> None:
    with server.connect() as client:
        answer = get(client, path, "Origin: https://app.example")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "dpop-nonce" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers


def test_preflight_works_on_any_path_and_gives_the_asked_headers_back(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(
            b"OPTIONS /nowhere HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example\r\n"
            b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-new-thing\r\n\r\n"
        )
        answer = client.answer()
        assert answer.status == 204
        assert answer.headers["access-control-allow-headers"] == "authorization,x-new-thing"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-max-age"] == "86400"
        assert "content-length" not in answer.headers


def test_an_error_of_the_tree_is_its_status_without_the_hint(
    server: RunningServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), server.connect() as client:
        answer = get(client, "/refuse")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "NotLikeThis", "message": "not like this"})
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_an_abort_of_microdot_keeps_its_status(server: RunningServer) -> None:
    with server.connect() as client:
        assert get(client, "/teapot").status == 418


def test_the_client_is_the_rightmost_untrusted_hop(server: RunningServer) -> None:
    with server.connect() as client:
        lines = "X-Forwarded-For: 198.51.100.1, 192.0.2.1", "X-Forwarded-Proto: https"
        answer = json.loads(get(client, "/who?a=1&b=c%20d", *lines).body)
        assert (answer["client"], answer["scheme"]) == ("192.0.2.1", "https")
        assert answer["args"] == {"a": ["1"], "b": ["c d"]}


def test_without_trust_forwarding_headers_are_ignored() -> None:
    app = WebApp()
    app.get("/who")(who)
    with running(app) as server, server.connect() as client:
        answer = json.loads(get(client, "/who", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https").body)
        assert (answer["client"], answer["scheme"]) == ("127.0.0.1", "http")


def test_on_a_unix_socket_the_trusted_proxy_names_the_client(tmp_path: Path) -> None:
    app = WebApp()
    app.get("/who")(who)
    path = tmp_path / "http.sock"
    with running(app, trusted=("unix",), unix_socket=path):
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(60)
        raw.connect(str(path))
        with Connection(raw) as client:
            assert json.loads(get(client, "/who", "X-Forwarded-For: 192.0.2.1").body)["client"] == "192.0.2.1"
            assert json.loads(get(client, "/who").body)["client"] == "unix"


def test_a_form_is_read_when_a_handler_asks(server: RunningServer) -> None:
    body = b"username=me&password=a%26b"
    with server.connect() as client:
        head = b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert json.loads(client.answer().body) == {"username": ["me"], "password": ["a&b"]}
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nusern\r\n6\r\name=me\r\n0\r\n\r\n")
        assert json.loads(client.answer().body) == {"username": ["me"]}
        client.send(head + b"Content-Length: 70000\r\n\r\n" + b"a" * 70000)
        assert client.answer().status == 413


def test_broken_escapes_and_too_many_fields_are_no_fault(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.connect() as client:
        for path in ("/who?x=%ff&y=%zz&z=%", "/who/%3Fx=%25ff"):
            assert get(client, path).status in (200, 404)
        assert json.loads(get(client, "/who?a=%C3%A9+%26&a=2&b").body)["args"] == {"a": ["é &", "2"], "b": [""]}
        assert get(client, "/who?" + "a=1&" * 600).status == 400
        head = b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
        for body, status in ((b"a=%ff&b=\xc3\xa9", 200), (b"a=%zz&%", 200), (b"a&" * 600, 400)):
            client.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = client.answer()
            assert answer.status == status
            if body.startswith(b"a=%ff"):
                assert json.loads(answer.body) == {"a": ["\ufffd"], "b": ["é"]}
    assert not caplog.records


def test_large_json_is_compressed_only_when_asked(server: RunningServer) -> None:
    with server.connect() as client:
        answer = get(client, "/long", "Accept-Encoding: br, gzip;q=0.5")
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(answer.body).decode() == LONG
        assert len(answer.body) < len(LONG) / 4
        for refusal in ("identity", "gzip;q=0", "deflate"):
            plain = get(client, "/long", f"Accept-Encoding: {refusal}")
            assert "content-encoding" not in plain.headers
            assert plain.body.decode() == LONG
            assert plain.headers["vary"] == "accept-encoding"
        assert "content-encoding" not in get(client, "/picture", "Accept-Encoding: gzip").headers


def test_an_empty_answer_has_no_type(server: RunningServer) -> None:
    with server.connect() as client:
        answer = get(client, "/nothing")

    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers


def test_several_cookies_stay_several_headers(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET /cookies HTTP/1.0\r\n\r\n")
        assert client.rest().count(b"set-cookie: ") == 2


def test_a_synchronous_handler_is_refused_when_it_is_registered() -> None:
    def handler(_request: Request) -> str:
        return "in a thread"

    with pytest.raises(TypeError, match="async"):
        WebApp().get("/")(handler)  # type: ignore[arg-type]


def test_the_base_of_the_tree_is_500() -> None:
    async def broken(_request: Request) -> str:
        raise PdsError("unsaid")

    app = WebApp()
    app.get("/")(broken)
    with running(app) as server, server.connect() as client:
        assert get(client, "/").status == 500
