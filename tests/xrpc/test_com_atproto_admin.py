"""com.atproto.admin.*: closed without the administrator's password; what it hides, and what it gives back."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pds_lite.atproto import firehose
from pds_lite.services.commit_clock import iso_time
from pds_lite.storage import event_log
from pds_lite.xrpc import methods  # noqa: F401 - registers them
from pds_lite.xrpc.router import METHODS
from tests.live_box import HANDLE, PASSWORD, Answer, LiveBox, live_box
from tests.smtp_sink import smtp_sink

SECRET = "s3cret"
THING = "com.example.thing"


def admin(box: LiveBox, name: str, body: Any = None, **params: Any) -> Answer:
    """Calls com.atproto.<name> as the administrator; a query without a body."""
    headers = {"Authorization": "Basic " + base64.b64encode(f"admin:{SECRET}".encode()).decode()}
    if body is None:
        return box.request("GET", f"/xrpc/com.atproto.{name}?{urlencode(params, doseq=True)}", headers=headers)
    headers["Content-Type"] = "application/json"
    return box.request("POST", f"/xrpc/com.atproto.{name}", json.dumps(body).encode(), headers)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", admin_password=SECRET) as running:
        yield running


def services(box: LiveBox) -> Any:
    assert box.app is not None
    return box.app.services


def create(box: LiveBox, token: str, **record: Any) -> Any:
    body = {"repo": box.did, "collection": THING, "record": {"$type": THING, **record}}
    return box.post("com.atproto.repo.createRecord", body, token)


def last_event(box: LiveBox) -> tuple[str, Any]:
    assert box.app is not None
    with box.app.services.store.read() as txn:
        frame = event_log.read_after(txn, 0, 1 << 30, 1000)[-1][1]
    header, body = firehose.decode_frame(frame)
    return header["t"], body


@pytest.mark.parametrize("name", sorted(nsid for nsid in METHODS if nsid.startswith("com.atproto.admin.")))
def test_it_is_closed_to_everybody_else(shared: LiveBox, name: str) -> None:
    verb = METHODS[name].verb
    wrong = {"Authorization": "Basic " + base64.b64encode(b"admin:wrong").decode()}
    for headers, status in ((None, 401), (wrong, 401), ({"Authorization": f"Bearer {shared.token()}"}, 401)):
        assert shared.request(verb, f"/xrpc/{name}", headers=headers).status == status


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        yield running


def test_the_account_is_shown(box: LiveBox) -> None:
    info = admin(box, "admin.getAccountInfo", did=box.did).json

    assert (info["did"], info["handle"], info["email"]) == (box.did, HANDLE, "alice@example.com")
    assert info["indexedAt"].endswith("Z")
    strange = "did:plc:" + "a" * 24
    assert admin(box, "admin.getAccountInfos", dids=[box.did, strange]).json == {"infos": [info]}
    assert admin(box, "admin.getAccountInfo", did=strange).error == (400, "NotFound")
    assert admin(box, "admin.searchAccounts", email="ALICE@example.com").json == {"accounts": [info]}
    assert admin(box, "admin.searchAccounts", email="bob@example.com").json == {"accounts": []}
    assert admin(box, "admin.getInviteCodes").json == {"codes": []}


def test_the_account_is_changed(box: LiveBox) -> None:
    token = box.token()
    assert admin(box, "admin.updateAccountEmail", {"account": HANDLE, "email": "new@example.com"}).status == 200
    assert admin(box, "admin.updateAccountHandle", {"did": box.did, "handle": "bob.test"}).status == 200
    session = box.get("com.atproto.server.getSession", token).json
    assert (session["email"], session["emailConfirmed"], session["handle"]) == ("new@example.com", False, "bob.test")

    changed = {"did": box.did, "password": "another horse battery"}
    assert admin(box, "admin.updateAccountPassword", changed).status == 200
    assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
    assert box.log_in("another horse battery", "bob.test")["did"] == box.did

    assert admin(box, "admin.deleteAccount", {"did": box.did}).status == 200
    assert box.get("com.atproto.sync.getRepoStatus", did=box.did).error == (400, "RepoNotFound")
    assert admin(box, "admin.deleteAccount", {"did": box.did}).error == (400, "InvalidRequest")


def test_a_mail_goes_to_the_owner_where_there_is_a_server(tmp_path: Path, box: LiveBox) -> None:
    mail = {"recipientDid": box.did, "senderDid": box.did, "content": "hello", "subject": "two\nlines"}
    assert admin(box, "admin.sendEmail", mail).json == {"sent": False}
    with smtp_sink() as sink, live_box(tmp_path / "other", admin_password=SECRET, smtp_url=sink.url) as other:
        mail["recipientDid"] = other.did
        assert admin(other, "admin.sendEmail", mail).json == {"sent": True}
        assert (sink.mails[0]["Subject"], sink.mails[0].get_content().strip()) == ("two lines", "hello")


def test_a_record_is_hidden_and_shown_again_and_the_repository_stays_whole(box: LiveBox) -> None:
    token = box.token()
    kept, made = create(box, token, n=1).json, create(box, token, n=2).json
    rkey = made["uri"].rpartition("/")[2]
    subject = {"$type": "com.atproto.repo.strongRef", "uri": made["uri"], "cid": made["cid"]}
    body = {"subject": subject, "takedown": {"applied": True, "ref": "case-1"}}

    assert admin(box, "admin.updateSubjectStatus", body).json == body

    params = {"repo": box.did, "collection": THING}
    assert box.get("com.atproto.repo.getRecord", **params, rkey=rkey).error == (400, "RecordNotFound")
    listed = box.get("com.atproto.repo.listRecords", **params).json["records"]
    assert [record["uri"] for record in listed] == [kept["uri"]]
    status = admin(box, "admin.getSubjectStatus", uri=made["uri"]).json
    assert status == {"subject": subject, "takedown": {"applied": True, "ref": "case-1"}}
    assert box.get("com.atproto.sync.getRepo", did=box.did).status == 200

    body["takedown"] = {"applied": False}
    assert admin(box, "admin.updateSubjectStatus", body).status == 200
    assert box.get("com.atproto.repo.getRecord", **params, rkey=rkey).status == 200
    assert admin(box, "admin.getSubjectStatus", uri=made["uri"]).json["takedown"] == {"applied": False}


def test_a_blob_is_hidden_also_after_a_restart(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", admin_password=SECRET) as box:
        token = box.token()
        blob = box.post("com.atproto.repo.uploadBlob", b"some bytes", token).json["blob"]
        create(box, token, blob=blob)
        did, cid = box.did, blob["ref"]["$link"]
        assert box.get("com.atproto.sync.getBlob", did=did, cid=cid).body == b"some bytes"
        subject = {"$type": "com.atproto.admin.defs#repoBlobRef", "did": did, "cid": cid}
        body = {"subject": subject, "takedown": {"applied": True}}
        assert admin(box, "admin.updateSubjectStatus", body).status == 200
        assert box.get("com.atproto.sync.getBlob", did=did, cid=cid).error == (400, "BlobNotFound")

    with live_box(tmp_path / "box", admin_password=SECRET) as box:
        assert box.get("com.atproto.sync.getBlob", did=did, cid=cid).error == (400, "BlobNotFound")
        assert admin(box, "admin.getSubjectStatus", did=did, blob=cid).json["takedown"]["applied"] is True


def test_an_account_that_is_taken_down_is_silent_until_it_is_given_back(box: LiveBox) -> None:
    token, made = box.token(), create(box, box.token(), n=1).json
    subject = {"$type": "com.atproto.admin.defs#repoRef", "did": box.did}

    down = {"subject": subject, "takedown": {"applied": True, "ref": "case-2"}}
    assert admin(box, "admin.updateSubjectStatus", down).status == 200

    kind, event = last_event(box)
    assert (kind, event["active"], event["status"]) == ("#account", False, "takendown")
    assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
    login = {"identifier": HANDLE, "password": PASSWORD}
    assert box.server("createSession", login).error == (401, "AccountTakedown")
    allowed = box.server("createSession", {**login, "allowTakendown": True}).json
    assert (allowed["active"], allowed["status"]) == (False, "takendown")
    assert create(box, allowed["accessJwt"], n=2).error == (400, "InvalidToken")
    assert box.server("activateAccount", token=allowed["accessJwt"]).error == (400, "InvalidToken")
    handle = box.post("com.atproto.identity.updateHandle", {"handle": "bob.test"}, allowed["accessJwt"])
    assert handle.error == (400, "InvalidToken")
    assert box.get("com.atproto.server.getSession", allowed["accessJwt"]).error == (400, "InvalidToken")
    assert box.server("refreshSession", token=allowed["refreshJwt"]).error == (401, "AccountTakedown")
    assert box.get("com.atproto.sync.getRepo", did=box.did).error == (400, "RepoTakendown")
    export = admin(box, "sync.getRepo", did=box.did)
    assert (export.status, export.headers["content-type"]) == (200, "application/vnd.ipld.car")
    assert admin(box, "sync.getLatestCommit", did=box.did).json["rev"] == made["commit"]["rev"]
    guessed = {"Authorization": "Basic " + base64.b64encode(b"admin:guess").decode()}
    refused = box.request("GET", f"/xrpc/com.atproto.sync.getRepo?did={box.did}", headers=guessed)
    assert refused.error == (401, "AuthenticationRequired")
    status = {"did": box.did, "active": False, "status": "takendown"}
    assert box.get("com.atproto.sync.getRepoStatus", did=box.did).json == status
    answer = admin(box, "admin.getSubjectStatus", did=box.did).json
    assert answer["takedown"] == {"applied": True, "ref": "case-2"}
    assert answer["deactivated"] == {"applied": False}

    assert admin(box, "admin.updateSubjectStatus", {**down, "takedown": {"applied": False}}).status == 200
    assert create(box, box.token(), n=3).status == 200
    params = {"repo": box.did, "collection": THING, "rkey": made["uri"].rpartition("/")[2]}
    assert box.get("com.atproto.repo.getRecord", **params).status == 200


def test_an_account_that_is_taken_down_can_be_moved_out(box: LiveBox) -> None:
    app_password = box.server("createAppPassword", {"name": "bot"}, box.token()).json["password"]
    subject = {"$type": "com.atproto.admin.defs#repoRef", "did": box.did}
    assert admin(box, "admin.updateSubjectStatus", {"subject": subject, "takedown": {"applied": True}}).status == 200

    def allowed(password: str) -> str:
        login = {"identifier": HANDLE, "password": password, "allowTakendown": True}
        token: str = box.server("createSession", login).json["accessJwt"]
        return token

    token = allowed(PASSWORD)
    payload = token.split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["scope"] == "com.atproto.takendown"
    assert box.get("com.atproto.sync.getRepo", token, did=box.did).status == 200
    assert box.get("com.atproto.sync.listBlobs", token, did=box.did).status == 200
    assert box.get("app.bsky.actor.getPreferences", token).status == 200
    auth = {"aud": "did:web:new.example.com", "lxm": "com.atproto.server.createAccount"}
    assert box.get("com.atproto.server.getServiceAuth", token, **auth).status == 200
    auth["lxm"] = "app.bsky.feed.getTimeline"
    assert box.get("com.atproto.server.getServiceAuth", token, **auth).error == (400, "InvalidToken")
    assert box.post("com.atproto.identity.requestPlcOperationSignature", token=token).status == 200
    assert box.get("app.bsky.feed.getTimeline", token).error == (400, "InvalidToken"), "nothing is passed on"
    refused = box.post("com.atproto.identity.requestPlcOperationSignature", token=allowed(app_password))
    assert refused.error == (400, "InvalidToken"), "an app password never moves an account"
    assert box.server("deactivateAccount", {}, token).status == 200

    assert admin(box, "admin.updateSubjectStatus", {"subject": subject, "takedown": {"applied": False}}).status == 200
    answer = admin(box, "admin.getSubjectStatus", did=box.did).json
    assert answer["deactivated"] == {"applied": True}


def test_times_are_those_at_which_it_happened(box: LiveBox) -> None:
    account = services(box).account
    before = iso_time(account.require().created_us + 1)
    view = admin(box, "admin.getAccountInfo", did=box.did).json
    assert "emailConfirmedAt" not in view
    assert "deactivatedAt" not in view

    box.run(services(box).flows.mark_confirmed())
    box.server("deactivateAccount", {}, box.token())

    view = admin(box, "admin.getAccountInfo", did=box.did).json
    assert before < view["emailConfirmedAt"] < view["deactivatedAt"]
    box.server("activateAccount", token=box.token())
    box.run(services(box).flows.set_email("other@example.com"))
    view = admin(box, "admin.getAccountInfo", did=box.did).json
    assert "emailConfirmedAt" not in view
    assert "deactivatedAt" not in view


def test_a_deactivated_account_comes_back_deactivated(box: LiveBox) -> None:
    box.server("deactivateAccount", {}, box.token())
    subject = {"$type": "com.atproto.admin.defs#repoRef", "did": box.did}
    for applied in (True, True, False):
        body = {"subject": subject, "takedown": {"applied": applied}}
        assert admin(box, "admin.updateSubjectStatus", body).status == 200

    answer = admin(box, "admin.getSubjectStatus", did=box.did).json
    assert (answer["takedown"], answer["deactivated"]) == ({"applied": False}, {"applied": True})
    activate = {"subject": subject, "deactivated": {"applied": False}}
    assert admin(box, "admin.updateSubjectStatus", activate).status == 200
    assert box.get("com.atproto.sync.getRepoStatus", did=box.did).json["active"] is True


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"blob": "bafkreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"},
        {"did": "did:plc:" + "a" * 24},
        {"uri": "at://did:plc:" + "a" * 24 + "/com.example.thing/self"},
    ],
)
def test_a_subject_that_is_not_here_is_refused(box: LiveBox, params: dict[str, str]) -> None:
    assert admin(box, "admin.getSubjectStatus", **params).status == 400
