"""Sign-up: one account, by claim code, with the owner's key first; or an existing DID that moves in."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import dag_cbor, plc, service_auth
from pds_lite.atproto.crypto import K256Key
from pds_lite.box import setup
from pds_lite.errors import PdsError
from tests.live_box import PASSWORD, LiveBox, live_box
from tests.plc_server import PlcServer, plc_server

OWNER = K256Key.from_bytes(b"\x05" * 32)
OLD_HOST = K256Key.from_bytes(b"\x06" * 32)
CREATE = "com.atproto.server.createAccount"


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, directory: PlcServer) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", account=False, plc_url=directory.url, did_cache_s=0) as running:
        yield running


def open_claim(box: LiveBox, with_code: bool = True) -> str | None:
    assert box.app is not None
    prepared = box.run(setup.wait_for_claim(box.app.services, with_code=with_code))
    code: str | None = prepared.claim_code
    return code


def wanted(**more: Any) -> dict[str, Any]:
    return {"handle": "alice.test", "email": "alice@example.com", "password": PASSWORD, **more}


def elsewhere(directory: PlcServer, handle: str = "alice.test") -> str:
    """A DID that lives on another host."""
    operation = plc.sign_op(
        plc.genesis([OLD_HOST.did_key], OLD_HOST.did_key, handle, "https://old.example.com"), OLD_HOST
    )
    did = plc.did_of(operation)
    directory.operations[did] = operation
    return did


def service_token(
    box: LiveBox, did: str, lxm: str = CREATE, key: K256Key = OLD_HOST, service: str | None = None
) -> str:
    now = int(time.time())
    return service_auth.mint(key, did, service or f"did:web:localhost%3A{box.port}", lxm, now, now + 60, "x")


def test_the_claim_code_makes_the_first_account_and_is_spent(box: LiveBox, directory: PlcServer) -> None:
    code = open_claim(box)
    assert code is not None

    assert box.server("createAccount", wanted()).error == (400, "InvalidInviteCode")
    assert box.server("createAccount", wanted(inviteCode="AAAAA-AAAAA")).error == (400, "InvalidInviteCode")
    made = box.server("createAccount", wanted(inviteCode=code.lower(), recoveryKey=OWNER.did_key))

    assert made.status == 200, made.body
    did = made.json["did"]
    operation = directory.operations[did]
    assert plc.did_of(operation) == did
    assert operation["rotationKeys"][0] == OWNER.did_key
    assert len(operation["rotationKeys"]) == 2
    assert operation["services"]["atproto_pds"]["endpoint"] == box.url
    assert box.get("com.atproto.server.getSession", made.json["accessJwt"]).json["did"] == did
    assert box.server("createAccount", wanted(inviteCode=code)).error == (400, "AlreadyExists")


def test_nothing_is_stored_when_the_directory_refuses(box: LiveBox, directory: PlcServer) -> None:
    open_claim(box, with_code=False)
    directory.refuses = True
    assert box.server("createAccount", wanted()).status == 502

    directory.refuses = False
    assert box.server("createAccount", wanted()).status == 200


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"handle": "not a handle"}, "InvalidRequest"),
        ({"handle": "alice.local"}, "InvalidHandle"),
        ({"password": "short"}, "InvalidRequest"),
        ({"email": "no address"}, "InvalidRequest"),
        ({"recoveryKey": "did:key:nonsense"}, "InvalidRequest"),
        ({"plcOp": {}}, "InvalidRequest"),
    ],
)
def test_what_cannot_become_an_account(box: LiveBox, change: dict[str, Any], error: str) -> None:
    open_claim(box, with_code=False)

    assert box.server("createAccount", wanted(**change)).error == (400, error)

    assert box.app is not None
    assert box.app.services.account.account is None


def test_a_box_without_claim_takes_nobody(box: LiveBox) -> None:
    assert box.server("createAccount", wanted()).error == (400, "InvalidInviteCode")


def test_an_existing_did_moves_in_deactivated_and_says_nothing_yet(box: LiveBox, directory: PlcServer) -> None:
    code = open_claim(box)
    did = elsewhere(directory)
    body = wanted(did=did, inviteCode=code)

    assert box.server("createAccount", body).error == (401, "AuthenticationRequired")
    assert box.server("createAccount", body, service_token(box, did, key=OWNER)).error == (401, "BadJwtSignature")
    assert box.server("createAccount", body, service_token(box, did, lxm="com.example.x")).status == 401
    made = box.server("createAccount", body, service_token(box, did))

    assert made.status == 200, made.body
    assert made.json["did"] == did
    session = box.log_in(identifier=did)
    assert (session["active"], session["status"]) == (False, "deactivated")
    status = box.get("com.atproto.server.checkAccountStatus", session["accessJwt"]).json
    assert (status["activated"], status["validDid"], status["indexedRecords"]) == (False, False, 0)
    assert status["repoCommit"].startswith("bafyrei")
    assert box.app is not None
    with box.app.services.store.read() as txn:
        from pds_lite.storage import event_log

        assert event_log.last_seq(txn) == 0
    again = box.server("createAccount", body, service_token(box, did))
    assert again.error == (400, "AlreadyExists")


def test_it_is_activated_only_when_its_document_leads_here(box: LiveBox, directory: PlcServer) -> None:
    open_claim(box, with_code=False)
    did = elsewhere(directory)
    token = box.server("createAccount", wanted(did=did), service_token(box, did)).json["accessJwt"]
    assert box.server("activateAccount", token=token).error == (400, "InvalidRequest")

    recommended = box.get("com.atproto.identity.getRecommendedDidCredentials", token).json
    directory.operations[did] = plc.sign_op(plc.update(directory.operations[did], recommended), OLD_HOST)

    assert box.server("activateAccount", token=token).status == 200
    assert box.get("com.atproto.sync.getRepoStatus", did=did).json["active"] is True
    record = {"repo": did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
    assert box.post("com.atproto.repo.createRecord", record, token).status == 200


def test_a_handle_that_is_not_the_dids_own_is_refused(box: LiveBox, directory: PlcServer) -> None:
    open_claim(box, with_code=False)
    did = elsewhere(directory, handle="mine.example.com")
    token = service_token(box, did)

    refused = box.server("createAccount", wanted(did=did, handle="somebody-else.invalid"), token)
    assert refused.error == (400, "InvalidHandle")
    refused = box.server("createAccount", wanted(did=did, handle="localhost.localdomain"), token)
    assert refused.error == (400, "InvalidRequest")
    assert "did not resolve" in refused.json["message"]
    assert box.server("createAccount", wanted(did=did, handle="mine.example.com"), token).status == 200


def test_whoever_moves_in_may_take_the_boxs_own_name(tmp_path: Path, directory: PlcServer) -> None:
    name = "box.example.com"
    with live_box(tmp_path / "box", account=False, plc_url=directory.url, hostname=name) as box:
        open_claim(box, with_code=False)
        did = elsewhere(directory)
        token = service_token(box, did, service="did:web:box.example.com")

        made = box.server("createAccount", wanted(did=did, handle=name), token)

        assert made.json["handle"] == name
        recommended = box.get("com.atproto.identity.getRecommendedDidCredentials", made.json["accessJwt"]).json
        assert recommended["alsoKnownAs"] == [f"at://{name}"]


def test_a_did_made_offline_is_published_later_even_if_the_first_answer_was_lost(
    tmp_path: Path, directory: PlcServer
) -> None:
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        assert box.app is not None
        accounts = box.app.services.account
        assert accounts.require().plc_op is not None
        directory.refuses = True
        with pytest.raises(PdsError):
            box.run(accounts.publish())
        assert accounts.require().plc_op is not None

        operation = dag_cbor.decode_own(accounts.require().plc_op or b"")
        assert isinstance(operation, dict)
        directory.operations[box.did] = operation
        box.run(accounts.publish())

        assert accounts.require().plc_op is None
