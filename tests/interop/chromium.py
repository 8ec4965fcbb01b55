"""Real Chromium for the browser tests: where it is, how a script drives it, and the pages of the apps it comes from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Chromium:
    """The browser, and the folder whose node_modules hold what drives it: BROWSER_PATH, REF_DIR."""

    node: str
    path: str
    modules: Path

    def walk(self, script: str, **walk: Any) -> dict[str, Any]:
        """What `script` saw on the walk it was given."""
        given = {"WALK": json.dumps(walk), "CLIENTS_DIR": str(self.modules), "BROWSER_PATH": self.path}
        run = subprocess.run(
            [self.node, str(FOLDER / script)],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )
        assert run.returncode == 0, run.stderr
        outcome: dict[str, Any] = json.loads(run.stdout)
        assert "error" not in outcome, outcome
        return outcome


def find_chromium(reference_node: tuple[str, Path], *packages: str) -> Chromium:
    """Skips the test where the browser, playwright-core or one of `packages` is missing."""
    node, modules = reference_node
    path = os.environ.get("BROWSER_PATH") or shutil.which("chromium")
    missing = [name for name in ("playwright-core", *packages) if not (modules / "node_modules" / name).is_dir()]
    if path is None or missing:
        pytest.skip(f"no chromium or no {missing}: tests/interop/install fetches them, see README, Tests")
    return Chromium(node, path, modules)


@dataclass
class AppPage:
    """A page of an app on loopback, and what browsers brought to it."""

    url: str = ""
    body: bytes = b"<!doctype html><title>app</title><p>back at the app"
    answers: list[dict[str, str]] = field(default_factory=list)
    leads_on_to: str = ""
    """Where it sends whoever brought something, as brokers and the websites of mobile apps do."""


@contextmanager
def app_page() -> Iterator[AppPage]:
    """The same page for every request; what came by query or form is noted."""
    page = AppPage()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])).decode())

        def _answer(self, brought: str) -> None:
            if brought:
                page.answers.append(dict(parse_qsl(brought)))
            self.send_response(303 if brought and page.leads_on_to else 200)
            if page.leads_on_to:
                self.send_header("location", page.leads_on_to)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    page.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield page
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
