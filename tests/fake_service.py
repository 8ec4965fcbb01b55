"""Services on loopback that a box passes calls on to: an AppView, a feed generator, a chat or video service.

`fake_service` speaks HTTP and remembers every request; `raw_service` does to a connection whatever a test says.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pds_lite.atproto.jwt import decode_jws

JSON = {"Content-Type": "application/json"}


@dataclass
class Asked:
    """One request that arrived."""

    verb: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def nsid(self) -> str:
        return self.path.removeprefix("/xrpc/").partition("?")[0]

    @property
    def token(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")

    @property
    def claims(self) -> dict[str, Any]:
        """What the token says; its signature is not looked at."""
        return decode_jws(self.token).claims


Reply = tuple[int, Mapping[str, str], Any]
"""Status, headers, body: bytes (Content-Length) or an iterable of bytes (chunked)."""


@dataclass
class FakeService:
    """Answers `answers[nsid]`, or else `answer`; either may be a function of Asked."""

    url: str = ""
    did: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Any = (200, JSON, b'{"ok":true}')
    answers: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=lambda: {"test_svc": "TestService"})
    """Fragments and types in its DID document."""

    def says(self, nsid: str, value: Any, status: int = 200, **headers: str) -> None:
        """JSON as the answer to one method."""
        extra = {name.replace("_", "-"): text for name, text in headers.items()}
        self.answers[nsid] = (status, {**JSON, **extra}, json.dumps(value).encode())

    def calls(self, nsid: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.nsid == nsid]

    def document(self) -> bytes:
        services = [
            {"id": f"#{name}", "type": kind, "serviceEndpoint": self.url} for name, kind in self.entries.items()
        ]
        return json.dumps({"id": self.did, "service": services}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = FakeService(f"http://localhost:{self.server_port}", f"did:web:localhost%3A{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        service = self.server.service
        if self.path == "/.well-known/did.json":
            self._send(200, JSON, service.document())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, self._body())
        service.asked.append(asked)
        answer = service.answers.get(asked.nsid, service.answer)
        self._send(*(answer(asked) if callable(answer) else answer))

    do_POST = do_GET  # noqa: N815 - the name http.server looks for
    do_HEAD = do_GET  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        whole = isinstance(body, bytes)
        framing = {"Content-Length": str(len(body))} if whole else {"Transfer-Encoding": "chunked"}
        self.send_response(status)
        for name, value in {**headers, **framing}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if whole:
            self.wfile.write(body)
            return
        for piece in body:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_arguments: Any) -> None:
        pass


@contextmanager
def fake_service() -> Iterator[FakeService]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def raw_service(script: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """The URL of a server that reads a request's head and lets `script(connection, head)` do the rest."""

    def visited(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            script(connection, head)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _address = listener.accept()
                threading.Thread(target=visited, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://localhost:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
