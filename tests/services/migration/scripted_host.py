"""An old host that is scripted: what it answers to each method, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Asked:
    """One request."""

    def __init__(self, nsid: str, params: Mapping[str, str], token: str, body: bytes) -> None:
        self.nsid = nsid
        self.params = params
        self.token = token
        self.body = body


Reply = tuple[int, Any, dict[str, str]]


class ScriptedHost:
    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answers: dict[str, Callable[[Asked], Reply]] = {}

    def names(self) -> list[str]:
        return [asked.nsid.rpartition(".")[2] for asked in self.asked]


def error(status: int, name: str, **headers: str) -> Reply:
    return (
        status,
        {"error": name, "message": f"{name} for the test"},
        {k.replace("_", "-"): v for k, v in headers.items()},
    )


@contextmanager
def scripted_host() -> Iterator[ScriptedHost]:
    host = ScriptedHost()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            nsid = parts.path.removeprefix("/xrpc/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            asked = Asked(nsid, dict(parse_qsl(parts.query)), token, body)
            host.asked.append(asked)
            status, content, headers = host.answers[nsid](asked)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
