"""Key rotation: document, keys, head and stream agree afterwards, and after a cut at any place of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import firehose, plc
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.errors import BadInput
from pds_lite.services import key_store
from pds_lite.services.bundle import Services
from pds_lite.storage import event_log
from tests.live_box import HANDLE, LiveBox, live_box
from tests.plc_server import PlcServer, plc_server


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, directory: PlcServer) -> Iterator[LiveBox]:
    with live_box(tmp_path / "box", plc_url=directory.url) as running:
        running.run(services_of(running).account.publish())
        yield running


def services_of(box: LiveBox) -> Services:
    assert box.app is not None
    return box.app.services


def events(box: LiveBox, after: int) -> list[tuple[str, dict[str, Any]]]:
    with services_of(box).store.read() as txn:
        frames = [frame for _seq, frame in event_log.read_after(txn, after, 1 << 30, 1000)]
    return [(header["t"], body) for header, body in map(firehose.decode_frame, frames)]


def last_seq(box: LiveBox) -> int:
    with services_of(box).store.read() as txn:
        return event_log.last_seq(txn)


def post(box: LiveBox, token: str) -> Any:
    record = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
    return box.post("com.atproto.repo.createRecord", record, token)


def check_all_agree(box: LiveBox, directory: PlcServer, did_key: str) -> None:
    services = services_of(box)
    assert services.keys.signing.did_key == services.repo.did_key == did_key
    assert directory.operations[box.did]["verificationMethods"] == {"atproto": did_key}
    assert services.repo.head is not None
    verify_commit(decode_commit(services.repo.head.commit_block), did_key)
    with services.store.read() as txn:
        stored = key_store.load(txn)
        assert key_store.load_next(txn) is None
    assert stored is not None
    assert stored.signing.did_key == did_key


def test_a_rotation_is_announced_and_everything_after_it_verifies(box: LiveBox, directory: PlcServer) -> None:
    token = box.token()
    assert post(box, token).status == 200
    services, before, seq = services_of(box), services_of(box).keys.signing.did_key, last_seq(box)

    did_key = box.run(services.key_rotation.rotate())

    assert did_key != before
    check_all_agree(box, directory, did_key)
    told = events(box, seq)
    assert [kind for kind, _body in told] == ["#identity", "#commit", "#sync"]
    assert told[0][1]["handle"] == HANDLE
    assert (told[1][1]["ops"], told[1][1]["rev"]) == ([], told[2][1]["rev"])
    assert post(box, token).status == 200, "sessions go on"
    check_all_agree(box, directory, did_key)
    # What the box says of itself and mints for others carries the new key.
    document = box.get("com.atproto.identity.resolveDid", did=box.did).json["didDoc"]
    assert document["verificationMethod"][0]["publicKeyMultibase"] == did_key.removeprefix("did:key:")


def test_a_rotation_keeps_the_rest_of_the_document(box: LiveBox, directory: PlcServer) -> None:
    before = directory.operations[box.did]
    box.run(services_of(box).key_rotation.rotate())
    after = directory.operations[box.did]

    for name in ("rotationKeys", "alsoKnownAs", "services"):
        assert after[name] == before[name]


def test_a_directory_that_refuses_changes_nothing_and_the_key_is_used_again(box: LiveBox, directory: PlcServer) -> None:
    services, before, seq = services_of(box), services_of(box).keys.signing.did_key, last_seq(box)
    directory.refuses = True
    with pytest.raises(Exception, match="refused"):
        box.run(services.key_rotation.rotate())

    assert services.keys.signing.did_key == before
    assert last_seq(box) == seq
    assert services.key_rotation.is_unfinished
    with services.store.read() as txn:
        waiting = key_store.load_next(txn)
    directory.refuses = False
    assert waiting is not None
    assert box.run(services.key_rotation.rotate()) == waiting.did_key
    check_all_agree(box, directory, waiting.did_key)


def test_a_rotation_cut_after_publishing_is_finished_at_the_next_start(tmp_path: Path, directory: PlcServer) -> None:
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        services = services_of(box)
        box.run(services.account.publish())
        key = key_store.make_signing_key()
        box.run(services.store.write(lambda txn: key_store.save_next(txn, key)))
        changed = plc.update(directory.operations[box.did], {"verificationMethods": {"atproto": key.did_key}})
        directory.operations[box.did] = plc.sign_op(changed, services.keys.rotation)
        old = services.keys.signing.did_key

    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        box.run(_until(lambda: not services_of(box).key_rotation.is_unfinished))
        check_all_agree(box, directory, key.did_key)
        assert services_of(box).keys.signing.did_key != old


async def _until(true: Any) -> None:
    import asyncio

    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


def test_an_unfinished_rotation_that_was_not_published_stays_unfinished(box: LiveBox, directory: PlcServer) -> None:
    services, before = services_of(box), services_of(box).keys.signing.did_key
    box.run(services.store.write(lambda txn: key_store.save_next(txn, key_store.make_signing_key())))

    assert not box.run(services.key_rotation.finish())
    assert services.keys.signing.did_key == before


def test_offline_a_rotation_waits_with_the_genesis(tmp_path: Path, directory: PlcServer) -> None:
    with live_box(tmp_path / "box", plc_url=directory.url) as box:
        did_key = box.run(services_of(box).key_rotation.rotate())
        assert post(box, box.token()).status == 200
        assert directory.logs == {}

        box.run(services_of(box).account.publish())

        check_all_agree(box, directory, did_key)


def test_an_account_that_is_not_active_is_not_rotated(box: LiveBox) -> None:
    box.run(services_of(box).account.deactivate())
    with pytest.raises(BadInput, match="not active"):
        box.run(services_of(box).key_rotation.rotate())
    assert not services_of(box).key_rotation.is_unfinished
