"""com.atproto.server.*, by codes: e-mail, password and deletion work with a mail server and without one."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import firehose
from pds_lite.services.bundle import Services
from pds_lite.storage import blob_store, event_log, repo_store
from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box
from tests.smtp_sink import SmtpSink, smtp_sink

CODE = re.compile(r"\b([A-Z2-7]{5}-[A-Z2-7]{5})\b")
EMAIL = "alice@example.com"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", rate_limits=False) as running:
        yield running


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with smtp_sink() as running:
        yield running


def services_of(box: LiveBox) -> Services:
    assert box.app is not None
    return box.app.services


def code(box: LiveBox, purpose: str) -> str:
    """The code where its owner finds it without a mail."""
    end = time.monotonic() + 60
    while True:
        for row in services_of(box).codes.pending():
            if row.purpose == purpose:
                return row.code
        assert time.monotonic() < end, f"no code for {purpose}"
        time.sleep(0.02)


def session(box: LiveBox, token: str) -> Any:
    return box.get("com.atproto.server.getSession", token).json


def confirm(box: LiveBox, token: str) -> None:
    assert box.server("requestEmailConfirmation", token=token).status == 200
    body = {"email": session(box, token)["email"], "token": code(box, "confirm_email")}
    assert box.server("confirmEmail", body, token).status == 200


# -- e-mail


def test_an_address_is_confirmed_by_the_code_in_the_mail(tmp_path: Path, sink: SmtpSink) -> None:
    with live_box(tmp_path / "box", smtp_url=sink.url) as box:
        token = box.token()
        assert session(box, token)["emailConfirmed"] is False
        assert box.server("requestEmailConfirmation", token=token).status == 200
        (mail,) = sink.wait(1)
        (mailed,) = CODE.findall(mail.as_string())
        assert sink.recipients == [EMAIL]

        for body, error in (
            ({"email": "bob@example.com", "token": mailed}, "InvalidEmail"),
            ({"email": EMAIL, "token": "AAAAA-AAAAA"}, "InvalidToken"),
        ):
            assert box.server("confirmEmail", body, token).error == (400, error)
        assert box.server("confirmEmail", {"email": EMAIL.upper(), "token": mailed.lower()}, token).status == 200

        assert session(box, token)["emailConfirmed"] is True
        assert box.server("confirmEmail", {"email": EMAIL, "token": mailed}, token).error == (400, "InvalidToken")


def test_a_confirmed_address_changes_only_with_a_code_and_the_new_one_is_unconfirmed(box: LiveBox) -> None:
    token = box.token()
    assert box.server("requestEmailUpdate", token=token).json == {"tokenRequired": False}
    confirm(box, token)

    assert box.server("requestEmailUpdate", token=token).json == {"tokenRequired": True}
    assert box.server("updateEmail", {"email": "new@example.com"}, token).error == (400, "TokenRequired")
    wrong = {"email": "new@example.com", "token": "AAAAA-AAAAA"}
    assert box.server("updateEmail", wrong, token).error == (400, "InvalidToken")
    shown = code(box, "update_email")
    assert box.server("updateEmail", {"email": "no address", "token": shown}, token).error == (400, "InvalidRequest")
    assert box.server("updateEmail", {"email": "New@example.com", "token": shown}, token).status == 200

    after = session(box, token)
    assert (after["email"], after["emailConfirmed"]) == ("new@example.com", False)
    assert box.log_in(identifier="new@example.com")["did"] == box.did


@pytest.mark.parametrize(
    "email",
    [
        "",
        "alice",
        "alice@gmail",  # a mistyped host: no code would ever arrive
        "alice@example..com",
        "alice@-example.com",
        "alice@[127.0.0.1]",
        ".alice@example.com",
        "al..ice@example.com",
        "al ice@example.com",
        "Alice <alice@example.com>",
        "a@example.com,b@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "\u00e4lice@example.com",
        "x" * 65 + "@example.com",
    ],
)
def test_what_is_no_address_is_refused(box: LiveBox, email: str) -> None:
    token = box.token()
    assert box.server("updateEmail", {"email": email}, token).error == (400, "InvalidRequest")
    assert session(box, token)["email"] == EMAIL


@pytest.mark.parametrize("email", ["a+b@example.com", "o'neil_1@mail.example.co", "pi@box.local"])
def test_what_is_an_address_is_taken(box: LiveBox, email: str) -> None:
    token = box.token()
    assert box.server("updateEmail", {"email": email}, token).status == 200
    assert session(box, token)["email"] == email


def test_another_address_voids_the_codes_of_the_old_one(box: LiveBox) -> None:
    token = box.token()
    box.server("requestEmailConfirmation", token=token)
    shown = code(box, "confirm_email")
    assert box.server("updateEmail", {"email": "new@example.com"}, token).status == 200

    body = {"email": "new@example.com", "token": shown}
    assert box.server("confirmEmail", body, token).error == (400, "InvalidToken")


def test_app_passwords_do_none_of_it(box: LiveBox) -> None:
    made = box.server("createAppPassword", {"name": "bot", "privileged": True}, box.token()).json
    token = box.token(made["password"])
    for name, body in (
        ("requestEmailConfirmation", None),
        ("confirmEmail", {"email": EMAIL, "token": "x"}),
        ("requestEmailUpdate", None),
        ("updateEmail", {"email": EMAIL}),
        ("requestAccountDelete", None),
    ):
        assert box.server(name, body, token).error == (400, "InvalidToken")
        assert box.server(name, body).error == (401, "AuthMissing")
    assert box.get("com.atproto.server.getAccountInviteCodes", token).error == (400, "InvalidToken")


# -- password


def test_a_reset_ends_every_session_and_the_old_password(tmp_path: Path, sink: SmtpSink) -> None:
    with live_box(tmp_path / "box", smtp_url=sink.url) as box:
        token = box.token()
        assert box.server("requestPasswordReset", {"email": EMAIL.upper()}).status == 200
        (mailed,) = CODE.findall(sink.wait(1)[0].as_string())

        short = {"token": mailed, "password": "short"}
        assert box.server("resetPassword", short).error == (400, "InvalidRequest")
        new = "another horse battery"
        assert box.server("resetPassword", {"token": mailed, "password": new}).status == 200

        assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
        assert box.server("createSession", {"identifier": HANDLE, "password": PASSWORD}).status == 401
        assert box.log_in(new)["did"] == box.did
        again = {"token": mailed, "password": "third horse battery"}
        assert box.server("resetPassword", again).error == (400, "InvalidToken")


def test_asking_for_a_reset_answers_the_same_for_any_address(box: LiveBox) -> None:
    known, unknown = (box.server("requestPasswordReset", {"email": email}) for email in (EMAIL, "stranger@example.com"))

    assert (known.status, known.body) == (unknown.status, unknown.body) == (200, b"")
    assert len(services_of(box).codes.pending()) <= 1
    code(box, "reset_password")


def test_an_empty_box_has_nothing_to_reset_or_delete(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", account=False) as box:
        assert box.server("requestPasswordReset", {"email": EMAIL}).status == 200
        assert box.server("resetPassword", {"token": "x", "password": PASSWORD}).error == (400, "InvalidToken")
        body = {"did": "did:plc:" + "a" * 24, "password": PASSWORD, "token": "x"}
        assert box.server("deleteAccount", body).error == (400, "InvalidRequest")
        assert box.server("reserveSigningKey", {}).json == {"signingKey": services_of(box).keys.signing.did_key}


# -- deletion


def write_something(box: LiveBox, token: str) -> None:
    blob = box.post("com.atproto.repo.uploadBlob", b"some bytes", token).json["blob"]
    for record in ({"blob": blob}, *({"n": n} for n in range(5))):
        body = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing", **record}}
        assert box.post("com.atproto.repo.createRecord", body, token).status == 200


def test_deletion_needs_password_and_code(box: LiveBox) -> None:
    token = box.token()
    body = {"did": box.did, "password": PASSWORD, "token": "AAAAA-AAAAA"}
    assert box.server("deleteAccount", body).error == (400, "InvalidToken")
    assert box.server("requestAccountDelete", token=token).status == 200
    shown = code(box, "delete_account")

    for typed in (shown, "AAAAA-AAAAA"):
        answer = box.server("deleteAccount", {**body, "password": "wrong", "token": typed})
        assert answer.error == (401, "AuthenticationRequired")
    assert services_of(box).sign_in.log.attempts()[0].reason == "The password was wrong"
    assert box.server("deleteAccount", {**body, "did": "did:plc:" + "a" * 24, "token": shown}).status == 400
    assert session(box, token)["did"] == box.did


def test_guessing_the_password_by_deletion_is_throttled_like_signing_in(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as limited:
        body = {"did": limited.did, "password": "a guess", "token": "AAAAA-AAAAA"}
        answers = [limited.server("deleteAccount", body).status for _ in range(31)]
        assert answers == [401] * 30 + [429]
        wanted = {"identifier": limited.did, "password": PASSWORD}
        assert limited.server("createSession", wanted).error == (429, "RateLimitExceeded")


def test_a_deleted_account_leaves_an_empty_box_that_takes_another(box: LiveBox) -> None:
    token = box.token()
    write_something(box, token)
    services, did, key = services_of(box), box.did, services_of(box).keys.signing.did_key
    with services.store.read() as txn:
        before = event_log.last_seq(txn)
    (folder,) = [path for path in (box.data_dir / "blobs").rglob("*") if path.is_file()]
    assert box.server("requestAccountDelete", token=token).status == 200
    body = {"did": did, "password": PASSWORD, "token": code(box, "delete_account")}

    assert box.server("deleteAccount", body).status == 200

    assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
    assert box.server("createSession", {"identifier": HANDLE, "password": PASSWORD}).status == 401
    for name in ("getRepo", "getRepoStatus", "getLatestCommit", "listBlobs"):
        assert box.get(f"com.atproto.sync.{name}", did=did).error == (400, "RepoNotFound")
    assert box.get("com.atproto.sync.listRepos").json == {"repos": []}
    assert not folder.exists()
    with services.store.read() as txn:
        (event,) = event_log.read_after(txn, 0, 1 << 30, 100)
        assert repo_store.read_head(txn) is None
        assert repo_store.record_count(txn) == 0
        assert blob_store.blob_counts(txn) == (0, 0)
    header, frame = firehose.decode_frame(event[1])
    assert (header["t"], frame["did"], frame["active"], frame["status"]) == ("#account", did, False, "deleted")
    assert event[0] > before
    assert services.keys.signing.did_key != key, "another account gets another key"

    # The next account begins anew: with a claim code only, above the old sequence numbers.
    wanted = {"handle": "bob.test", "password": PASSWORD, "email": "bob@example.com"}
    assert box.server("createAccount", wanted).error == (400, "InvalidInviteCode")
    box.run(services.sign_up.open_claim(None))
    made = box.server("createAccount", wanted)
    assert made.status == 200, made.body
    box.did = made.json["did"]
    write_something(box, made.json["accessJwt"])
    with services.store.read() as txn:
        assert event_log.read_after(txn, 0, 1 << 30, 100)[0][0] == event[0]
    assert box.get("com.atproto.sync.getRepo", did=box.did).status == 200


def test_what_a_power_cut_leaves_of_a_deletion_goes_at_the_next_start(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as box:
        write_something(box, box.token())
        services = services_of(box)

        async def first_step_only() -> None:
            async def nothing() -> None:
                return

            services.deletion.resume = nothing  # type: ignore[method-assign]
            await services.deletion.delete(box.did)

        box.run(first_step_only())
        with services.store.read() as txn:
            assert len(event_log.read_after(txn, 0, 1 << 30, 100)) > 1

    with live_box(tmp_path / "box", account=False) as box:
        services = services_of(box)
        for _ in range(3000):
            with services.store.read() as txn:
                left = len(event_log.read_after(txn, 0, 1 << 30, 100))
            if left == 1 and not [path for path in (box.data_dir / "blobs").rglob("*") if path.is_file()]:
                return
            time.sleep(0.02)
        raise AssertionError("the rest of the account is still there")


# -- keys and invitations


def test_the_reserved_key_is_the_one_that_signs(box: LiveBox) -> None:
    key = services_of(box).keys.signing.did_key
    assert box.server("reserveSigningKey", {"did": box.did}).json == {"signingKey": key}
    assert box.server("reserveSigningKey", {"did": "did:plc:" + "a" * 24}).status == 400


def test_there_are_no_invitations_but_the_claim_code(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", account=False, admin_password="s3cret") as box:
        from tests.xrpc.test_com_atproto_admin import admin

        assert box.server("createInviteCode", {"useCount": 1}).status == 401
        first = admin(box, "server.createInviteCode", {"useCount": 1}).json["code"]
        (codes,) = admin(box, "server.createInviteCodes", {"codeCount": 5, "useCount": 1}).json["codes"]
        (second,) = codes["codes"]
        wanted = {"handle": "bob.test", "password": PASSWORD, "email": "bob@example.com"}
        old = box.server("createAccount", {**wanted, "inviteCode": first})
        assert old.error == (400, "InvalidInviteCode")
        made = box.server("createAccount", {**wanted, "inviteCode": second})
        assert made.status == 200
        answer = box.get("com.atproto.server.getAccountInviteCodes", made.json["accessJwt"])
        assert answer.json == {"codes": []}
        assert admin(box, "server.createInviteCode", {"useCount": 1}).error == (400, "AlreadyExists")
