"""getPreferences and putPreferences over a real socket: who may, what is refused, and when another AppView is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_service import FakeService, fake_service
from tests.live_box import LiveBox, live_box

GET, PUT = "app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences"
TAGS = {"$type": "app.bsky.actor.defs#interestsPref", "tags": ["cats"]}
BIRTH = {"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00.000Z"}


@pytest.fixture
def appview() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, appview: FakeService) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", appview_url=appview.url, appview_did="did:web:appview.example") as running:
        yield running


def _put(box: LiveBox, token: str | None, *preferences: Any) -> Any:
    return box.post(PUT, {"preferences": list(preferences)}, token)


def test_they_are_kept_here_also_while_deactivated(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    answer = _put(box, token, TAGS)
    assert (answer.status, answer.body) == (200, b"")
    assert box.get(GET, token).json == {"preferences": [TAGS]}
    assert box.server("checkAccountStatus", token=token).status == 405
    assert box.get("com.atproto.server.checkAccountStatus", token).json["privateStateValues"] == 1

    assert box.server("deactivateAccount", {}, token).status == 200
    assert _put(box, token, TAGS, TAGS).status == 200
    assert len(box.get(GET, token).json["preferences"]) == 2
    assert appview.asked == []


def test_an_app_password_neither_sees_nor_sets_the_birth_date(box: LiveBox) -> None:
    owner = box.token()
    phone = box.token(box.server("createAppPassword", {"name": "phone", "privileged": True}, owner).json["password"])
    assert _put(box, owner, BIRTH, TAGS).status == 200

    assert BIRTH not in box.get(GET, phone).json["preferences"]
    assert _put(box, phone, BIRTH).error == (400, "InvalidRequest")
    assert _put(box, phone).status == 200
    assert box.get(GET, owner).json["preferences"][0] == BIRTH


def test_what_is_refused_is_refused_by_name(box: LiveBox) -> None:
    token = box.token()
    assert _put(box, None, TAGS).error == (401, "AuthMissing")
    assert box.get(GET).error == (401, "AuthMissing")
    for wrong in ({"a": 1}, {"$type": "com.example.x"}, 7):
        assert _put(box, token, wrong).error == (400, "InvalidRequest")
    assert box.post(PUT, {}, token).error == (400, "InvalidRequest")
    large = {"$type": "app.bsky.actor.defs#x", "text": "x" * 200_000}
    assert _put(box, token, large).status == 413
    assert box.get(GET, token).json == {"preferences": []}


def test_the_configured_appview_in_the_header_is_no_other_service(box: LiveBox, appview: FakeService) -> None:
    headers = {"Authorization": f"Bearer {box.token()}", "atproto-proxy": "did:web:appview.example#bsky_appview"}

    assert box.request("GET", f"/xrpc/{GET}", headers=headers).json == {"preferences": []}
    assert appview.asked == []


def test_another_appview_has_its_own(box: LiveBox) -> None:
    with fake_service() as other:
        other.entries = {"bsky_appview": "BskyAppView"}
        other.says(GET, {"preferences": ["theirs"]})
        headers = {"Authorization": f"Bearer {box.token()}", "atproto-proxy": f"{other.did}#bsky_appview"}

        assert box.request("GET", f"/xrpc/{GET}", headers=headers).json == {"preferences": ["theirs"]}
        body = b'{"preferences": [{"$type":"app.bsky.actor.defs#x"}]}'
        sent = {**headers, "Content-Type": "application/json"}
        assert box.request("POST", f"/xrpc/{PUT}", body, sent).status == 200

        read, written = other.asked
        assert (read.claims["aud"], read.claims["lxm"]) == (other.did, GET)
        assert (written.claims["lxm"], written.body) == (PUT, body.replace(b" ", b""))
