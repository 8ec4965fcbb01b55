"""A box pulls an account from another box: every question, every refusal, and the way back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.box import setup
from pds_lite.errors import BadInput, NotFound, PdsError, Unavailable, UpstreamFailure
from pds_lite.services.account_deletion import AccountDeletion
from pds_lite.services.bundle import Services
from pds_lite.services.codes import Purpose
from pds_lite.services.migration import preflight
from pds_lite.services.migration.old_host import OldHost
from pds_lite.services.second_factor import STEP_S, totp
from pds_lite.storage import account_store, identity_store, migration_store
from pds_lite.storage.migration_store import Migration
from tests.live_box import PASSWORD, LiveBox, live_box
from tests.plc_server import PlcServer, plc_server
from tests.served_box import COMMAND, environment

RECOVERY_KEY = K256Key.from_bytes(b"\x55" * 32).did_key
PICTURE = b"\x89PNG\r\n\x1a\n picture"


@dataclass
class World:
    directory: PlcServer
    old: LiveBox
    new: LiveBox
    said: list[str]

    @property
    def services(self) -> Services:
        assert self.new.app is not None
        return self.new.app.services

    @property
    def old_services(self) -> Services:
        assert self.old.app is not None
        return self.old.app.services

    def begin(self, **wanted: Any) -> Any:
        given = {"from": self.old.url, "account": "alice.test", **wanted}
        return self.new.run(self.services.migration().begin(given, self.said.append))

    def go_on(self, **given: Any) -> Any:
        return self.new.run(self.services.migration().go_on(given, self.said.append))

    def row(self) -> Migration:
        with self.services.store.read() as txn:
            row = migration_store.get_migration(txn)
        assert row is not None
        return row

    def code(self) -> str:
        (pending,) = self.old_services.codes.pending()
        assert pending.purpose == Purpose.PLC_OPERATION
        return pending.code

    def post(self, record: Any) -> None:
        token = self.old.token()
        body = {"repo": self.old.did, "collection": "com.example.thing", "record": record}
        assert self.old.post("com.atproto.repo.createRecord", body, token).status == 200

    def records(self, box: LiveBox) -> Any:
        assert box.app is not None
        answer = box.get("com.atproto.repo.listRecords", box.token(), repo=self.old.did, collection="com.example.thing")
        assert answer.status == 200, answer.body
        return answer.json["records"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        plc_server() as directory,
        live_box(tmp_path / "old", plc_url=directory.url, rate_limits=False) as old,
        live_box(tmp_path / "new", account=False, plc_url=directory.url, rate_limits=False) as new,
    ):
        world = World(directory, old, new, [])
        old.run(world.old_services.account.publish())
        new.run(setup.wait_for_claim(world.services, with_code=False))
        blob = old.post("com.atproto.repo.uploadBlob", PICTURE, old.token()).json["blob"]
        world.post({"$type": "com.example.thing", "picture": blob})
        world.post({"$type": "com.example.thing", "n": 1})
        yield world


def test_the_whole_way_with_every_question(world: World) -> None:
    answer = world.begin()
    assert (answer["state"], answer["needs"]) == ("needs", "password")
    assert any(line.startswith("ok   reachable") for line in world.said)
    with pytest.raises(BadInput, match="does not let us in"):
        world.begin(password="wrong password")
    with pytest.raises(NotFound):
        world.go_on()
    answer = world.begin(password=PASSWORD)
    assert (answer["state"], answer["needs"], answer["step"]) == ("needs", "plc_code", "identity")
    code = world.code()
    answer = world.go_on(plc_code="AAAAA-AAAAA")
    assert (answer["needs"], answer["text"]) == ("plc_code", "the old host does not know that code")
    assert world.code() == code  # asking again would have voided the one that is in the mail
    answer = world.go_on(plc_code=code)
    assert (answer["state"], answer["moved"], answer["missing_blobs"]) == ("done", True, [])
    assert not world.old_services.account.active
    assert world.services.account.active
    assert world.records(world.new) == world.records(world.old)
    assert (world.row().access_jwt, world.row().refresh_jwt) == ("", "")
    assert world.go_on()["state"] == "done"


def test_a_blob_that_is_gone_stops_the_job_until_the_owner_decides(world: World) -> None:
    (record,) = [entry for entry in world.records(world.old) if "picture" in entry["value"]]
    cid = record["value"]["picture"]["ref"]["$link"]
    (path,) = (world.old.data_dir / "blobs").rglob(cid)
    aside = path.rename(world.old.data_dir / "aside")
    answer = world.begin(password=PASSWORD)
    assert (answer["state"], answer["needs"], answer["step"]) == ("needs", "accept_missing", "compare")
    (missing,) = answer["missing_blobs"]
    assert missing["cid"] == cid
    assert (missing["tries"], missing["reason"]) == (1, "the old host does not have it any more")
    assert world.go_on()["missing_blobs"][0]["tries"] == 1
    answer = world.go_on(accept_missing="yes")
    assert (answer["needs"], answer["step"]) == ("plc_code", "identity")
    aside.rename(path)


def test_a_rehearsal_is_taken_back_without_a_trace(world: World) -> None:
    log = list(world.directory.logs[world.old.did])
    answer = world.begin(password=PASSWORD, rehearse=True)
    assert answer["state"] == "rehearsed"
    assert world.services.account.require().status == "deactivated"
    assert world.new.run(world.services.migration().abandon())["state"] == "abandoned"
    assert world.services.account.account is None
    assert world.directory.logs[world.old.did] == log
    assert world.old_services.account.active
    with world.services.store.read() as txn:
        assert migration_store.get_migration(txn) is None
        assert account_store.get_account(txn) is None
    with pytest.raises(NotFound):
        world.new.run(world.services.migration().abandon())


def test_what_a_browser_tool_began_is_taken_back_too(world: World) -> None:
    service = f"did:web:localhost%3A{world.new.port}"
    nsid = "com.atproto.server.createAccount"
    proof = world.old.get("com.atproto.server.getServiceAuth", world.old.token(), aud=service, lxm=nsid).json["token"]
    wanted = {"did": world.old.did, "handle": "alice.test", "password": "another password"}
    assert world.new.post(nsid, wanted, proof).status == 200
    assert world.new.run(world.services.migration().abandon())["state"] == "abandoned"
    assert world.services.account.account is None

    world.new.run(setup.wait_for_claim(world.services, with_code=False))
    token = world.new.post(nsid, wanted, proof).json["accessJwt"]
    recommended = world.new.get("com.atproto.identity.getRecommendedDidCredentials", token).json
    rotation = world.old_services.keys.rotation
    operations = world.directory.operations
    operations[world.old.did] = plc.sign_op(plc.update(operations[world.old.did], recommended), rotation)
    with pytest.raises(BadInput, match="leads here already"):
        world.new.run(world.services.migration().abandon())
    assert world.new.server("activateAccount", token=token).status == 200
    assert world.new.server("deactivateAccount", {}, token).status == 200
    with pytest.raises(NotFound):
        world.new.run(world.services.migration().abandon())


def test_nothing_goes_back_once_the_identity_leads_here(world: World) -> None:
    world.begin(password=PASSWORD)
    world.go_on(plc_code=world.code())
    with pytest.raises(NotFound):
        world.new.run(world.services.migration().abandon())
    world.new.run(world.services.store.write(migration_store.delete_migration))
    with pytest.raises(BadInput, match="active here already"):
        world.begin(password=PASSWORD)


@pytest.mark.parametrize("what", ["foreign account", "identity elsewhere", "not reachable"])
def test_a_box_that_is_not_ready_is_told_before_anything_begins(world: World, what: str) -> None:
    if what == "foreign account":
        new = {"handle": "bob.test", "password": PASSWORD, "email": "b@example.com"}
        assert world.new.server("createAccount", new).status == 200
        reason = "this box has the account of bob.test"
    elif what == "identity elsewhere":
        reason = "the identity leads to"
        _lead_elsewhere(world)
    else:
        reason = "does not answer"
        object.__setattr__(world.services.config, "hostname", "localhost:9")
    before = list(world.old_services.sessions.live())
    with pytest.raises(BadInput, match=reason):
        world.begin(password=PASSWORD)
    assert list(world.old_services.sessions.live()) == before
    with world.services.store.read() as txn:
        assert migration_store.get_migration(txn) is None


def _lead_elsewhere(world: World) -> None:
    services = world.old_services

    def edit(fields: Any) -> Any:
        pds = {"type": "AtprotoPersonalDataServer", "endpoint": "https://elsewhere.example.com"}
        return {"services": {**fields["services"], "atproto_pds": pds}}

    async def change() -> None:
        async with services.plc.changing:
            await services.plc.update(edit)

    world.old.run(change())


def test_a_lost_mail_is_no_dead_end(world: World) -> None:
    world.begin(password=PASSWORD)
    asked = world.row().code_asked_us
    assert world.go_on()["needs"] == "plc_code"
    assert world.row().code_asked_us == asked
    assert world.go_on(new_plc_code="yes")["needs"] == "plc_code"
    assert world.row().code_asked_us > asked
    assert world.go_on(plc_code=world.code())["state"] == "done"


def test_a_password_given_later_is_shown_to_the_old_host_first(world: World) -> None:
    """It becomes the box's own: a slip of the finger must not."""
    world.begin(password=PASSWORD, recovery_key=RECOVERY_KEY)
    ended_early = replace(world.row(), step="account", rehearse=True)
    world.new.run(world.services.deletion.delete(world.old.did, announce=False))
    world.new.run(world.services.store.write(lambda txn: migration_store.put_migration(txn, ended_early)))
    with pytest.raises(BadInput, match="does not let us in"):
        world.go_on(password="a slip of the finger")
    assert world.services.account.account is None
    assert world.go_on(password=PASSWORD)["state"] == "rehearsed"
    with world.services.store.read() as txn:
        assert identity_store.get_plc(txn).recovery_key == RECOVERY_KEY


