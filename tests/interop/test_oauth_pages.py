"""The authorization page in a real Chromium: phone and desktop, light and dark, with and without JavaScript."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box
from tests.oauth_app import App

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).resolve().parent / "oauth_pages.mjs"
SCOPE = (
    "atproto transition:email repo:app.bsky.feed.post repo:app.bsky.feed.like?action=create blob:image/* "
    "rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview identity:handle account:email?action=manage"
)


@pytest.fixture(scope="module")
def chromium() -> tuple[str, str]:
    """(the browser, the folder whose node_modules holds playwright-core): BROWSER_PATH, REF_DIR."""
    browser = os.environ.get("BROWSER_PATH") or shutil.which("chromium")
    folder = os.environ.get("REF_DIR", "/tmp/ref")
    if browser is None or not (Path(folder) / "node_modules" / "playwright-core").is_dir():
        pytest.skip("no chromium or no playwright-core: see README, Tests")
    return browser, folder


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("pages") / "box", rate_limits=False) as running:
        yield running


@contextmanager
def app_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(where an app waits for its answer, the answers it got)."""
    answers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urlsplit(self.path).query
            if self.path.startswith("/callback"):
                answers.append(dict(parse_qsl(query)))
            self._page()

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            answers.append(dict(parse_qsl(self.rfile.read(length).decode())))
            self._page()

        def _page(self) -> None:
            body = b"<!doctype html><title>app</title><p>back at the app"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/callback", answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("phone", [True, False], ids=["phone", "desktop"])
@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_the_owner_signs_in_and_agrees(
    reference_node: Any,
    chromium: tuple[str, str],
    box: LiveBox,
    tmp_path: Path,
    mode: str,
    phone: bool,
    javascript: bool,
) -> None:
    node, _ = reference_node
    browser, clients = chromium
    shots = Path(os.environ.get("SHOTS", tmp_path)) / f"{mode}-{'phone' if phone else 'desktop'}-{javascript}"
    shots.mkdir(parents=True, exist_ok=True)
    with app_server() as (redirect, answers):
        app = App(box.url, scope=SCOPE, redirect=redirect)
        walk = {
            "url": box.url + app.page_url(app.push(response_mode=mode)),
            "handle": HANDLE,
            "password": PASSWORD,
            "untick": ["identity:handle"],
            "javascript": javascript,
            "phone": phone,
            "dark": phone,
            "formPost": mode == "form_post",
            "shots": str(shots),
        }
        run = subprocess.run(
            [node, str(SCRIPT)],
            env={**os.environ, "WALK": json.dumps(walk), "CLIENTS_DIR": clients, "BROWSER_PATH": browser},
            capture_output=True,
            text=True,
            check=True,
            timeout=110,
        )
        outcome = json.loads(run.stdout)
        assert "error" not in outcome, outcome
        assert outcome["faults"] == []
        assert [line for line in outcome["said"] if "Content Security Policy" in line or "Refused" in line] == []
        assert answers[0]["iss"] == box.url
        assert answers[0]["state"] == app.state
        tokens = app.exchange(answers[0]["code"]).json
        assert set(tokens["scope"].split(" ")) == set(SCOPE.split(" ")) - {"identity:handle"}
