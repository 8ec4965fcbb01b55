"""Browser clients nobody here wrote, in Chromium: @atproto/oauth-client-browser, @atcute/oauth-browser-client."""

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

import pytest

from tests.interop.reference import plc_directory
from tests.interop.test_oauth_client import POST, public_client, published_box
from tests.live_box import HANDLE, PASSWORD
from tests.oauth_app import localhost_id

pytestmark = pytest.mark.interop
FOLDER = Path(__file__).resolve().parent
LIKE = "app.bsky.feed.like"
SCOPE = f"atproto repo:{POST} repo:{LIKE} blob:*/*"


@pytest.fixture(scope="module")
def tools() -> tuple[str, Path, Path]:
    """(Chromium, the folder with playwright-core, the folder with the browser clients and esbuild): REF_DIR is both."""
    browser = os.environ.get("BROWSER_PATH") or shutil.which("chromium")
    folder = Path(os.environ.get("REF_DIR", "/tmp/ref"))
    wanted = ("playwright-core", "@atcute/oauth-browser-client", "@atproto/oauth-client-browser", "esbuild")
    if browser is None or not all((folder / "node_modules" / name).is_dir() for name in wanted):
        pytest.skip("no chromium or no browser clients: tests/interop/install fetches them, see README, Tests")
    return browser, folder, folder


@contextmanager
def page_of(script: bytes, plc_url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where the app's page is, its client metadata): one page with everything in it, on an address of its own."""
    page = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    redirect = f"http://127.0.0.1:{server.server_address[1]}/"
    client = {**public_client(SCOPE), "client_id": localhost_id(SCOPE, redirect), "redirect_uris": [redirect]}
    settings = json.dumps({"client": client, "plcUrl": plc_url}).encode()
    page = b'<!doctype html><script type="application/json" id="APP">' + settings + b"</script>"
    page += b'<script type="module">' + script + b"</script>"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield redirect, client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bundle(node: str, apps: Path, script: Path) -> bytes:
    """One module out of `script` and what it imports."""
    words = [str(apps / "node_modules/.bin/esbuild"), "--bundle", "--format=esm", "--log-level=error"]
    run = subprocess.run(
        [*words, "--target=es2022"],
        input=script.read_bytes(),
        cwd=apps,
        env={**os.environ, "PATH": f"{Path(node).parent}:{os.environ['PATH']}"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return run.stdout.replace(b"</script", b"<\\/script")


@pytest.mark.parametrize("kind", ["atproto", "atcute"])
def test_a_browser_client_signs_in_writes_within_its_scopes_refreshes_and_leaves(
    reference_node: Any, tools: tuple[str, Path, Path], tmp_path: Path, kind: str
) -> None:
    node, _ = reference_node
    browser, clients, apps = tools
    script = bundle(node, apps, FOLDER / f"browser_app_{kind}.js")
    with plc_directory(reference_node) as directory, published_box(tmp_path / "box", directory) as box:
        plc_url = directory.replace("127.0.0.1", "localhost")
        with page_of(script, plc_url) as (app, _client):
            record = {"text": "from Chromium", "createdAt": "2026-01-01T00:00:00Z"}
            walk = {
                "app": app,
                "server": box.url,
                "handle": HANDLE,
                "password": PASSWORD,
                "untick": [f"repo:{LIKE}"],
                "post": {"collection": POST, "record": record},
                "like": {"collection": LIKE, "record": record, "validate": False},
            }
            run = subprocess.run(
                [node, str(FOLDER / "browser_app.mjs")],
                env={**os.environ, "WALK": json.dumps(walk), "CLIENTS_DIR": str(clients), "BROWSER_PATH": browser},
                capture_output=True,
                text=True,
                check=True,
                timeout=110,
            )
        outcome = json.loads(run.stdout)
        assert "error" not in outcome, outcome
        assert outcome["did"] == box.did
        assert outcome["scope"] == f"atproto repo:{POST} blob:*/*"
        assert outcome["post"]["status"] == 200, outcome["post"]
        assert outcome["like"]["status"] == 403
        assert json.loads(outcome["like"]["body"])["error"] == "ScopeMissingError"
        assert outcome["refreshed"] == outcome["scope"]
        assert outcome["again"]["status"] == 200
        assert box.app is not None
        assert box.app.services.oauth().grants.live() == [], "signing out there ends it here"
