"""Broken requests against a real server process, over real sockets: each gets the right XRPC error, and no more."""

from __future__ import annotations

import gzip
import json
import socket
import time

import pytest

from pds_lite.atproto.cid import Cid
from tests.hostile.answers import BLOB_LIMIT, CAR, THING, R, raw, refused, status_and_error
from tests.live_box import Answer
from tests.served_box import Client, ServedBox

LEAF = Cid.of_cbor(b"nothing that is stored")


def create(client: Client, box: ServedBox, record: str, collection: str = THING, rkey: str = '"new"') -> Answer:
    """createRecord with a body as text, so that it can be wrong in every way."""
    body = f'{{"repo":"{box.did}","collection":"{collection}","rkey":{rkey},"record":{record}}}'
    return client.post(R + "createRecord", body.encode(errors="surrogatepass"), "application/json")


# -- JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"}",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe\x00",
        b"{}",
        b'{"repo": "x"',
        b'{"repo": "x",}',
        b"{'repo': 'x'}",
        b'{"repo": "a\x00b"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" * 50_000 + b"]" * 50_000,
        b'{"a":[' * 30_000 + b"]}" * 30_000,
    ],
    ids=lambda body: f"{body[:14]!r} {len(body)} bytes",
)
def test_a_body_that_is_no_json_object_of_the_lexicon(client: Client, body: bytes) -> None:
    refused(client.post(R + "createRecord", body, "application/json"))
    refused(client.post(R + "applyWrites", body, "application/json"))


@pytest.mark.parametrize(
    "value",
    [
        "1.5",
        "-0.1",
        "1e400",
        "NaN",
        "Infinity",
        "9007199254740992",
        "-9007199254740992",
        "1e17",
        "18446744073709551616",
        "1" + "0" * 400,
        "1" * 50_000,
        '"\\ud800"',
        '"\ud800"',
        '{"$link":"nonsense"}',
        '{"$link":5}',
        '{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","more":1}',
        '{"$bytes":"%%%"}',
        '{"$bytes":null}',
        '{"$bytes":"AAAA","more":1}',
        '{"$type":"blob"}',
        '{"$type":"blob","ref":{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"}}',
        '{"$type":5}',
        '{"$type":""}',
        '{"$type":null}',
        "[" * 111 + "]" * 111,
        '{"a":' * 150 + "1" + "}" * 150,
        "[[],[" * 60 + "]]" * 60,
    ],
    ids=lambda value: ascii(value[:24]),
)
@pytest.mark.parametrize("validate", ["", ',"validate":false'], ids=["", "unvalidated"])
def test_a_value_outside_the_data_model(client: Client, box: ServedBox, value: str, validate: str) -> None:
    refused(create(client, box, f'{{"$type":"{THING}","v":{value}}}{validate}'))


@pytest.mark.parametrize("kind", ['"com.example.other"', '""', "5", "null", "{}", '"app.bsky.feed.post"', '"x"'])
@pytest.mark.parametrize("validate", ["", ',"validate":false', ',"validate":true'])
def test_a_type_that_is_not_the_collection(client: Client, box: ServedBox, kind: str, validate: str) -> None:
    refused(create(client, box, f'{{"$type":{kind}}}{validate}'))


@pytest.mark.parametrize("record", ["[]", "5", '"text"', "null", "true", '{"$link":"bafkqaaa"}', '{"$bytes":"AAAA"}'])
def test_a_record_that_is_no_object(client: Client, box: ServedBox, record: str) -> None:
    refused(create(client, box, record))


LONG = [("x" * 513, "over 512"), ("x" * 10_000, "10,000"), ("x" * 300_000, "300,000"), ("a/b", "slash"), ("..", "dots")]


@pytest.mark.parametrize("rkey", [text for text, _ in LONG], ids=[name for _, name in LONG])
def test_a_record_key_that_is_none(client: Client, box: ServedBox, rkey: str) -> None:
    refused(create(client, box, "{}", rkey=json.dumps(rkey)))
    for method in ("putRecord", "deleteRecord"):
        refused(client.post(R + method, {"repo": box.did, "collection": THING, "rkey": rkey, "record": {}}))
    if len(rkey) < 20_000:
        refused(client.get(R + "getRecord", repo=box.did, collection=THING, rkey=rkey))


