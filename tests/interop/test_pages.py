"""The pages in real Chromium: phone and desktop, light and dark, without JavaScript, by axe-core's rules.

Screenshots of every page are left in PDS_LITE_SCREENSHOTS (else the test's folder): a person looks at them.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live_box import HANDLE, PASSWORD, live_box

FOLDER = Path(__file__).resolve().parent
pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def found(reference_node: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    node, ref_dir = reference_node
    if not (ref_dir / "node_modules" / "playwright-core").is_dir() or shutil.which("chromium") is None:
        pytest.skip("no playwright-core or no chromium: tests/interop/install")
    folder = Path(os.environ.get("PDS_LITE_SCREENSHOTS", tmp_path_factory.mktemp("screenshots")))
    folder.mkdir(parents=True, exist_ok=True)
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as box:
        fill(box)
        arguments = [node, str(FOLDER / "pages.mjs"), str(ref_dir), box.url, HANDLE, PASSWORD, str(folder)]
        answer = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def fill(box: Any) -> None:
    """Something to see: records, files, app passwords, a session, a code, refused sign-ins."""
    token = box.token()
    made = box.server("createAppPassword", {"name": "Tablet", "privileged": True}, token).json
    box.log_in(made["password"])
    blob = box.post("com.atproto.repo.uploadBlob", b"\x89PNG\r\n\x1a\n", token).json["blob"]
    record = {"$type": "com.example.files", "files": [blob]}
    body = {"repo": box.did, "collection": "com.example.files", "record": record}
    assert box.post("com.atproto.repo.createRecord", body, token).status == 200
    box.server("requestAccountDelete", token=token)
    for _ in range(3):
        box.server("createSession", {"identifier": HANDLE, "password": "wrong"})


def test_every_flow_works(found: dict[str, Any]) -> None:
    assert "failure" not in found, found["failure"]
    for what in (
        "ten recovery codes",
        "signed in with a recovery code",
        "the summary of a problem has the focus",
        "taken back, the app is out",
        "the repository is downloaded",
        "signed in with the passkey alone",
        "the passkey keeps this device signed in",
        "a passkey signs in to let an app in",
        "without the device's lock nobody gets in",
        "the consent page is shown",
    ):
        assert what in found["passed"], what


def test_axe_finds_nothing(found: dict[str, Any]) -> None:
    assert found["violations"] == []


def test_pages_fit_the_screen_and_the_thumb(found: dict[str, Any]) -> None:
    assert found["wide"] == []
    assert found["small"] == []
    assert found["pages"] > 50


def test_nothing_is_blocked_by_our_own_policy(found: dict[str, Any]) -> None:
    assert found["blocked"] == []
