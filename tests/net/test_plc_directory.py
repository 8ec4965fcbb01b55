"""The PLC directory: its answers pass through, its refusals keep their words."""

import secrets

import pytest

from pds_lite.atproto import did_doc, plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.errors import NotFound, UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.net.plc_directory import OperationRefused, PlcDirectory
from tests.net.web import Web

PLC = "https://plc.example.com"
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"


def directory(path, answer):
    return PlcDirectory(Web({f"{PLC}/{DID}{path}": answer}), PLC + "/")


async def test_documents_and_logs_pass_through():
    assert await directory("", (200, b'{"id":"x"}')).document(DID) == {"id": "x"}
    assert await directory("/log/audit", (200, b"[1]")).audit_log(DID) == [1]


@pytest.mark.parametrize(
    ("answer", "kind", "name", "words"),
    [
        ((404, b'{"message":"DID not registered"}'), NotFound, "DidNotFound", "does not know did:plc:ewvi"),
        ((410, b""), NotFound, "DidDeactivated", "tombstoned"),
        ((500, b'{"message":"oh"}'), UpstreamFailure, "UpstreamFailure", "500 'oh'"),
        ((502, b"<html>"), UpstreamFailure, "UpstreamFailure", "status 502"),
        ((301, b""), UpstreamFailure, "UpstreamFailure", "status 301"),
        ((200, b"<html>"), UpstreamFailure, "UpstreamFailure", "no JSON"),
        ("connection refused", UpstreamFailure, "UpstreamFailure", "connection refused"),
    ],
)
async def test_a_failure_says_what_came_back(answer, kind, name, words):
    with pytest.raises(kind, match=words) as caught:
        await directory("", answer).document(DID)
    assert caught.value.error == name


async def test_answers_of_the_wrong_shape_are_refused():
    with pytest.raises(UpstreamFailure, match="no list"):
        await directory("/log/audit", (200, b"{}")).audit_log(DID)


async def test_an_operation_is_posted_as_json_and_a_refusal_keeps_the_directorys_words():
    web = Web({f"{PLC}/{DID}": (200, b"OK")})
    await PlcDirectory(web, PLC).submit(DID, {"type": "plc_tombstone"})
    assert web.asked == [("POST", f"{PLC}/{DID}", b'{"type":"plc_tombstone"}')]

    with pytest.raises(OperationRefused, match=r"refused the operation.*400 'Invalid signature on op'"):
        await directory("", (400, b'{"message":"Invalid signature on op"}')).submit(DID, {})
    for status in (429, 500, 503):  # says nothing about the operation
        with pytest.raises(UpstreamFailure) as failed:
            await directory("", (status, b"{}")).submit(DID, {})
        assert type(failed.value) is UpstreamFailure


async def test_a_did_cannot_leave_its_place_in_the_url():
    web = Web()
    with pytest.raises(UpstreamFailure):
        await PlcDirectory(web, PLC).document("did:plc:x/../y?z#")
    assert web.asked[0][1] == f"{PLC}/did:plc:x%2F..%2Fy%3Fz%23"
    assert web.configured == [True], "the directory is the owner's choice"


@pytest.mark.interop
async def test_a_real_directory_is_read_and_written(reference_node):
    from tests.interop.reference import plc_directory

    box = K256Key.generate(secrets.token_bytes(40))
    genesis = plc.sign_op(plc.genesis([box.did_key], box.did_key, "alice.test", "https://pds.example.com"), box)
    did = plc.did_of(genesis)
    with plc_directory(reference_node) as url:
        http = HttpClient()
        real = PlcDirectory(http, url)
        with pytest.raises(NotFound):
            await real.document(did)
        with pytest.raises(UpstreamFailure, match="refused the operation"):
            await real.submit(did, {**genesis, "prev": "x"})
        await real.submit(did, genesis)
        assert did_doc.parse(await real.document(did), did).handle == "alice.test"
        assert plc.audit(did, await real.audit_log(did)).last == genesis
        await http.close()
