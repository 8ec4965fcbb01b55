"""Tokens of other services at this server: a video service uploads for the owner for half an hour, and nobody else."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import service_auth
from pds_lite.atproto.crypto import K256Key, P256Key
from tests.live_box import Answer, LiveBox, live_box

UPLOAD = "com.atproto.repo.uploadBlob"
STRANGER = "did:plc:bv6ggog3tya2z3vxsub7hnal"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("auth") / "box", rate_limits=False) as box:
        yield box


@pytest.fixture(scope="module")
def session(running: LiveBox) -> str:
    return running.token()


def _service_did(box: LiveBox) -> str:
    """What a video service computes from the owner's DID document."""
    return f"did:web:localhost%3A{box.port}"


def _upload(box: LiveBox, token: str) -> Answer:
    """As the video service does it: a stream, with the token of the owner."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "video/mp4"}
    return box.request("POST", f"/xrpc/{UPLOAD}", b"\0\0\0\x18ftypmp42" + secrets.token_bytes(50_000), headers)


def _token(box: LiveBox, **changes: Any) -> str:
    """A good token but for `changes`."""
    assert box.app is not None
    now = int(time.time())
    good = {
        "key": box.app.services.keys.signing,
        "iss": box.did,
        "aud": _service_did(box),
        "lxm": UPLOAD,
        "iat": now,
        "exp": now + 1800,
        "jti": secrets.token_hex(8),
    }
    return service_auth.mint(**{**good, **changes})


def test_a_video_service_uploads_with_a_token_of_half_an_hour(running: LiveBox, session: str) -> None:
    asked = {"aud": _service_did(running), "lxm": UPLOAD, "exp": int(time.time()) + 1800}
    token = running.get("com.atproto.server.getServiceAuth", session, **asked).json["token"]

    for _ in range(2):  # a video has captions and a thumbnail
        answer = _upload(running, token)
        assert answer.status == 200
        assert answer.json["blob"]["mimeType"] == "video/mp4"
    assert running.get("com.atproto.server.getSession", token).status in (400, 401)
    assert running.post("com.atproto.repo.createRecord", {}, token).status in (400, 401)


def test_both_forms_of_our_audience_are_taken(running: LiveBox) -> None:
    assert _upload(running, _token(running, aud=f"{_service_did(running)}#atproto_pds")).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "did:web:video.example"}, "BadJwtAudience"),
        ({"aud": "did:web:localhost"}, "BadJwtAudience"),
        ({"lxm": "app.bsky.video.uploadVideo"}, "BadJwtLexiconMethod"),
        ({"exp": int(time.time()) - 1}, "JwtExpired"),
        ({"iss": STRANGER}, "BadJwtIss"),
        ({"iss": "did:web:video.example"}, "BadJwtIss"),
        ({"iss": "nobody"}, "BadJwtIss"),
        ({"key": K256Key.generate(b"\1" * 40)}, "BadJwtSignature"),
        ({"key": P256Key.generate(b"\1" * 40)}, "BadJwtSignature"),
    ],
)
def test_any_other_token_is_refused_by_name(running: LiveBox, changes: dict[str, Any], error: str) -> None:
    assert _upload(running, _token(running, **changes)).error == (401, error)


def test_what_names_no_method_is_a_bad_session_token(running: LiveBox) -> None:
    for token in (_token(running, lxm=None), "garbage", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."):
        assert _upload(running, token).error == (400, "InvalidToken")


def test_a_token_is_good_for_its_own_method_only(running: LiveBox) -> None:
    headers = {"Authorization": f"Bearer {_token(running)}"}
    for nsid in ("com.atproto.server.getSession", "app.bsky.feed.getTimeline", "com.atproto.server.checkAccountStatus"):
        assert running.request("GET", f"/xrpc/{nsid}", headers=headers).status in (400, 401), nsid


def test_a_deactivated_account_may_still_get_its_blobs(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as box:
        assert box.server("deactivateAccount", {}, box.token()).status == 200
        assert _upload(box, _token(box)).status == 200