LONG_NSIDS = ["com." + "a" * 10_000, "a." * 5_000 + "b", "com.example." + "x" * 64, "com.example", ".", "com.example.ü"]


@pytest.mark.parametrize("nsid", LONG_NSIDS, ids=lambda nsid: f"{nsid[:12]} {len(nsid)}")
def test_a_collection_that_is_no_nsid(client: Client, box: ServedBox, nsid: str) -> None:
    refused(create(client, box, "{}", collection=nsid))
    refused(client.get(R + "listRecords", repo=box.did, collection=nsid))
    refused(client.get("com.atproto.sync.getRecord", did=box.did, collection=nsid, rkey="a"))


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_a_method_that_is_no_nsid(client: Client, verb: str) -> None:
    for nsid in ("com." + "a" * 10_000, "a." * 5_000 + "b", "%00", "..%2f..%2fetc", "a b", "com.example.%C3%BC"):
        answer = client.request(verb, f"/xrpc/{nsid.replace(' ', '%20')}", b"" if verb == "POST" else None)
        assert answer.status in (400, 404), (nsid, answer.body)
        assert answer.json["error"] in ("InvalidRequest", "MethodNotImplemented")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1.5",
        "limit=" + "9" * 5000,
        "reverse=maybe",
        "limit=1&limit=2",
        "%FF=1",
    ],
    ids=lambda query: query[:16],
)
def test_parameters_that_the_lexicon_refuses(client: Client, box: ServedBox, query: str) -> None:
    refused(client.request("GET", f"/xrpc/{R}listRecords?repo={box.did}&collection={THING}&{query}"))


def test_a_thousand_writes_and_more_parameters(client: Client, box: ServedBox) -> None:
    write = {"$type": f"{R}applyWrites#create", "collection": THING, "value": {}}
    refused(client.post(R + "applyWrites", {"repo": box.did, "writes": [write] * 201}))
    refused(client.post(R + "applyWrites", {"repo": box.did, "writes": [{**write, "$type": "x#y"}]}))
    refused(client.post(R + "applyWrites", {"repo": box.did, "writes": [{**write, "value": {"v": 1.5}}]}))
    refused(client.request("GET", "/xrpc/com.atproto.sync.getBlocks?" + "&".join(["cids=x"] * 1500)))
    good_then_bad = [write, {**write, "value": {"v": {"$link": "no"}}}]
    refused(client.post(R + "applyWrites", {"repo": box.did, "writes": good_then_bad}))


# -- bodies


def test_a_body_over_its_limit(client: Client, box: ServedBox, token: str) -> None:
    large = json.dumps({"repo": box.did, "collection": THING, "record": {"t": "x" * 2_000_000}}).encode()
    refused(client.post(R + "createRecord", large, "application/json"), 413, "PayloadTooLarge")
    login = json.dumps({"identifier": "x" * 200_000, "password": "y"}).encode()
    answer = Client(box.port)
    refused(answer.post("com.atproto.server.createSession", login, "application/json"), 413, "PayloadTooLarge")
    answer.close()
    kind = "Content-Type: application/json\r\n"
    for size in ("99999999999", str(1 << 62)):
        announced = raw(box, token, R + "createRecord", f"{kind}Content-Length: {size}\r\n")
        assert status_and_error(announced) == (413, "PayloadTooLarge")
    chunks = b"10000\r\n" + b" " * 65536 + b"\r\n"
    endless = raw(box, token, R + "createRecord", f"{kind}Transfer-Encoding: chunked\r\n", chunks * 17)
    assert status_and_error(endless) == (413, "PayloadTooLarge")


def test_a_blob_over_its_limit(client: Client, box: ServedBox, token: str) -> None:
    upload = R + "uploadBlob"
    refused(client.post(upload, bytes(BLOB_LIMIT + 1), "image/png"), 413, "PayloadTooLarge")
    announced = raw(box, token, upload, f"Content-Type: image/png\r\nContent-Length: {1 << 40}\r\n")
    assert status_and_error(announced) == (413, "PayloadTooLarge")
    chunks = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    endless = raw(box, token, upload, "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n", chunks * 4)
    assert status_and_error(endless) == (413, "PayloadTooLarge")
    refused(client.post(upload, b"", "image/png"))


