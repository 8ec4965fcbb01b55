"""Identity against the real directory server and the reference PDS: rotate, recover, alarm; the names of refusals."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.crypto.private_key import format_private_key
from pds_lite.cli.main import main
from pds_lite.services.bundle import Services
from pds_lite.services.sign_up import NewAccount
from tests.interop.reference import plc_directory, reference_pds
from tests.live_box import HANDLE, PASSWORD, Answer, LiveBox, live_box

pytestmark = pytest.mark.interop

OWNER = K256Key.from_bytes(b"\x06" * 32)
THIEF = K256Key.from_bytes(b"\x07" * 32)


@pytest.fixture(scope="module")
def directory(reference_node: tuple[str, Path]) -> Iterator[str]:
    with plc_directory(reference_node) as url:
        yield url


@pytest.fixture
def box(tmp_path: Path, directory: str) -> Iterator[LiveBox]:
    """A box whose did:plc, with OWNER as its recovery key, is in the real directory."""
    with live_box(
        tmp_path / "box", account=False, plc_url=directory, rate_limits=False, admin_password="s3cret"
    ) as box:
        wanted = NewAccount(handle=HANDLE, password=PASSWORD, email="alice@example.com", recovery_key=OWNER.did_key)
        box.did = box.run(services_of(box).sign_up.create(wanted, publish=True)).did
        yield box


def services_of(box: LiveBox) -> Services:
    assert box.app is not None
    return box.app.services


def audit(box: LiveBox) -> plc.Audit:
    result: plc.Audit = box.run(services_of(box).plc.audit(box.did))
    return result


def steal(box: LiveBox) -> None:
    """Somebody with the box's rotation key takes the identity."""
    changes = {"rotationKeys": [THIEF.did_key], "alsoKnownAs": ["at://thief.example.com"]}
    operation = plc.sign_op(plc.update(audit(box).last, changes), services_of(box).keys.rotation)
    box.run(services_of(box).identity.plc.submit(box.did, operation))


def test_the_directory_takes_handle_key_and_submitted_operations(box: LiveBox) -> None:
    services, token = services_of(box), box.token()
    assert box.post("com.atproto.identity.updateHandle", {"handle": "bob.test"}, token).status == 200
    did_key = box.run(services.key_rotation.rotate())
    box.post("com.atproto.identity.requestPlcOperationSignature", token=token)
    (code,) = services.codes.pending()
    wanted = {"token": code.code, "rotationKeys": [OWNER.did_key, THIEF.did_key, services.keys.rotation.did_key]}
    signed = box.post("com.atproto.identity.signPlcOperation", wanted, token).json
    assert box.post("com.atproto.identity.submitPlcOperation", signed, token).status == 200

    now = audit(box)

    assert len(now.entries) == 4
    assert now.state["rotationKeys"] == wanted["rotationKeys"]
    assert now.state["alsoKnownAs"] == ["at://bob.test"]
    assert now.state["verificationMethods"] == {"atproto": did_key}
    assert box.run(services.plc_watch.check()).alarms == ()
    assert box.server("checkAccountStatus").status in (401, 405)
    status = box.get("com.atproto.server.checkAccountStatus", token).json
    assert (status["activated"], status["validDid"]) == (True, True)


