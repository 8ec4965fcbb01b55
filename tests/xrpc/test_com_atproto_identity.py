"""com.atproto.identity: ourselves without a network, others by their homes; changes that keep what is foreign."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import did_doc, firehose, plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.services.sign_up import NewAccount
from pds_lite.storage import event_log
from tests.fake_service import fake_service
from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box
from tests.net.dns_server import dns_thread
from tests.plc_server import PlcServer, plc_server

NS = "com.atproto.identity."
FOREIGN = K256Key.from_bytes(b"\x05" * 32)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    # Nothing listens at these addresses: whatever is answered was known here.
    with live_box(tmp_path_factory.mktemp("box"), plc_url="http://127.0.0.1:9", dns_server="127.0.0.1:9") as running:
        yield running


def test_the_own_handle_and_did_resolve_offline(box: LiveBox) -> None:
    assert box.get(NS + "resolveHandle", handle="Alice.test").json == {"did": box.did}
    assert box.get(NS + "resolveDid", did=box.did).json["didDoc"]["alsoKnownAs"] == [f"at://{HANDLE}"]
    for identifier in (HANDLE, box.did):
        found = box.get(NS + "resolveIdentity", identifier=identifier).json
        assert (found["did"], found["handle"]) == (box.did, HANDLE)
        assert found["didDoc"]["id"] == box.did


def test_what_does_not_resolve_is_named(box: LiveBox) -> None:
    assert box.get(NS + "resolveHandle", handle="not a handle").error == (400, "InvalidRequest")
    assert box.get(NS + "resolveHandle", handle="bob.test").error == (400, "HandleNotFound")
    assert box.get(NS + "resolveDid", did="did:example:abc").status == 400


def test_a_handle_that_the_network_at_home_does_not_tell_is_asked_of_the_appview(tmp_path: Path) -> None:
    nsid, did = NS + "resolveHandle", "did:plc:" + "c" * 24
    with (
        fake_service() as appview,
        live_box(tmp_path / "box", dns_server="127.0.0.1:9", appview_url=appview.url) as box,
    ):
        assert box.get(nsid, handle="carol.example.org").error == (400, "HandleNotFound")
        for wrong in ({"did": "nobody"}, {"did": 5}, []):
            appview.says(nsid, wrong)
            assert box.get(nsid, handle="carol.example.org").error == (400, "HandleNotFound")
        appview.says(nsid, {"did": did})
        assert box.get(nsid, handle="Carol.example.org").json == {"did": did}
        assert appview.calls(nsid)[-1].path.endswith("?handle=carol.example.org")

        asked = len(appview.calls(nsid))
        for ours in ("bob.test", "bob.local"):  # nobody else can know these
            assert box.get(nsid, handle=ours).error == (400, "HandleNotFound")
        moved = box.post(NS + "updateHandle", {"handle": "carol.example.org"}, box.token())
        assert moved.status == 400, "what becomes ours is looked up, not believed"
        assert len(appview.calls(nsid)) == asked


def test_recommended_credentials_are_those_of_this_box_behind_the_owners(box: LiveBox) -> None:
    assert box.app is not None
    keys = box.app.services.keys

    answer = box.get(NS + "getRecommendedDidCredentials", box.token()).json

    owner, last = answer["rotationKeys"]
    assert (owner != keys.rotation.did_key, last) == (True, keys.rotation.did_key)
    assert answer["verificationMethods"] == {"atproto": keys.signing.did_key}
    assert answer["services"]["atproto_pds"]["endpoint"] == box.url
    assert answer["alsoKnownAs"] == [f"at://{HANDLE}"]


# -- changes, with a directory


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


@pytest.fixture
def published(tmp_path: Path, directory: PlcServer) -> Iterator[LiveBox]:
    """A box whose DID the directory has, with a foreign key, service and name in it."""
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        assert box.app is not None
        box.run(box.app.services.account.publish())
        foreign = {
            "rotationKeys": [*last(box, directory)["rotationKeys"], FOREIGN.did_key],
            "alsoKnownAs": [f"at://{HANDLE}", "https://alice.example.com"],
            "services": {
                **last(box, directory)["services"],
                "other": {"type": "Other", "endpoint": "https://o.example"},
            },
        }
        directory.operations[box.did] = plc.sign_op(
            plc.update(last(box, directory), foreign), box.app.services.keys.rotation
        )
        box.run(box.app.services.plc_watch.check())
        box.run(box.app.services.plc_watch.acknowledge())
        yield box


def last(box: LiveBox, directory: PlcServer) -> dict[str, Any]:
    return directory.operations[box.did]


def events(box: LiveBox) -> list[tuple[str, dict[str, Any]]]:
    assert box.app is not None
    with box.app.services.store.read() as txn:
        frames = [frame for _seq, frame in event_log.read_after(txn, 0, 1 << 30, 1000)]
    return [(header["t"], body) for header, body in map(firehose.decode_frame, frames)]


def code(box: LiveBox, purpose: str) -> str:
    assert box.app is not None
    return next(row.code for row in box.app.services.codes.pending() if row.purpose == purpose)


def test_a_handle_is_changed_everywhere_and_what_is_foreign_stays(published: LiveBox, directory: PlcServer) -> None:
    before = last(published, directory)

    assert published.post(NS + "updateHandle", {"handle": "Bob.test"}, published.token()).status == 200

    after = last(published, directory)
    assert after["alsoKnownAs"] == ["at://bob.test", "https://alice.example.com"]
    for name in ("rotationKeys", "services", "verificationMethods"):
        assert after[name] == before[name]
    kind, body = events(published)[-1]
    assert (kind, body["handle"]) == ("#identity", "bob.test")
    assert published.get(NS + "resolveHandle", handle="bob.test").json == {"did": published.did}
    assert published.get(NS + "resolveHandle", handle=HANDLE).error == (400, "HandleNotFound")
    host = {"Host": "bob.test"}
    assert published.request("GET", "/.well-known/atproto-did", headers=host).body.decode() == published.did

    # Asked again, it only says so again: that mends a change that a power cut ended.
    token = published.log_in(identifier="bob.test")["accessJwt"]
    assert published.post(NS + "updateHandle", {"handle": "bob.test"}, token).status == 200
    assert last(published, directory) == after
    assert events(published)[-1][0] == "#identity"


def test_the_box_says_of_itself_what_the_directory_says(published: LiveBox, directory: PlcServer) -> None:
    theirs = did_doc.of_operation(published.did, last(published, directory))

    assert published.get(NS + "resolveDid", did=published.did).json["didDoc"] == theirs
    assert published.log_in()["didDoc"] == theirs
    published.post(NS + "updateHandle", {"handle": "bob.test"}, published.token())
    theirs = did_doc.of_operation(published.did, last(published, directory))
    assert published.get(NS + "resolveDid", did=published.did).json["didDoc"] == theirs


def test_a_handle_change_offline_waits_behind_the_genesis(tmp_path: Path, directory: PlcServer) -> None:
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        assert box.app is not None
        assert box.post(NS + "updateHandle", {"handle": "bob.test"}, box.token()).status == 200
        assert directory.logs == {}

        box.run(box.app.services.account.publish())

        assert [entry["operation"]["alsoKnownAs"] for entry in directory.logs[box.did]] == [
            [f"at://{HANDLE}"],
            ["at://bob.test"],
        ]
        box.run(box.app.services.account.publish())
        assert box.run(box.app.services.plc_watch.check()).alarms == ()


@pytest.mark.parametrize(
    ("handle", "error"),
    [("bob.local", "InvalidHandle"), ("not a handle", "InvalidRequest"), ("nobody.invalid", "InvalidHandle")],
)
def test_a_handle_that_cannot_be_one_is_refused(published: LiveBox, handle: str, error: str) -> None:
    assert published.post(NS + "updateHandle", {"handle": handle}, published.token()).error == (400, error)


def test_a_foreign_handle_needs_proof_and_the_refusal_says_what_was_found(tmp_path: Path, directory: PlcServer) -> None:
    records: dict[str, Any] = {"_atproto.other.example.com": ["did=did:plc:" + "a" * 24]}
    with dns_thread(records) as server, live_box(tmp_path / "box", plc_url=directory.url, dns_server=server) as box:
        assert box.app is not None
        box.run(box.app.services.account.publish())
        token = box.token()

        other = box.post(NS + "updateHandle", {"handle": "other.example.com"}, token)
        none = box.post(NS + "updateHandle", {"handle": "none.invalid-name.example.com"}, token)

        assert other.error == none.error == (400, "InvalidRequest")
        assert f"did={box.did}" in other.json["message"]
        assert "_atproto.none.invalid-name.example.com" in none.json["message"]
        assert "none.invalid-name.example.com has no address" in none.json["message"]

        records["_atproto.mine.example.com"] = [f"did={box.did}"]
        assert box.post(NS + "updateHandle", {"handle": "mine.example.com"}, token).status == 200
        assert last(box, directory)["alsoKnownAs"] == ["at://mine.example.com"]


def test_an_account_of_the_host_itself_is_served_whatever_becomes_of_it(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", account=False) as box:
        assert box.app is not None
        services = box.app.services
        did = services.config.service_did
        wanted = NewAccount(handle=HANDLE, password=PASSWORD, did=did)
        box.run(services.sign_up.create(wanted, publish=False))

        assert box.post(NS + "updateHandle", {"handle": "bob.test"}, box.token()).status == 200
        did_key = box.run(services.key_rotation.rotate())

        document = json.loads(box.request("GET", "/.well-known/did.json").body)
        assert document["id"] == did
        assert document["alsoKnownAs"] == ["at://bob.test"]
        assert document["verificationMethod"][0]["publicKeyMultibase"] == did_key.removeprefix("did:key:")
        token = box.log_in(identifier="bob.test")["accessJwt"]
        recommended = box.get(NS + "getRecommendedDidCredentials", token).json
        assert "rotationKeys" not in recommended
        assert recommended["verificationMethods"] == {"atproto": did_key}
        for name in ("signPlcOperation", "submitPlcOperation"):
            box.post(NS + "requestPlcOperationSignature", token=token)
            body = {"token": code(box, "plc_operation")} if name.startswith("sign") else {"operation": {}}
            refused = box.post(NS + name, body, token)
            assert "not a did:plc" in refused.json["message"]
        box.server("deactivateAccount", {}, token)
        assert json.loads(box.request("GET", "/.well-known/did.json").body) == document


def test_an_operation_is_signed_with_a_code_and_keeps_what_is_not_named(
    published: LiveBox, directory: PlcServer
) -> None:
    token = published.token()
    assert published.post(NS + "signPlcOperation", {}, token).error == (400, "InvalidRequest")
    assert published.post(NS + "signPlcOperation", {"token": "AAAAA-AAAAA"}, token).error == (400, "InvalidToken")
    assert published.post(NS + "requestPlcOperationSignature", token=token).status == 200
    wanted = {"services": {"atproto_pds": {"type": plc.PDS_TYPE, "endpoint": "https://new.example.com"}}}

    # A directory that does not answer does not cost the code.
    directory.is_down = True
    body = {"token": code(published, "plc_operation").lower(), **wanted}
    assert published.post(NS + "signPlcOperation", body, token).status == 502
    directory.is_down = False
    signed = published.post(NS + "signPlcOperation", body, token)

    assert signed.status == 200, signed.body
    operation = signed.json["operation"]
    assert operation["services"] == wanted["services"]
    for name in ("rotationKeys", "alsoKnownAs", "verificationMethods"):
        assert operation[name] == last(published, directory)[name]
    assert published.post(NS + "signPlcOperation", body, token).error == (400, "InvalidToken"), "a code is spent"
    directory.operations[published.did] = operation


def test_an_operation_that_leads_away_is_not_submitted(published: LiveBox, directory: PlcServer) -> None:
    assert published.app is not None
    rotation, token = published.app.services.keys.rotation, published.token()
    before = last(published, directory)
    services = {"atproto_pds": {"type": plc.PDS_TYPE, "endpoint": "https://other.example.com"}}
    for changes, sentence in (
        ({"rotationKeys": [FOREIGN.did_key]}, "Rotation keys do not include server's rotation key"),
        ({"services": services}, "Incorrect endpoint on atproto_pds service"),
        ({"services": {}}, "Incorrect type on atproto_pds service"),
        ({"verificationMethods": {"atproto": FOREIGN.did_key}}, "Incorrect signing key"),
        ({"alsoKnownAs": ["at://bob.test", f"at://{HANDLE}"]}, "Incorrect handle in alsoKnownAs"),
    ):
        operation = plc.sign_op(plc.update(before, changes), rotation)
        answer = published.post(NS + "submitPlcOperation", {"operation": operation}, token)
        assert (answer.status, answer.json["message"]) == (400, sentence)
    ended = plc.sign_op(plc.tombstone(before), rotation)
    assert published.post(NS + "submitPlcOperation", {"operation": ended}, token).json["message"] == "Invalid operation"
    forged = {**before, "prev": str(plc.op_cid(before)), "sig": "A" * 86}
    answer = published.post(NS + "submitPlcOperation", {"operation": forged}, token)
    assert answer.error == (400, "InvalidRequest"), "what the directory refuses is the caller's to mend"
    assert "refused the operation" in answer.json["message"]
    assert last(published, directory) == before

    fine = plc.sign_op(plc.update(before, {"alsoKnownAs": [f"at://{HANDLE}", "https://new.example.com"]}), rotation)
    assert published.post(NS + "submitPlcOperation", {"operation": fine}, token).status == 200
    assert last(published, directory) == fine
    assert events(published)[-1][0] == "#identity"
    assert published.run(published.app.services.plc_watch.check()).alarms == ()

    assert published.post(NS + "submitPlcOperation", {"operation": fine}, token).status == 200, "its answer was lost"
    stranger = plc.sign_op(plc.update(fine, {}), K256Key.from_bytes(b"\x77" * 32))
    refused = published.post(NS + "submitPlcOperation", {"operation": stranger}, token)
    assert refused.error == (400, "InvalidRequest")
    assert last(published, directory) == fine


def test_a_tombstoned_identity_is_refused(published: LiveBox, directory: PlcServer) -> None:
    assert published.app is not None
    rotation, token = published.app.services.keys.rotation, published.token()
    directory.operations[published.did] = plc.sign_op(plc.tombstone(last(published, directory)), rotation)

    assert published.post(NS + "updateHandle", {"handle": "bob.test"}, token).json["message"] == "Did is tombstoned"
    published.post(NS + "requestPlcOperationSignature", token=token)
    body = {"token": code(published, "plc_operation")}
    assert published.post(NS + "signPlcOperation", body, token).json["message"] == "Did is tombstoned"


def test_app_passwords_do_not_touch_the_identity(box: LiveBox) -> None:
    made = box.server("createAppPassword", {"name": "bot", "privileged": True}, box.token()).json
    token = box.token(made["password"])
    for name, body in (
        ("updateHandle", {"handle": "bob.test"}),
        ("requestPlcOperationSignature", None),
        ("signPlcOperation", {"token": "x"}),
        ("submitPlcOperation", {"operation": {}}),
    ):
        assert box.post(NS + name, body, token).error == (400, "InvalidToken")


def test_an_identity_can_be_asked_for_anew(published: LiveBox, directory: PlcServer) -> None:
    other = plc.sign_op(
        plc.genesis([FOREIGN.did_key], FOREIGN.did_key, "carol.example.com", "https://pds.example.com"), FOREIGN
    )
    did = plc.did_of(other)
    directory.operations[did] = other
    assert published.get(NS + "resolveDid", did=did).json["didDoc"]["alsoKnownAs"] == ["at://carol.example.com"]
    directory.operations[did] = plc.sign_op(plc.update(other, {"alsoKnownAs": ["at://carol.test"]}), FOREIGN)

    assert published.get(NS + "resolveDid", did=did).json["didDoc"]["alsoKnownAs"] == ["at://carol.example.com"]
    fresh = published.post(NS + "refreshIdentity", {"identifier": did}).json

    assert fresh["didDoc"]["alsoKnownAs"] == ["at://carol.test"]
    assert (fresh["did"], fresh["handle"]) == (did, "handle.invalid")
    assert published.get(NS + "resolveDid", did=did).json["didDoc"] == fresh["didDoc"]