@pytest.mark.parametrize(
    ("method", "kind"), [("uploadBlob", "image/png"), ("importRepo", CAR), ("createRecord", "application/json")]
)
def test_a_gzip_bomb(client: Client, method: str, kind: str) -> None:
    bomb = gzip.compress(bytes(400 << 20), 9)
    assert len(bomb) < 500_000
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    answer = client.request("POST", f"/xrpc/{R}{method}", bomb, headers)
    assert (answer.status, answer.json["error"]) in ((413, "PayloadTooLarge"), (400, "InvalidRequest"))


def test_a_gzip_body_that_is_none(client: Client) -> None:
    for body in (b"plain", gzip.compress(b"{}")[:-4], gzip.compress(b"x" * 100)[:20]):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = client.request("POST", f"/xrpc/{R}createRecord", body, headers)
        assert answer.status == 400, answer.body
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd"}
    answer = client.request("POST", f"/xrpc/{R}createRecord", b"{}", headers)
    assert answer.status in (400, 415), answer.body
    assert "error" in answer.json


@pytest.mark.parametrize(
    ("method", "kind"), [("uploadBlob", "image/png"), ("importRepo", CAR), ("createRecord", "application/json")]
)
@pytest.mark.parametrize(
    "framing", ["Content-Length: 1500000\r\n", "Transfer-Encoding: chunked\r\n"], ids=["length", "chunks"]
)
def test_a_body_that_stops_half_way(box: ServedBox, token: str, method: str, kind: str, framing: str) -> None:
    """The client goes away: nothing is stored and nothing stays behind, and the next import is not refused."""
    files = {path for path in box.data_dir.rglob("*") if path.is_file()}
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", box.port))
        request = f"POST /xrpc/{R}{method} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(f"{request}Content-Type: {kind}\r\n{framing}\r\n".encode())
        connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n" if "chunked" in framing else bytes(100_000))
        connection.close()
    end = time.monotonic() + 60
    while {path for path in box.data_dir.rglob("*") if path.is_file()} != files:
        assert time.monotonic() < end, "an aborted upload left a file"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("createRecord", "text/plain"),
        ("createRecord", "application/x-www-form-urlencoded"),
        ("createRecord", "application/jsonp"),
        ("createRecord", "x" * 5000),
        ("createRecord", ""),
        ("importRepo", "application/json"),
        ("importRepo", "application/octet-stream"),
    ],
    ids=lambda value: value[:20],
)
def test_a_content_type_that_the_lexicon_does_not_name(client: Client, box: ServedBox, method: str, kind: str) -> None:
    body = json.dumps({"repo": box.did, "collection": THING, "record": {}}).encode()
    refused(client.request("POST", f"/xrpc/{R}{method}", body, {"Content-Type": kind} if kind else {}))


def test_a_body_where_none_belongs(client: Client) -> None:
    refused(client.post("com.atproto.server.activateAccount", b"xxx"))


# -- reading


def test_reading_with_nonsense(client: Client, box: ServedBox) -> None:
    sync = "com.atproto.sync."
    refused(client.get(sync + "getBlob", did=box.did, cid="nonsense"))
    refused(client.get(sync + "getBlob", did=box.did, cid=str(LEAF)), 400, "BlobNotFound")
    refused(client.get(sync + "getBlocks", did=box.did, cids=["nonsense"]))
    refused(client.get(sync + "getBlocks", did=box.did, cids=[str(LEAF)]), 400, "BlockNotFound")
    refused(client.get(sync + "getRepo", did="did:plc:ewvi7nxzyoun6zhxrhs64oiz"), 400, "RepoNotFound")
    refused(client.get(sync + "getRepo", did="x" * 5000))
    refused(client.get(sync + "getRepo", did=box.did, since="nonsense"))
    refused(client.get(sync + "listBlobs", did=box.did, cursor="nonsense"))
    refused(client.get(R + "getRecord", repo=box.did, collection=THING, rkey="nothing"), 400, "RecordNotFound")
    refused(client.get(R + "getRecord", repo="x" * 5000, collection=THING, rkey="a"))