def test_a_move_is_not_taken_back_while_nobody_knows_where_the_identity_leads(world: World) -> None:
    """The signed operation may be at the directory already: this box's key must not be thrown away."""
    world.begin(password=PASSWORD)
    world.directory.is_down = True
    try:
        with pytest.raises(PdsError):
            world.new.run(world.services.migration().abandon())
        assert world.services.account.account is not None
    finally:
        world.directory.is_down = False
    assert world.new.run(world.services.migration().abandon())["state"] == "abandoned"


def test_abandoning_is_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the account has gone must not leave a job without an account."""
    world.begin(password=PASSWORD)

    async def power_cut(_self: AccountDeletion) -> None:
        raise Unavailable("the plug was pulled")

    monkeypatch.setattr(AccountDeletion, "resume", power_cut)
    with pytest.raises(Unavailable):
        world.new.run(world.services.migration().abandon())
    with world.services.store.read() as txn:
        assert account_store.get_account(txn) is None
        assert migration_store.get_migration(txn) is None


def test_findings_that_are_in_order_are_told_once(world: World) -> None:
    world.begin()
    world.said.clear()
    world.begin(password=PASSWORD, asked_again=True)
    assert not [line for line in world.said if line.startswith("ok ") and "disk" not in line]


def test_no_session_stays_behind_after_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(world.old_services.sessions.live()))
    monkeypatch.setattr(preflight, "LEAST_FREE", 1 << 60)
    with pytest.raises(BadInput, match="are free on the disk"):
        world.begin(password=PASSWORD)
    assert len(list(world.old_services.sessions.live())) == before


def test_the_old_hosts_second_factor_is_asked_for_until_it_is_right(world: World) -> None:
    """The old host is another box, with an authenticator app switched on."""
    factor, clock = world.old_services.second_factor, world.old_services.clock
    secret = factor.begin()
    world.old.run(factor.switch_on(totp(secret, int(clock.now()) // STEP_S)))
    answer = world.begin(password=PASSWORD)
    assert (answer["state"], answer["needs"]) == ("needs", "auth_factor")
    assert "authenticator" in answer["text"]
    answer = world.begin(password=PASSWORD, auth_factor="000000")
    assert (answer["needs"], "does not take that" in answer["text"]) == ("auth_factor", True)
    code = totp(secret, int(clock.now()) // STEP_S + 1)  # the present one is spent
    assert world.begin(password=PASSWORD, auth_factor=code)["needs"] == "plc_code"
    assert world.go_on(plc_code=world.code())["state"] == "done"
    assert not world.old_services.account.active


@pytest.mark.parametrize(
    ("counted", "line"),
    [
        ({"indexedRecords": 7, "expectedBlobs": 1, "importedBlobs": 9}, "WARN records: 7 there, 2 here"),
        ({"indexedRecords": "many"}, "WARN records: not told there, 2 here"),
        (None, "the old host does not count: checkAccountStatus: 501 MethodNotImplemented"),
    ],
)
def test_an_old_host_that_counts_wrongly_or_not_at_all_stops_no_move(
    world: World, monkeypatch: pytest.MonkeyPatch, counted: Any, line: str
) -> None:
    """The commit says that nothing is missing; a host's index may be off for years."""
    really = OldHost.get

    async def get(old: OldHost, nsid: str, **params: Any) -> Any:
        if nsid != "com.atproto.server.checkAccountStatus":
            return await really(old, nsid, **params)
        if counted is None:
            text = "checkAccountStatus: 501 MethodNotImplemented"
            raise UpstreamFailure(text, error="MethodNotImplemented", status=501)
        return counted

    monkeypatch.setattr(OldHost, "get", get)
    assert world.begin(password=PASSWORD)["needs"] == "plc_code"
    assert line in world.said
    assert any(said.startswith("the commit is the same") for said in world.said)


