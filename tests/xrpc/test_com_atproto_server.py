"""com.atproto.server over a real socket: sessions, app passwords, service tokens, the account's life."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.crypto.did_key import parse_did_key
from pds_lite.atproto.jwt import decode_jws
from pds_lite.box import setup
from pds_lite.errors import StoreFull
from pds_lite.storage.store import Store
from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        yield running


@pytest.fixture(scope="module")
def token(box: LiveBox) -> str:
    return box.token()


def test_describe_server(box: LiveBox) -> None:
    described = box.get("com.atproto.server.describeServer").json

    assert described["did"] == f"did:web:localhost%3A{box.port}"
    assert described["blobUploadLimit"] == 300 << 20
    assert described["inviteCodeRequired"] is True
    assert described["availableUserDomains"] == [".test"]
    assert (described["links"], described["contact"]) == ({}, {})


def test_describe_server_says_who_runs_it_and_whether_a_code_is_needed(tmp_path: Path) -> None:
    settings = {
        "contact_email": "owner@example.com",
        "privacy_policy_url": "https://example.com/privacy",
        "terms_of_service_url": "https://example.com/terms",
    }
    with live_box(tmp_path / "box", account=False, **settings) as box:
        assert box.app is not None
        box.run(setup.wait_for_claim(box.app.services, with_code=False))
        described = box.get("com.atproto.server.describeServer").json
    assert described["links"] == {
        "privacyPolicy": "https://example.com/privacy",
        "termsOfService": "https://example.com/terms",
    }
    assert described["contact"] == {"email": "owner@example.com"}
    assert described["inviteCodeRequired"] is False


@pytest.mark.parametrize("identifier", [HANDLE, "ALICE.test", "@alice.test", "alice@example.com", "DID"])
def test_sign_in_by_handle_did_and_email(box: LiveBox, identifier: str) -> None:
    session = box.log_in(identifier=box.did if identifier == "DID" else identifier)

    assert (session["did"], session["handle"], session["active"]) == (box.did, HANDLE, True)
    assert (session["email"], session["emailConfirmed"], session["emailAuthFactor"]) == (
        "alice@example.com",
        False,
        False,
    )
    assert session["didDoc"]["service"][0]["serviceEndpoint"] == box.url
    assert "status" not in session


def test_a_wrong_password_or_name_is_one_and_the_same_refusal(box: LiveBox) -> None:
    for identifier, password in (
        (HANDLE, "wrong"),
        ("bob.test", PASSWORD),
        ("x@y.example", PASSWORD),
        (HANDLE, "x" * 600),
    ):
        answer = box.server("createSession", {"identifier": identifier, "password": password})
        assert answer.error == (401, "AuthenticationRequired")


def test_missing_wrong_and_misplaced_credentials(box: LiveBox) -> None:
    session = box.log_in()
    nsid = "com.atproto.server.getSession"

    assert box.get(nsid).error == (401, "AuthMissing")
    assert box.get(nsid, "nonsense").error == (400, "InvalidToken")
    assert box.get(nsid, session["refreshJwt"]).error == (400, "InvalidToken")
    assert box.server("refreshSession", token=session["accessJwt"]).error == (400, "InvalidToken")
    answer = box.request("GET", f"/xrpc/{nsid}", headers={"Authorization": "Basic YTpi"})
    assert answer.error == (400, "InvalidToken")


def test_a_session_refreshes_and_ends(box: LiveBox) -> None:
    first = box.log_in()
    second = box.server("refreshSession", token=first["refreshJwt"]).json

    assert second["did"] == box.did
    assert box.get("com.atproto.server.getSession", second["accessJwt"]).json["handle"] == HANDLE
    assert box.server("deleteSession", token=second["refreshJwt"]).status == 200
    assert box.get("com.atproto.server.getSession", second["accessJwt"]).error == (400, "ExpiredToken")
    assert box.server("refreshSession", token=second["refreshJwt"]).error == (400, "ExpiredToken")
    assert box.server("deleteSession", token=second["refreshJwt"]).status == 200


def test_app_passwords_open_narrower_sessions_and_end_with_them(box: LiveBox, token: str) -> None:
    made = box.server("createAppPassword", {"name": "phone"}, token).json
    assert made["privileged"] is False
    phone = box.token(made["password"])

    for name, body in (
        ("createAppPassword", {"name": "more"}),
        ("revokeAppPassword", {"name": "phone"}),
        ("activateAccount", None),
        ("deactivateAccount", {}),
    ):
        assert box.server(name, body, phone).error == (400, "InvalidToken"), name
    assert box.get("com.atproto.server.listAppPasswords", phone).error == (400, "InvalidToken")
    assert box.post("com.atproto.repo.importRepo", b"x", phone).status == 400
    listed = box.get("com.atproto.server.listAppPasswords", token).json["passwords"]
    assert [(row["name"], row["privileged"]) for row in listed] == [("phone", False)]
    assert "password" not in listed[0]
    assert box.server("createAppPassword", {"name": "phone"}, token).status == 400

    assert box.server("revokeAppPassword", {"name": "phone"}, token).status == 200
    assert box.get("com.atproto.server.getSession", phone).error == (400, "ExpiredToken")
    assert box.server("createSession", {"identifier": HANDLE, "password": made["password"]}).status == 401


def test_app_passwords_are_listed_newest_first(box: LiveBox, token: str) -> None:
    for name in ("older", "newer"):
        assert box.server("createAppPassword", {"name": name}, token).status == 200
    rows = box.get("com.atproto.server.listAppPasswords", token).json["passwords"]
    assert [row["name"] for row in rows][:2] == ["newer", "older"]


def test_nothing_under_the_name_of_json_is_an_empty_object(box: LiveBox, token: str) -> None:
    named = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    path = "/xrpc/com.atproto.server."

    assert box.request("POST", path + "createAppPassword", b"", named).error == (400, "InvalidRequest")
    assert box.request("POST", path + "deactivateAccount", b"", named).status == 200
    assert box.server("activateAccount", token=token).status == 200


def service_token(box: LiveBox, token: str, **params: Any) -> Any:
    return box.get("com.atproto.server.getServiceAuth", token, **params)


def test_service_tokens_are_signed_by_the_account_for_one_service_and_method(box: LiveBox, token: str) -> None:
    before = int(time.time())
    made = service_token(box, token, aud="did:web:api.example.com", lxm="com.example.method").json["token"]

    jws = decode_jws(made)
    assert box.app is not None
    assert jws.verify(parse_did_key(box.app.services.keys.signing.did_key))
    claims = jws.claims
    assert (claims["iss"], claims["aud"], claims["lxm"]) == (box.did, "did:web:api.example.com", "com.example.method")
    assert 0 <= claims["exp"] - 60 - before <= 2
    assert claims["jti"]


def test_what_no_service_token_is_made_for(box: LiveBox, token: str) -> None:
    now = int(time.time())
    aud = "did:web:api.example.com"
    app_password = box.server("createAppPassword", {"name": "dm"}, token).json["password"]
    phone = box.token(app_password)

    assert service_token(box, token, aud=aud, exp=now - 10).error == (400, "BadExpiration")
    assert service_token(box, token, aud=aud, exp=now + 120).error == (400, "BadExpiration")
    assert service_token(box, token, aud=aud, lxm="com.example.x", exp=now + 3700).error == (400, "BadExpiration")
    assert service_token(box, token, aud=aud, lxm="com.example.x", exp=now + 3500).status == 200
    assert service_token(box, token, aud=aud, lxm="com.atproto.server.deactivateAccount").status == 400
    for wrong in ("nonsense", "did:key:z6Mk", "did:web:example.com:path", f"{aud}#", f"{aud}#a#b", f"{aud}#a b"):
        assert service_token(box, token, aud=wrong, lxm="com.example.x").error == (400, "InvalidRequest"), wrong
    for lxm in ("chat.bsky.convo.getLog", "com.atproto.server.createAccount"):
        assert service_token(box, phone, aud=aud, lxm=lxm).status == 400
        assert service_token(box, token, aud=aud, lxm=lxm).status == 200
    for good in (f"{aud}#svc", f"{aud}#v1.0", "did:web:localhost%3A3000", box.did):
        assert service_token(box, token, aud=good, lxm="com.example.x").status == 200, good


def test_a_service_token_of_the_account_uploads_a_blob_and_does_nothing_else(box: LiveBox, token: str) -> None:
    own = f"did:web:localhost%3A{box.port}"
    lxm = "com.atproto.repo.uploadBlob"
    made = service_token(box, token, aud=own, lxm=lxm, exp=int(time.time()) + 1800).json["token"]

    assert box.post(lxm, b"video", made).json["blob"]["size"] == 5
    assert box.get("com.atproto.server.getSession", made).error == (400, "InvalidToken")
    other = service_token(box, token, aud=own, lxm="com.example.other").json["token"]
    assert box.post(lxm, b"video", other).error == (401, "BadJwtLexiconMethod")
    foreign = service_token(box, token, aud="did:web:elsewhere.example", lxm=lxm).json["token"]
    assert box.post(lxm, b"video", foreign).error == (401, "BadJwtAudience")


def test_account_status_counts_what_is_here(box: LiveBox, token: str) -> None:
    record = {"repo": box.did, "collection": "com.example.counted", "record": {"$type": "com.example.counted"}}
    before = box.get("com.atproto.server.checkAccountStatus", token).json
    assert box.post("com.atproto.repo.createRecord", record, token).status == 200

    after = box.get("com.atproto.server.checkAccountStatus", token).json

    assert (after["activated"], after["validDid"]) == (True, True)
    assert after["indexedRecords"] == before["indexedRecords"] + 1
    head = box.get("com.atproto.sync.getLatestCommit", did=box.did).json
    assert (after["repoCommit"], after["repoRev"]) == (head["cid"], head["rev"])
    assert after["repoBlocks"] > after["indexedRecords"]
    assert (after["expectedBlobs"], after["importedBlobs"]) == (0, 0)


def test_a_second_account_is_refused(box: LiveBox) -> None:
    for wanted in ({"handle": HANDLE}, {"handle": "bob.test"}, {"handle": "bob.test", "did": box.did}):
        body = {"email": "b@example.com", "password": PASSWORD, "inviteCode": "AAAAA-AAAAA", **wanted}
        assert box.server("createAccount", body).error == (400, "AlreadyExists")


def test_a_deactivated_account_may_sign_in_but_not_write(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as box:
        token = box.token()
        record = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
        assert box.server("deactivateAccount", {}, token).status == 200

        session = box.log_in(identifier=box.did)
        assert (session["active"], session["status"]) == (False, "deactivated")
        assert "didDoc" not in session
        assert box.post("com.atproto.repo.createRecord", record, token).error == (401, "AccountDeactivated")
        assert box.get("com.atproto.sync.getRepo", did=box.did).error == (400, "RepoDeactivated")
        assert box.get("com.atproto.server.checkAccountStatus", token).json["activated"] is False

        assert box.server("activateAccount", token=token).status == 200
        assert box.post("com.atproto.repo.createRecord", record, token).status == 200


def test_guessing_passwords_is_slowed_for_that_address_and_name_only(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", trusted_proxies=["127.0.0.1"]) as box:

        def guess(address: str, password: str = "wrong") -> int:
            body = f'{{"identifier": "{HANDLE}", "password": "{password}"}}'.encode()
            headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
            answer = box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers)
            assert answer.headers["ratelimit-policy"] == "30;w=300", "of what is left, the least is told"
            if answer.status == 429:
                assert answer.headers["ratelimit-remaining"] == "0"
            return answer.status

        assert box.app is not None
        box.app.services.limits.enabled = True
        assert [guess("203.0.113.9") for _ in range(31)] == [401] * 30 + [429]
        assert guess("203.0.113.9", PASSWORD) == 429
        assert guess("198.51.100.7", PASSWORD) == 200


def test_answers_of_sessions_are_private(box: LiveBox, token: str) -> None:
    headers = box.get("com.atproto.server.getSession", token).headers

    assert "private" in headers["cache-control"]
    assert "authorization" in headers["vary"].lower()
    assert headers["access-control-allow-origin"] == "*"


def test_on_a_full_disk_the_owner_still_signs_in_to_make_room(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
    created = box.post("com.atproto.repo.createRecord", thing, box.token()).json
    admit = Store.admit

    def only_the_reserve_is_left(self: Store, use_reserve: bool) -> None:
        if not use_reserve:
            raise StoreFull("the disk is full")
        admit(self, use_reserve)

    monkeypatch.setattr(Store, "admit", only_the_reserve_is_left)
    tokens = box.log_in(PASSWORD)
    tokens = box.post("com.atproto.server.refreshSession", token=tokens["refreshJwt"]).json
    token = tokens["accessJwt"]
    assert box.post("com.atproto.repo.createRecord", thing, token).error == (507, "StorageFull")
    assert box.get("com.atproto.repo.listRecords", repo=box.did, collection="com.example.thing").status == 200
    where = {"repo": box.did, "collection": "com.example.thing", "rkey": created["uri"].rpartition("/")[2]}
    assert box.post("com.atproto.repo.deleteRecord", where, token).status == 200
    assert box.post("com.atproto.server.deleteSession", token=tokens["refreshJwt"]).status == 200
