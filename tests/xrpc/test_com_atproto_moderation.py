"""createReport: to the report service of the settings, or to the labeler the caller names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_service import JSON, FakeService, fake_service
from tests.live_box import LiveBox, live_box

REPORT = "com.atproto.moderation.createReport"
SUBJECT = {"$type": "com.atproto.admin.defs#repoRef", "did": "did:plc:bv6ggog3tya2z3vxsub7hnal"}
GIVEN = {"reasonType": "com.atproto.moderation.defs#reasonSpam", "subject": SUBJECT, "modTool": {"name": "app"}}


@pytest.fixture
def reports() -> Iterator[FakeService]:
    with fake_service() as running:
        running.says(REPORT, {"id": 7})
        yield running


@pytest.fixture
def box(tmp_path: Path, reports: FakeService) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", report_url=reports.url, report_did="did:web:reports.example") as running:
        yield running


def test_a_report_goes_to_the_report_service(box: LiveBox, reports: FakeService) -> None:
    token = box.token()
    assert box.post(REPORT, GIVEN, token).json == {"id": 7}

    (asked,) = reports.asked
    assert json.loads(asked.body) == GIVEN
    assert asked.headers["content-type"] == "application/json"
    assert (asked.claims["iss"], asked.claims["aud"]) == (box.did, "did:web:reports.example")
    assert asked.claims["lxm"] == REPORT

    assert box.server("deactivateAccount", {}, token).status == 200
    assert box.post(REPORT, GIVEN, token).status == 200


def test_a_report_goes_to_the_labeler_that_is_named(box: LiveBox, reports: FakeService) -> None:
    with fake_service() as labeler:
        labeler.entries = {"atproto_labeler": "AtprotoLabeler"}
        labeler.says(REPORT, {"id": 8})
        headers = {
            "Authorization": f"Bearer {box.token()}",
            "atproto-proxy": f"{labeler.did}#atproto_labeler",
            "Content-Type": "application/json",
        }
        assert box.request("POST", f"/xrpc/{REPORT}", json.dumps(GIVEN).encode(), headers).json == {"id": 8}
        assert labeler.asked[0].claims["aud"] == labeler.did
    assert reports.asked == []


def test_what_is_no_report_does_not_leave(box: LiveBox, reports: FakeService) -> None:
    token = box.token()
    assert box.post(REPORT, GIVEN).error == (401, "AuthMissing")
    assert box.post(REPORT, {"subject": SUBJECT}, token).error == (400, "InvalidRequest")
    assert box.get(REPORT, token).error == (405, "MethodNotAllowed")
    assert reports.asked == []


def test_a_refusal_of_the_service_is_passed_on(box: LiveBox, reports: FakeService) -> None:
    reports.answers[REPORT] = (400, JSON, b'{"error":"Duplicate","message":"known"}')

    assert box.post(REPORT, GIVEN, box.token()).error == (400, "Duplicate")