def test_a_theft_raises_the_alarm_and_the_recovery_key_takes_it_back(
    box: LiveBox, directory: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, before = services_of(box), audit(box).state
    steal(box)

    (alarm,) = box.run(services.plc_watch.check()).alarms
    assert alarm.undo_keys == (OWNER.did_key,)
    assert services.plc_watch.time_left(alarm) > 71 * 3600
    assert box.get("com.atproto.server.checkAccountStatus", box.token()).json["validDid"] is True

    monkeypatch.setattr("sys.stdin", io.StringIO(format_private_key(OWNER) + "\n"))
    assert main(["identity", "undo", "--did", box.did, "--plc-url", directory, "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)

    now = audit(box)
    assert now.entries[-1].cid == answer["operation"]
    for name in ("rotationKeys", "alsoKnownAs", "services", "verificationMethods"):
        assert now.state[name] == before[name]
    assert box.run(services.plc_watch.check()).alarms == ()
    assert box.post("com.atproto.identity.updateHandle", {"handle": "bob.test"}, box.token()).status == 200


def test_a_lost_box_is_replaced_with_the_recovery_key(
    box: LiveBox, directory: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(format_private_key(OWNER) + "\n"))
    words = ["identity", "recover", "--did", box.did, "--plc-url", directory, "--yes", "--json"]
    words += ["--pds", "https://new.example.com", "--signing-key", THIEF.did_key, "--rotation-key", THIEF.did_key]
    words += ["--drop-key", services_of(box).keys.rotation.did_key]

    assert main(words) == 0

    capsys.readouterr()
    assert audit(box).state["rotationKeys"] == [OWNER.did_key, THIEF.did_key]
    document = box.run(services_of(box).identity.did_doc(box.did, refresh=True))
    assert (document.pds, document.signing_key) == ("https://new.example.com", THIEF.did_key)


def test_an_ended_identity_is_refused(box: LiveBox) -> None:
    services, token = services_of(box), box.token()
    box.run(services.identity.plc.submit(box.did, plc.sign_op(plc.tombstone(audit(box).last), services.keys.rotation)))

    answer = box.post("com.atproto.identity.updateHandle", {"handle": "bob.test"}, token)

    assert (answer.status, answer.json["message"]) == (400, "Did is tombstoned")
    (alarm,) = box.run(services.plc_watch.check()).alarms
    assert alarm.changes == ("the identity is ended (tombstone)",)


# -- the same refusals as the reference


class Peer:
    """The reference PDS, spoken to like our box."""

    def __init__(self, url: str) -> None:
        self.box = LiveBox(Path())
        self.box.url = url
        self.box.port = int(url.rpartition(":")[2])
        body = {"handle": HANDLE, "email": "alice@example.com", "password": PASSWORD}
        made = self.box.server("createAccount", body)
        assert made.status == 200, made.body
        self.box.did = made.json["did"]


@pytest.fixture
def reference(reference_node: tuple[str, Path], directory: str, tmp_path: Path) -> LiveBox:
    with reference_pds(reference_node, directory, tmp_path / "reference") as url:
        yield Peer(url).box


SERVER, IDENTITY, ADMIN = "com.atproto.server.", "com.atproto.identity.", "com.atproto.admin."
STRANGE = "did:plc:" + "a" * 24
CALLS: list[tuple[str, Any]] = [
    (SERVER + "confirmEmail", {"email": "bob@example.com", "token": "AAAAA-AAAAA"}),
    (SERVER + "confirmEmail", {"email": "alice@example.com", "token": "AAAAA-AAAAA"}),
    (SERVER + "requestEmailUpdate", None),
    (SERVER + "updateEmail", {"email": "alice@example.com", "token": "AAAAA-AAAAA"}),
    (SERVER + "updateEmail", {"email": "no address"}),
    (SERVER + "resetPassword", {"token": "AAAAA-AAAAA", "password": "another horse battery"}),
    (SERVER + "deleteAccount", {"did": STRANGE, "password": PASSWORD, "token": "AAAAA-AAAAA"}),
    (SERVER + "deleteAccount", {"did": "OWN", "password": PASSWORD, "token": "AAAAA-AAAAA"}),
    (SERVER + "createInviteCode", {"useCount": 1}),
    (IDENTITY + "updateHandle", {"handle": "bob.local"}),
    (IDENTITY + "updateHandle", {"handle": "not a handle"}),
    (IDENTITY + "updateHandle", {"handle": "nobody.pds-lite-test.example.com"}),
    (IDENTITY + "signPlcOperation", {}),
    (IDENTITY + "signPlcOperation", {"token": "AAAAA-AAAAA"}),
    (IDENTITY + "submitPlcOperation", {"operation": {}}),
    (IDENTITY + "submitPlcOperation", {"operation": {"type": "plc_tombstone", "prev": "x", "sig": "x"}}),
    (ADMIN + "updateAccountEmail", {"account": "OWN", "email": "a@example.com"}),
    (ADMIN + "updateSubjectStatus", {"subject": {"$type": "com.atproto.admin.defs#repoRef", "did": STRANGE}}),
]


def _named(answer: Answer) -> tuple[int, str]:
    name = answer.json.get("error", "") if isinstance(answer.json, dict) else ""
    # Where the reference also takes a moderation service's token, it complains about the token's type.
    return answer.status, "AuthenticationRequired" if name == "BadJwtType" else name


def test_refusals_have_the_references_names(box: LiveBox, reference: LiveBox) -> None:
    differences = []
    tokens = {id(peer): peer.token() for peer in (box, reference)}
    for nsid, body in CALLS:
        outcomes = []
        for peer in (box, reference):
            given = {name: peer.did if value == "OWN" else value for name, value in (body or {}).items()} or None
            outcomes.append(_named(peer.post(nsid, given, tokens[id(peer)])))
        if outcomes[0] != outcomes[1]:
            differences.append((nsid, body, *outcomes))
    assert differences == []


TAKENDOWN_CALLS: list[tuple[str, str, Any]] = [
    ("GET", SERVER + "getSession", {}),
    ("POST", SERVER + "refreshSession", None),
    ("POST", SERVER + "activateAccount", None),
    ("POST", SERVER + "createAppPassword", {"name": "x"}),
    ("POST", SERVER + "requestAccountDelete", None),
    ("GET", SERVER + "getServiceAuth", {"aud": "did:web:a.example.com", "lxm": "app.bsky.feed.getTimeline"}),
    ("GET", SERVER + "getServiceAuth", {"aud": "did:web:a.example.com"}),
    ("GET", SERVER + "checkAccountStatus", {}),
    ("POST", IDENTITY + "updateHandle", {"handle": "bob.test"}),
    ("POST", IDENTITY + "requestPlcOperationSignature", None),
    ("POST", IDENTITY + "submitPlcOperation", {"operation": {}}),
    ("POST", "com.atproto.repo.createRecord", {"repo": "OWN", "collection": "com.example.x", "record": {}}),
    ("GET", "com.atproto.sync.getRepo", {"did": "OWN"}),
    ("GET", "com.atproto.sync.listBlobs", {"did": "OWN"}),
    ("GET", "com.atproto.sync.getLatestCommit", {"did": "OWN"}),
    ("GET", "app.bsky.feed.getTimeline", {}),
]


def _take_down(peer: LiveBox, password: str) -> None:
    body = {"subject": {"$type": "com.atproto.admin.defs#repoRef", "did": peer.did}, "takedown": {"applied": True}}
    basic = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {"Authorization": basic, "Content-Type": "application/json"}
    path = f"/xrpc/{ADMIN}updateSubjectStatus"
    assert peer.request("POST", path, json.dumps(body).encode(), headers).status == 200


def test_an_account_that_is_taken_down_may_do_what_the_reference_lets_it_do(box: LiveBox, reference: LiveBox) -> None:
    outcomes: dict[str, list[Any]] = {}
    for peer, admin_password in ((box, "s3cret"), (reference, "admin-pass")):
        _take_down(peer, admin_password)
        login = {"identifier": HANDLE, "password": PASSWORD}
        outcomes.setdefault("createSession", []).append(_named(peer.server("createSession", login)))
        session = peer.server("createSession", {**login, "allowTakendown": True}).json
        payload = session["accessJwt"].split(".")[1]
        scope = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["scope"]
        outcomes.setdefault("scope", []).append((scope, session["active"], session["status"]))
        for verb, nsid, body in TAKENDOWN_CALLS:
            given = {name: peer.did if value == "OWN" else value for name, value in (body or {}).items()}
            token = session["refreshJwt" if nsid.endswith("refreshSession") else "accessJwt"]
            answer = peer.get(nsid, token, **given) if verb == "GET" else peer.post(nsid, given or None, token)
            outcomes.setdefault(f"{nsid} {given.get('lxm', '')}", []).append(
                _named(answer) if answer.status >= 400 else answer.status
            )
    assert {name: pair for name, pair in outcomes.items() if pair[0] != pair[1]} == {}


def test_recommended_credentials_have_the_references_shape(box: LiveBox, reference: LiveBox) -> None:
    ours, theirs = (peer.get(IDENTITY + "getRecommendedDidCredentials", peer.token()).json for peer in (box, reference))

    assert ours.keys() == theirs.keys()
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in theirs.items()}
    assert ours["rotationKeys"] == [OWNER.did_key, services_of(box).keys.rotation.did_key]
