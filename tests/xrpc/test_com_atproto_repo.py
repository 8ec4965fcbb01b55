"""The record methods as clients see them, over a real socket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.cid import Cid
from tests.live_box import Answer, LiveBox, live_box

R = "com.atproto.repo."
POST, THING = "app.bsky.feed.post", "com.example.thing"
CAR = "application/vnd.ipld.car"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        yield running


@pytest.fixture(scope="module")
def token(box: LiveBox) -> str:
    return box.token()


def create(box: LiveBox, token: str, record: Any, collection: str = THING, **more: Any) -> Answer:
    return box.post(R + "createRecord", {"repo": box.did, "collection": collection, "record": record, **more}, token)


def upload(box: LiveBox, token: str, data: bytes, kind: str, verb: str = "uploadBlob", **headers: str) -> Answer:
    fields = {"Content-Type": kind, "Authorization": f"Bearer {token}", **headers}
    return box.request("POST", f"/xrpc/{R}{verb}", data, fields)


def test_what_create_answers_is_what_get_and_the_head_say(box: LiveBox, token: str) -> None:
    record = {"$type": POST, "text": "hello", "createdAt": "2026-01-01T00:00:00Z"}
    made = create(box, token, record, POST).json
    assert (made["validationStatus"], made["uri"].split("/")[2:4]) == ("valid", [box.did, POST])
    assert made["commit"] == box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    for repo in (box.did, "Alice.Test"):
        found = box.get(R + "getRecord", repo=repo, collection=POST, rkey=made["uri"].split("/")[-1]).json
        assert found == {"uri": made["uri"], "cid": made["cid"], "value": record}


def test_what_is_public_is_read_whatever_credential_is_shown(box: LiveBox, token: str) -> None:
    uri = create(box, token, {"n": 1}).json["uri"]
    spoilt = token[:-8] + "AAAAAAAA"
    for shown in ("Bearer of-another-host", f"Bearer {spoilt}", f"DPoP {token}", "Basic eDp5", "Bearer"):
        headers = {"Authorization": shown}
        for query in (
            f"getRecord?repo={box.did}&collection={THING}&rkey={uri.split('/')[-1]}",
            f"listRecords?repo={box.did}&collection={THING}",
            f"describeRepo?repo={box.did}",
        ):
            assert box.request("GET", f"/xrpc/{R}{query}", headers=headers).status == 200, (shown, query)


def test_links_and_bytes_come_back_as_they_went(box: LiveBox, token: str) -> None:
    record = {
        "$type": THING,
        "link": {"$link": str(Cid.of_cbor(b"x"))},
        "bytes": {"$bytes": "AQID"},
        "n": 3,
        "none": None,
    }
    made = create(box, token, {**record, "n": 3.0}).json
    assert (
        box.get(R + "getRecord", repo=box.did, collection=THING, rkey=made["uri"].split("/")[-1]).json["value"]
        == record
    )


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
def test_a_field_may_hold_a_hundred_levels_by_every_way_of_writing(box: LiveBox, token: str, wrap: Any) -> None:
    value: Any = 1
    for _ in range(100):
        value = wrap(value)
    created = create(box, token, {"v": value}).json
    names = {"repo": box.did, "collection": THING}
    box.post(R + "putRecord", {**names, "rkey": "deep", "record": {"v": value}}, token)
    write = {"$type": R + "applyWrites#update", "collection": THING, "rkey": "deep", "value": {"v": value, "n": 1}}
    assert box.post(R + "applyWrites", {"repo": box.did, "writes": [write]}, token).status == 200
    rkey = created["uri"].split("/")[-1]
    assert box.get(R + "getRecord", **names, rkey=rkey).json["value"]["v"] == value
    listed = {record["uri"]: record["value"].get("v") for record in box.get(R + "listRecords", **names).json["records"]}
    assert listed[created["uri"]] == listed[f"at://{box.did}/{THING}/deep"] == value


@pytest.mark.parametrize(
    "change",
    [
        {"record": {"a": 1.5}},
        {"record": {"a": 2**53}},
        {"record": {"l": {"$link": "zzz"}}},
        {"record": {"b": {"$bytes": "*"}}},
        {"record": {"$type": POST}},
        {"record": {"$type": 5}},
        {"record": [1]},
        {"record": "text"},
        {"collection": "x" * 10_000},
        {"rkey": "a/b"},
        {"rkey": "."},
        {"validate": True},
        {"swapCommit": "zzz"},
        {"record": {"i": {"cid": str(Cid.of_raw(b"x")), "mimeType": "image/png"}}},
    ],
)
def test_bad_records_and_names_are_invalid_requests(box: LiveBox, token: str, change: dict[str, Any]) -> None:
    before = box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    body = {"repo": box.did, "collection": THING, "record": {"a": 1}, **change}
    assert box.post(R + "createRecord", body, token).error == (400, "InvalidRequest")
    assert box.get("com.atproto.sync.getLatestCommit", did=box.did).json == before


def test_swaps_and_no_ops(box: LiveBox, token: str) -> None:
    def put(record: Any, **more: Any) -> Answer:
        body = {"repo": box.did, "collection": THING, "rkey": "swapped", "record": record, **more}
        return box.post(R + "putRecord", body, token)

    made = put({"a": 1}, swapRecord=None)
    assert put({"a": 2}, swapRecord=None).error == (400, "InvalidSwap")
    assert put({"a": 2}, swapRecord=str(Cid.of_cbor(b"x"))).error == (400, "InvalidSwap")
    same = put({"a": 1}, swapRecord=made.json["cid"]).json
    assert ("commit" in same, same["cid"]) == (False, made.json["cid"])
    gone = {"repo": box.did, "collection": THING, "rkey": "not-there"}
    assert box.post(R + "deleteRecord", gone, token).json == {}
    wrong = {"repo": box.did, "collection": THING, "rkey": "swapped", "swapRecord": str(Cid.of_cbor(b"x"))}
    assert box.post(R + "deleteRecord", wrong, token).error == (400, "InvalidSwap")


def test_apply_writes_answers_one_result_a_write_and_is_all_or_nothing(box: LiveBox, token: str) -> None:
    def write(kind: str, **more: Any) -> dict[str, Any]:
        return {"$type": f"{R}applyWrites#{kind}", "collection": THING, **more}

    def apply(*writes: Any) -> Answer:
        return box.post(R + "applyWrites", {"repo": box.did, "writes": writes}, token)

    done = apply(
        write("create", rkey="batch", value={"a": 1}),
        write("update", rkey="batch", value={"a": 2}),
        write("create", value={"a": 3}),
    ).json
    kinds = [result["$type"].partition("#")[2] for result in done["results"]]
    assert kinds == ["createResult", "updateResult", "createResult"]
    head = box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    assert done["commit"] == head
    assert apply(write("create", value={"a": 1}), write("delete", rkey="nothing")).status == 400
    assert apply(write("upsert", rkey="a", value={})).error == (400, "InvalidRequest")
    assert apply(*[write("create", value={"i": i}) for i in range(201)]).error == (400, "InvalidRequest")
    assert box.get("com.atproto.sync.getLatestCommit", did=box.did).json == head
    assert apply(write("delete", rkey="batch")).json["results"] == [{"$type": f"{R}applyWrites#deleteResult"}]


def test_nobody_else_writes_and_only_here(box: LiveBox, token: str) -> None:
    body = {"repo": box.did, "collection": THING, "record": {"a": 1}}
    assert box.post(R + "createRecord", body).error == (401, "AuthMissing")
    assert create(box, token, {"a": 1}, repo="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").status == 400


def test_lists_and_descriptions(box: LiveBox, token: str) -> None:
    for key in "abc":
        body = {"repo": box.did, "collection": "com.example.list", "rkey": key, "record": {"k": key}}
        box.post(R + "putRecord", body, token)
    first = box.get(R + "listRecords", repo=box.did, collection="com.example.list", limit=2).json
    assert [record["value"]["k"] for record in first["records"]] == ["c", "b"]
    last = box.get(R + "listRecords", repo=box.did, collection="com.example.list", limit=2, cursor=first["cursor"]).json
    assert ([record["value"]["k"] for record in last["records"]], "cursor" in last) == (["a"], False)
    assert "com.example.list" in box.get(R + "describeRepo", repo="alice.test").json["collections"]
    for name in ("listRecords", "describeRepo"):
        answer = box.get(R + name, repo="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", collection=THING)
        assert answer.error == (400, "RepoNotFound")


def test_uploads_are_refused_over_the_limit_and_without_a_credential(tmp_path: Path) -> None:
    with live_box(tmp_path, blob_limit=1000) as box:
        token = box.token()
        assert upload(box, token, b"x" * 1000, "text/plain").status == 200
        assert upload(box, token, b"x" * 1001, "text/plain").status == 413
        assert upload(box, "no", b"x", "text/plain").error == (400, "InvalidToken")
        assert upload(box, token, b"", "text/plain").status == 400


def test_an_export_imports_again_and_rubbish_does_not(box: LiveBox, token: str) -> None:
    create(box, token, {"before": 1})
    head = box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    car = box.get("com.atproto.sync.getRepo", did=box.did).body
    for bad in (car[:-5], b"rubbish", b""):
        answer = upload(box, token, bad, CAR, "importRepo")
        assert answer.error == (400, "InvalidRequest")
    assert box.get("com.atproto.sync.getLatestCommit", did=box.did).json == head
    assert upload(box, token, car, CAR, "importRepo").status == 200
    after = box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    assert after["rev"] > head["rev"]
    assert create(box, token, {"after": 1}).status == 200
    assert box.get(R + "listMissingBlobs", token).json == {"blobs": []}
