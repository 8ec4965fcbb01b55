"""getFeed: the token in the call is for the feed generator, for getFeedSkeleton, and the call is the AppView's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_service import FakeService, fake_service
from tests.live_box import LiveBox, live_box

GET_FEED = "app.bsky.feed.getFeed"
GET_RECORD = "com.atproto.repo.getRecord"
OTHER = "did:plc:bv6ggog3tya2z3vxsub7hnal"
FEED = f"at://{OTHER}/app.bsky.feed.generator/cats"
GENERATOR_DID = "did:web:feeds.example"
RECORD = {"uri": FEED, "value": {"$type": "app.bsky.feed.generator", "did": GENERATOR_DID}}


@pytest.fixture
def appview() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, appview: FakeService) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", appview_url=appview.url, appview_did="did:web:appview.example") as running:
        yield running


def test_the_token_is_for_the_generator_and_the_record_is_asked_once(box: LiveBox, appview: FakeService) -> None:
    appview.says(GET_RECORD, RECORD)
    token = box.token()

    for _ in range(2):
        assert box.get(GET_FEED, token, feed=FEED, limit=5).json == {"ok": True}

    (looked_up,) = appview.calls(GET_RECORD)
    assert "authorization" not in looked_up.headers
    first, _second = appview.calls(GET_FEED)
    assert first.path.endswith("limit=5")
    assert (first.claims["iss"], first.claims["aud"]) == (box.did, GENERATOR_DID)
    assert first.claims["lxm"] == "app.bsky.feed.getFeedSkeleton"


def test_a_feed_of_our_own_needs_no_look_up(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    record = {"did": GENERATOR_DID, "displayName": "Mine", "createdAt": "2026-01-01T00:00:00Z"}
    body = {"repo": box.did, "collection": "app.bsky.feed.generator", "rkey": "mine", "record": record}
    made = box.post("com.atproto.repo.createRecord", body, token)
    assert made.status == 200, made.body

    assert box.get(GET_FEED, token, feed=made.json["uri"]).status == 200
    assert appview.calls(GET_RECORD) == []
    assert appview.calls(GET_FEED)[0].claims["aud"] == GENERATOR_DID


def test_the_host_of_the_feed_knows_what_the_appview_does_not(box: LiveBox, appview: FakeService) -> None:
    with fake_service() as host:
        host.entries = {"atproto_pds": "AtprotoPersonalDataServer"}
        host.says(GET_RECORD, RECORD)
        appview.says(GET_RECORD, {"error": "RecordNotFound"}, 400)

        assert box.get(GET_FEED, box.token(), feed=FEED.replace(OTHER, host.did)).status == 200

        assert "authorization" not in host.calls(GET_RECORD)[0].headers
        assert appview.calls(GET_FEED)[0].claims["aud"] == GENERATOR_DID


@pytest.mark.parametrize(
    "value", [{}, {"value": {}}, {"value": {"did": 7}}, {"value": {"did": "nobody"}}, {"value": []}, [], 7]
)
def test_a_feed_that_names_no_service_is_unknown(box: LiveBox, appview: FakeService, value: object) -> None:
    appview.says(GET_RECORD, value)

    assert box.get(GET_FEED, box.token(), feed=FEED).error == (400, "UnknownFeed")
    assert appview.calls(GET_FEED) == []


def test_a_feed_parameter_that_is_none_is_refused(box: LiveBox, appview: FakeService) -> None:
    token = box.token()
    for params in ({}, {"feed": ""}, {"feed": "cats"}):
        assert box.get(GET_FEED, token, **params).error == (400, "InvalidRequest")
    assert box.get(GET_FEED, token, feed=f"at://{OTHER}").error == (400, "UnknownFeed")
    assert appview.asked == []
