"""PLC watch: what this box did not do raises an alarm once, survives a restart, and ends when it is undone."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.plc_recovery import plan_undo
from pds_lite.errors import PdsError
from pds_lite.services.bundle import Services
from pds_lite.services.plc_watch import judge
from pds_lite.services.sign_up import NewAccount
from pds_lite.storage.identity_store import PlcRow
from tests.live_box import LiveBox, live_box
from tests.plc_server import PlcServer, plc_server

OWNER = K256Key.from_bytes(b"\x06" * 32)
THIEF = K256Key.from_bytes(b"\x07" * 32)
HOUR = 3600


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


def services_of(box: LiveBox) -> Services:
    assert box.app is not None
    return box.app.services


def sign_up(box: LiveBox) -> None:
    wanted = NewAccount(handle="alice.test", password="correct horse battery", recovery_key=OWNER.did_key)
    box.did = box.run(services_of(box).sign_up.create(wanted, publish=True)).did


@pytest.fixture
def box(tmp_path: Path, directory: PlcServer) -> Iterator[LiveBox]:
    """A box with a published did:plc whose recovery key is OWNER."""
    with live_box(tmp_path / "box", account=False, plc_url=directory.url) as running:
        sign_up(running)
        yield running


def steal(box: LiveBox, directory: PlcServer, **changes: Any) -> str:
    """Somebody who has the box's key changes the identity."""
    last = directory.operations[box.did]
    changes = changes or {"rotationKeys": [THIEF.did_key], "alsoKnownAs": ["at://thief.example.com"]}
    operation = plc.sign_op(plc.update(last, changes), services_of(box).keys.rotation)
    directory.operations[box.did] = operation
    return str(plc.op_cid(operation))


def undo(box: LiveBox, directory: PlcServer) -> None:
    audit = plc.audit(box.did, directory.logs[box.did])
    plan = plan_undo(audit, OWNER.did_key, None, services_of(box).clock.now())
    directory.operations[box.did] = plc.sign_op(plan.operation, OWNER)


def check(box: LiveBox) -> PlcRow:
    row: PlcRow = box.run(services_of(box).plc_watch.check())
    return row


def test_what_the_box_does_itself_is_no_alarm(box: LiveBox) -> None:
    services = services_of(box)
    assert check(box).alarms == ()
    box.run(services.handles.update("bob.test"))
    box.run(services.key_rotation.rotate())

    row = check(box)

    assert (row.alarms, row.trouble, row.judged, row.made) == ((), "", 3, ())


def test_a_strangers_operation_is_an_alarm_with_the_time_left(
    box: LiveBox, directory: PlcServer, caplog: pytest.LogCaptureFixture
) -> None:
    check(box)
    directory.age_s = 12 * HOUR
    with caplog.at_level(logging.ERROR):
        cid = steal(box, directory)
        (alarm,) = check(box).alarms
        assert len(check(box).alarms) == 1

    watch = services_of(box).plc_watch
    assert alarm.cid == cid
    assert alarm.undo_keys == (OWNER.did_key,)
    assert 59 * HOUR < watch.time_left(alarm) <= 60 * HOUR
    assert "+ name at://thief.example.com" in alarm.changes
    assert caplog.text.count("PLC ALARM") == 1, "logged once, at error level"
    status = box.run(_command(box, "status"))
    assert status["plc_watch"]["alarms"][0]["operation"] == cid
    problems = box.run(_command(box, "doctor"))["problems"]
    assert any(problem["code"] == "plc_alarm" and "identity undo" in problem["text"] for problem in problems)


async def _command(box: LiveBox, name: str) -> Any:
    from pds_lite.box.commands import COMMANDS
    from pds_lite.box.control import Channel

    async def nothing() -> Any:
        return
        yield

    async def send(_piece: bytes) -> None:
        return

    return await COMMANDS[name](services_of(box), {}, Channel(nothing(), send))


def test_an_alarm_survives_a_restart_and_is_cried_again(
    tmp_path: Path, directory: PlcServer, caplog: pytest.LogCaptureFixture
) -> None:
    with live_box(tmp_path / "box", account=False, plc_url=directory.url) as box:
        sign_up(box)
        cid = steal(box, directory)
        assert [alarm.cid for alarm in check(box).alarms] == [cid]
    caplog.clear()

    directory.is_down = True
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        assert [alarm.cid for alarm in services_of(box).plc_watch.row().alarms] == [cid]
        assert "PLC ALARM" in caplog.text


def test_undoing_ends_the_alarm_and_is_none_itself(box: LiveBox, directory: PlcServer) -> None:
    check(box)
    steal(box, directory)
    assert check(box).alarms
    undo(box, directory)

    assert check(box).alarms == ()
    # Also when both came between two looks.
    steal(box, directory)
    undo(box, directory)
    assert check(box).alarms == ()


def test_undoing_what_the_box_did_is_an_alarm(box: LiveBox, directory: PlcServer) -> None:
    box.run(services_of(box).handles.update("bob.test"))
    check(box)
    undo(box, directory)

    (alarm,) = check(box).alarms

    assert alarm.signer == OWNER.did_key
    assert alarm.undo_keys == ()
    assert services_of(box).plc_watch.time_left(alarm) == 0


def test_the_owner_may_say_that_it_was_right(box: LiveBox, directory: PlcServer) -> None:
    check(box)
    steal(box, directory, alsoKnownAs=["at://alice.test", "https://alice.example.com"])
    check(box)

    assert box.run(services_of(box).plc_watch.acknowledge()) == 1

    assert check(box).alarms == ()


def test_a_log_that_lies_or_changes_its_past_is_trouble(box: LiveBox, directory: PlcServer) -> None:
    check(box)
    good = directory.logs[box.did]
    forged = [{**good[0], "operation": {**good[0]["operation"], "alsoKnownAs": ["at://forged.example.com"]}}]

    directory.logs[box.did] = forged
    assert "does not hold" in check(box).trouble
    directory.logs[box.did] = good
    assert check(box).trouble == ""

    steal(box, directory)
    check(box)
    directory.logs[box.did] = good
    row = check(box)
    assert "changed the past" in row.trouble
    assert row.alarms, "what was seen stays an alarm"
    box.run(services_of(box).plc_watch.acknowledge())
    assert check(box).trouble == ""


def test_no_answer_is_no_news(box: LiveBox, directory: PlcServer) -> None:
    before = check(box)
    directory.is_down = True
    with pytest.raises(PdsError):
        check(box)

    assert services_of(box).plc_watch.row() == before


def test_an_account_that_is_not_active_here_is_not_watched(box: LiveBox, directory: PlcServer) -> None:
    check(box)
    box.run(services_of(box).account.deactivate())
    steal(box, directory, services={"atproto_pds": {"type": plc.PDS_TYPE, "endpoint": "https://new.example.com"}})

    assert check(box).alarms == ()
    assert not check(box).baseline


def test_a_history_brought_along_is_the_baseline() -> None:
    old = plc.sign_op(
        plc.genesis([THIEF.did_key], THIEF.did_key, "alice.example.com", "https://old.example.com"), THIEF
    )
    entry = {
        "did": plc.did_of(old),
        "operation": old,
        "cid": str(plc.op_cid(old)),
        "nullified": False,
        "createdAt": "2026-11-01T00:00:00.000Z",
    }
    audit = plc.audit(plc.did_of(old), [entry])

    # An operation of ours that is on its way makes no baseline: the history before it is not ours.
    row = judge(PlcRow(made=("bafyreiours",)), audit)

    assert (row.alarms, row.judged, row.baseline, row.made) == ((), 1, True, ("bafyreiours",))
