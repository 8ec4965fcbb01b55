"""Each service that a call goes to verifies the token it gets with npm @atproto/xrpc-server and the account's key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fake_service import FakeService, fake_service
from tests.interop.reference import ask_crypto
from tests.live_box import LiveBox, live_box

pytestmark = pytest.mark.interop

FEED = "at://did:plc:bv6ggog3tya2z3vxsub7hnal/app.bsky.feed.generator/cats"
GENERATOR_DID = "did:web:feeds.example"
REPORT = {
    "reasonType": "com.atproto.moderation.defs#reasonSpam",
    "subject": {"$type": "com.atproto.admin.defs#repoRef", "did": "did:plc:bv6ggog3tya2z3vxsub7hnal"},
}


def _tokens(box: LiveBox, appview: FakeService, chat: FakeService, reports: FakeService) -> list[tuple[str, str, str]]:
    """(token, audience, method) of a call of each kind, as the services got them."""
    session = box.token()
    appview.says("com.atproto.repo.getRecord", {"value": {"did": GENERATOR_DID}})
    for nsid, params in (
        ("app.bsky.feed.getTimeline", {}),
        ("app.bsky.feed.getFeed", {"feed": FEED}),
        ("chat.bsky.convo.listConvos", {}),
    ):
        assert box.get(nsid, session, **params).status == 200
    assert box.post("com.atproto.moderation.createReport", REPORT, session).status == 200
    assert box.post("app.bsky.notification.updateSeen", {"seenAt": "2026-01-01T00:00:00Z"}, session).status == 200
    with fake_service() as push:
        push.entries = {"bsky_notif": "BskyNotificationService"}
        body = {"serviceDid": push.did, "token": "t", "platform": "ios", "appId": "a"}
        assert box.post("app.bsky.notification.registerPush", body, session).status == 200
        (registered,) = push.asked
        assert json.loads(registered.body) == body
    got = [
        (appview.calls("app.bsky.feed.getTimeline")[0], "did:web:appview.example", "app.bsky.feed.getTimeline"),
        (appview.calls("app.bsky.feed.getFeed")[0], GENERATOR_DID, "app.bsky.feed.getFeedSkeleton"),
        (chat.asked[0], "did:web:chat.example", "chat.bsky.convo.listConvos"),
        (reports.asked[0], "did:web:reports.example", "com.atproto.moderation.createReport"),
        (appview.calls("app.bsky.notification.updateSeen")[0], "did:web:appview.example", None),
        (registered, push.did, "app.bsky.notification.registerPush"),
    ]
    video = {"aud": "did:web:video.example", "lxm": "app.bsky.video.getUploadLimits"}
    token = box.get("com.atproto.server.getServiceAuth", session, **video).json["token"]
    return [(asked.token, aud, lxm or asked.nsid) for asked, aud, lxm in got] + [(token, video["aud"], video["lxm"])]


def test_npm_verifies_the_tokens_that_services_get(tmp_path: Path, reference_node: tuple[str, Path]) -> None:
    with fake_service() as appview, fake_service() as chat, fake_service() as reports:
        settings = {
            "appview_url": appview.url,
            "appview_did": "did:web:appview.example",
            "chat_url": chat.url,
            "chat_did": "did:web:chat.example",
            "report_url": reports.url,
            "report_did": "did:web:reports.example",
        }
        with live_box(tmp_path / "box", **settings) as box:
            tokens = _tokens(box, appview, chat, reports)
            document = box.get("com.atproto.repo.describeRepo", repo=box.did).json["didDoc"]
            did = box.did
    key = "did:key:" + document["verificationMethod"][0]["publicKeyMultibase"]
    questions = [["check", token, aud, lxm, key] for token, aud, lxm in tokens]
    wrong = [["check", token, "did:web:other.example", lxm, key] for token, _aud, lxm in tokens]

    answers = ask_crypto(reference_node, questions + wrong)

    for (_token, aud, lxm), payload in zip(tokens, answers[: len(tokens)], strict=True):
        assert (payload["iss"], payload["aud"], payload["lxm"]) == (did, aud, lxm)
        assert 0 < payload["exp"] - payload["iat"] <= 60
    assert [answer["error"] for answer in answers[len(tokens) :]] == ["BadJwtAudience"] * len(tokens)
