"""Browser clients nobody here wrote, in Chromium: @atproto/oauth-client-browser, @atcute/oauth-browser-client."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.interop.chromium import FOLDER, Chromium, app_page, find_chromium
from tests.interop.reference import plc_directory
from tests.interop.test_oauth_client import POST, public_client, published_box
from tests.live_box import PASSWORD
from tests.oauth_app import localhost_id

pytestmark = pytest.mark.interop
LIKE = "app.bsky.feed.like"
SCOPE = f"atproto repo:{POST} repo:{LIKE} blob:*/*"


@pytest.fixture(scope="module")
def chromium(reference_node: tuple[str, Path]) -> Chromium:
    return find_chromium(reference_node, "@atcute/oauth-browser-client", "@atproto/oauth-client-browser", "esbuild")


def page_with(script: bytes, redirect: str, plc_url: str) -> bytes:
    """A page of one piece: the app's settings and all its code."""
    client = {**public_client(SCOPE), "client_id": localhost_id(SCOPE, redirect), "redirect_uris": [redirect]}
    settings = json.dumps({"client": client, "plcUrl": plc_url}).encode()
    page = b'<!doctype html><script type="application/json" id="APP">' + settings + b"</script>"
    return page + b'<script type="module">' + script + b"</script>"


def bundle(chromium: Chromium, script: Path) -> bytes:
    """One module out of `script` and what it imports."""
    words = [str(chromium.modules / "node_modules/.bin/esbuild"), "--bundle", "--format=esm", "--log-level=error"]
    run = subprocess.run(
        [*words, "--target=es2022"],
        input=script.read_bytes(),
        cwd=chromium.modules,
        env={**os.environ, "PATH": f"{Path(chromium.node).parent}:{os.environ['PATH']}"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return run.stdout.replace(b"</script", b"<\\/script")


@pytest.mark.parametrize("kind", ["atproto", "atcute"])
def test_a_browser_client_signs_in_writes_within_its_scopes_refreshes_is_revoked_and_leaves(
    reference_node: Any, chromium: Chromium, tmp_path: Path, kind: str
) -> None:
    script = bundle(chromium, FOLDER / f"browser_app_{kind}.js")
    record = {"text": "from Chromium", "createdAt": "2026-01-01T00:00:00Z"}
    with (
        plc_directory(reference_node) as directory,
        published_box(tmp_path / "box", directory) as box,
        app_page() as app,
    ):
        app.body = page_with(script, app.url, directory.replace("127.0.0.1", "localhost"))
        seen = chromium.walk(
            "browser_app.mjs",
            app=app.url,
            server=box.url,
            password=PASSWORD,
            popup=kind == "atproto",
            untick=[f"repo:{LIKE}"],
            post={"collection": POST, "record": record},
            like={"collection": LIKE, "record": record, "validate": False},
        )
        assert seen["did"] == box.did
        assert seen["scope"] == f"atproto repo:{POST} blob:*/*"
        assert seen["post"]["status"] == 200, seen["post"]
        assert seen["like"]["status"] == 403
        assert json.loads(seen["like"]["body"])["error"] == "ScopeMissingError"
        assert seen["refreshed"] == seen["scope"]
        assert seen["again"]["status"] == 200
        assert seen["revoked"]["status"] == 401, "taken back on the account page, it is out at once"
        assert json.loads(seen["revoked"]["body"])["error"] == "invalid_token"
        assert seen.get("popup") == (box.did if kind == "atproto" else None)
        assert box.app is not None
        assert box.app.services.oauth().grants.live() == [], "signing out there ends it here"