def test_an_old_host_that_does_not_let_go_leaves_no_two_active_accounts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = OldHost.post

    async def post(old: OldHost, nsid: str, *given: Any, **more: Any) -> Any:
        if nsid == "com.atproto.server.deactivateAccount":
            raise UpstreamFailure("deactivateAccount: 400 NotNow", error="NotNow", status=400)
        return await really(old, nsid, *given, **more)

    assert world.begin(password=PASSWORD)["needs"] == "plc_code"
    with monkeypatch.context() as patched:
        patched.setattr(OldHost, "post", post)
        with pytest.raises(UpstreamFailure, match="keeps the account active: deactivateAccount") as caught:
            world.go_on(plc_code=world.code())
        assert "account activate" in (caught.value.hint or "")
        assert (world.old_services.account.active, world.services.account.active) == (True, False)
        assert (world.row().step, world.row().is_moved) == ("deactivate", True)
        # At rest there by another way: then the refusal means nothing.
        world.old.run(world.old_services.account.deactivate())
        assert world.go_on()["state"] == "done"
        assert (world.old_services.account.active, world.services.account.active) == (False, True)


def test_an_app_password_moves_nothing_and_the_own_one_goes_on(world: World) -> None:
    made = world.old.server("createAppPassword", {"name": "x"}, world.old.token())
    with pytest.raises(BadInput, match="does not let the account go") as caught:
        world.begin(password=made.json["password"], account="@alice.test")
    assert "app password" in caught.value.hint
    assert world.services.account.account is None
    assert world.go_on(password=PASSWORD)["needs"] == "plc_code"


