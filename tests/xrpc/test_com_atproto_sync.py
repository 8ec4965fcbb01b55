"""The repository and its blobs as everybody may read them, over a real socket."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from tests.live_box import Answer, LiveBox, live_box

S = "com.atproto.sync."
THING = "com.example.thing"
STRANGER = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 500


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        token = running.token()
        for i in range(40):
            put(running, token, f"k{i}", {"i": i})
        yield running


def put(box: LiveBox, token: str, rkey: str, record: Any) -> Any:
    body = {"repo": box.did, "collection": THING, "rkey": rkey, "record": record}
    answer = box.post("com.atproto.repo.putRecord", body, token)
    assert answer.status == 200, answer.body
    return answer.json


def upload(box: LiveBox, token: str, data: bytes) -> Any:
    headers = {"Content-Type": "image/png", "Authorization": f"Bearer {token}"}
    return json.loads(box.request("POST", "/xrpc/com.atproto.repo.uploadBlob", data, headers).body)["blob"]


def blob(box: LiveBox, cid: str, **headers: str) -> Answer:
    return box.request("GET", f"/xrpc/{S}getBlob?did={box.did}&cid={cid}", headers=headers)


def test_head_status_and_list_agree(box: LiveBox) -> None:
    head = box.get(S + "getLatestCommit", did=box.did).json
    assert box.get(S + "getHead", did=box.did).json == {"root": head["cid"]}
    assert box.get(S + "getRepoStatus", did=box.did).json == {"did": box.did, "active": True, "rev": head["rev"]}
    item = {"did": box.did, "head": head["cid"], "rev": head["rev"], "active": True}
    assert box.get(S + "listRepos", limit=1000).json == {"repos": [item]}


def test_exports_proofs_and_blocks_are_cars_of_the_head(box: LiveBox) -> None:
    head = Cid.parse(box.get(S + "getLatestCommit", did=box.did).json["cid"])
    whole = box.get(S + "getRepo", did=box.did)
    assert whole.headers["content-type"] == "application/vnd.ipld.car"
    root, blocks = read_car(whole.body)
    assert root == head
    assert box.get(S + "getCheckout", did=box.did).body == whole.body
    proof = read_car(box.get(S + "getRecord", did=box.did, collection=THING, rkey="k7").body)
    assert proof[0] == head
    assert set(proof[1]) < set(blocks)
    assert box.get(S + "getRecord", did=box.did, collection=THING, rkey="none").status == 200
    some = [str(cid) for cid in list(blocks)[::5]]
    assert set(read_car(box.get(S + "getBlocks", did=box.did, cids=some).body)[1]) == {Cid.parse(cid) for cid in some}
    missing = box.get(S + "getBlocks", did=box.did, cids=[str(Cid.of_cbor(b"no"))])
    assert missing.error == (400, "BlockNotFound")


@pytest.mark.parametrize("name", ["getLatestCommit", "getHead", "getRepo", "getCheckout", "getRepoStatus", "listBlobs"])
def test_strangers_have_no_repository_here(box: LiveBox, name: str) -> None:
    assert box.get(S + name, did=STRANGER).error == (400, "RepoNotFound")


def test_a_blob_is_public_as_long_as_a_record_names_it(box: LiveBox) -> None:
    token = box.token()
    ref = upload(box, token, PNG)
    cid = ref["ref"]["$link"]
    assert blob(box, cid).error == (400, "BlobNotFound")
    assert box.get(S + "listBlobs", did=box.did).json == {"cids": []}
    before = box.get(S + "getLatestCommit", did=box.did).json["rev"]
    put(box, token, "with-blob", {"b": ref})
    answer = blob(box, cid)
    assert (answer.status, answer.body) == (200, PNG)
    wanted = {
        "content-type": "image/png",
        "content-length": str(len(PNG)),
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "access-control-allow-origin": "*",
    }
    assert {name: answer.headers.get(name) for name in wanted} == wanted
    assert answer.headers["content-disposition"].startswith("attachment")
    assert box.get(S + "listBlobs", did=box.did, since=before).json["cids"] == [cid]
    put(box, token, "with-blob", {"without": 1})
    assert blob(box, cid).error == (400, "BlobNotFound")


def test_parts_of_a_blob_and_what_the_client_has(box: LiveBox) -> None:
    token = box.token()
    ref = upload(box, token, PNG)
    cid = ref["ref"]["$link"]
    put(box, token, "ranges", {"b": ref})
    size = len(PNG)
    for asked, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99999999", 10, size),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=-5", size - 5, size),
        ("bytes=-99999999", 0, size),
    ]:
        answer = blob(box, cid, Range=asked)
        assert (answer.status, answer.body) == (206, PNG[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    beyond = blob(box, cid, Range=f"bytes={size}-")
    assert (beyond.status, beyond.json["error"]) == (416, "RangeNotSatisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for ignored in ("bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=-"):
        assert blob(box, cid, Range=ignored).body == PNG
    etag = blob(box, cid).headers["etag"]
    assert (blob(box, cid, **{"If-None-Match": etag}).status, blob(box, cid, **{"If-None-Match": '"x"'}).status) == (
        304,
        200,
    )
    head = box.request("HEAD", f"/xrpc/{S}getBlob?did={box.did}&cid={cid}")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))


def test_a_blob_shown_to_its_owner_stays_out_of_shared_caches(box: LiveBox) -> None:
    token = box.token()
    ref = upload(box, token, PNG)
    cid = ref["ref"]["$link"]
    put(box, token, "cached", {"b": ref})
    assert blob(box, cid).headers["cache-control"].startswith("public")
    assert blob(box, cid, Authorization=f"Bearer {token}").headers["cache-control"] == "private"


def test_a_deactivated_repository_is_its_owners_only(box: LiveBox) -> None:
    token = box.token()
    assert box.post("com.atproto.server.deactivateAccount", {}, token).status == 200
    try:
        for name in ("getLatestCommit", "getRepo", "listBlobs"):
            assert box.get(S + name, did=box.did).error == (400, "RepoDeactivated")
            assert box.get(S + name, token, did=box.did).status == 200
        status = {"did": box.did, "active": False, "status": "deactivated"}
        assert box.get(S + "getRepoStatus", did=box.did).json == status
        assert box.get(S + "listRepos").json["repos"][0]["active"] is False
        record = {"repo": box.did, "collection": THING, "record": {"a": 1}}
        assert box.post("com.atproto.repo.createRecord", record, token).error == (401, "AccountDeactivated")
        assert upload(box, token, b"while away")["size"] == 10
    finally:
        assert box.post("com.atproto.server.activateAccount", None, token).status == 200
    assert box.get(S + "getRepo", did=box.did).status == 200