def test_the_command_line_says_what_has_happened_and_how_to_go_on(world: World) -> None:
    def migrate(*words: str, lines: str = "", status: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [*COMMAND, "migrate", *words],
            input=lines,
            env=environment({"PDS_LITE_DATA_DIR": str(world.new.data_dir)}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stdout, done.stderr

    source = ("--from", world.old.url, "--account", "alice.test")
    said, _ = migrate(*source, status=3)
    assert said.startswith("Waiting: the password of alice.test")
    said, told = migrate(*source, "--rehearse", "--password-stdin", lines=f"{PASSWORD}\n")
    assert said.startswith("Rehearsed: everything of alice.test")
    assert "repo: fetching the repository" in told
    assert migrate("--status")[0].splitlines()[0] == said.splitlines()[0]
    said, _ = migrate(status=3)
    assert said.startswith(f"Waiting: {world.old.url} was asked at ")
    assert "Next: pds-lite migrate --plc-code CODE" in said
    said, _ = migrate("--status")
    assert said.startswith("At rest: alice.test")
    assert "at identity: leading the identity here" in said
    said, told = migrate("--plc-code", "AAAAA-AAAAA", status=3)
    assert "does not know that code" in said
    said, _ = migrate("--abandon")
    assert said.startswith("Taken back: alice.test")
    assert "is being moved here" in migrate("--status", status=1)[1]
