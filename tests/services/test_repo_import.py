"""An import makes the uploaded repository the live one, or changes nothing and says what is wrong."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pds_lite.atproto import firehose, plc
from pds_lite.atproto.car import read_car, write_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, sign_commit, verify_commit
from pds_lite.atproto.crypto.k256 import K256Key
from pds_lite.atproto.dag_cbor import encode
from pds_lite.atproto.mst.node import encode_node
from pds_lite.atproto.mst.tree import build, seal
from pds_lite.atproto.tid import make_tid
from pds_lite.clock import Clock
from pds_lite.errors import BadCar, BadCommit, BadInput, BadRecord, BadTree, StoreFull, TooLarge
from pds_lite.services.account_status import account_status
from pds_lite.services.record_writes import RecordWrite
from pds_lite.services.repo_import import RepoImport
from pds_lite.services.repo_verify import verify_car
from pds_lite.services.repo_writer import AccountEvent
from pds_lite.storage import account_store, blob_store, event_log, repo_store
from pds_lite.storage.blob_store import BlobStore
from tests.storage.test_resident import mapped_bytes

from .conftest import DID, KEY, THING, Repo, account, open_repo

OTHER_KEY = K256Key.from_bytes(b"\x22" * 32)
NOT_A_NUMBER = cbor2.dumps({"a": float("nan")})
FOLLOW = "app.bsky.graph.follow"


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def importer(
    repo: Repo, folder: Path, signing_key: str | None = None, log: list[Any] | None = None, limit: int = 1 << 30
) -> RepoImport:
    async def did_doc(_did: str, refresh: bool = False) -> Any:
        return SimpleNamespace(signing_key=signing_key)

    async def audit_log(_did: str) -> list[Any]:
        assert log is not None, "the directory was asked for its log"
        return log

    identity: Any = SimpleNamespace(did_doc=did_doc, plc=SimpleNamespace(audit_log=audit_log))
    return RepoImport(repo.store, repo.writer, identity, Clock(), folder / "import", limit)


def later(seconds: int) -> str:
    """A rev above all that the repositories of a test make, and not too far ahead."""
    return make_tid(Clock().now_us() + seconds * 1_000_000, 1)


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def load(repo: Repo, folder: Path, car: bytes, **more: Any) -> None:
    service = importer(repo, folder, **more)
    try:
        await service.run(pieces(car))
        if service._dropping is not None:
            await service._dropping
    finally:
        await service.stop()


def records(repo: Repo) -> dict[bytes, bytes]:
    with repo.store.read() as txn:
        return {path: record.block for path, record in repo_store.scan_records(txn)}


def make_car(
    values: dict[str, Any], *, did: str = DID, key: K256Key = KEY, rev: str | None = None, shuffle: int | None = None
) -> bytes:
    """A repository made by hand, its blocks in any order. A value that is bytes is a block of its own making."""
    blocks = {path.encode(): value if type(value) is bytes else encode(value) for path, value in values.items()}
    root = build(sorted((path, Cid.of_cbor(block)) for path, block in blocks.items()))
    nodes = seal(root, "") or [(root.cid, encode_node((), (), (None,)))]
    commit = sign_commit(did, rev or later(10), root.cid, key.sign)
    everything = [commit, *nodes, *((Cid.of_cbor(block), block) for block in blocks.values())]
    if shuffle is not None:
        random.Random(shuffle).shuffle(everything)
    return b"".join(write_car(commit[0], everything))


def many(number: int, seed: int = 1) -> dict[str, Any]:
    source = random.Random(seed)
    return {f"{THING}{i % 3}/k{source.randrange(10**9)}": {"$type": f"{THING}{i % 3}", "i": i} for i in range(number)}


@pytest.mark.parametrize("status", ["active", "deactivated"])
def test_a_foreign_car_in_any_order_becomes_the_repository(tmp_path: Path, status: str) -> None:
    async def story() -> None:
        async with open_repo(tmp_path, status=status) as repo:
            wanted = many(1500)
            car = make_car(wanted, shuffle=3)
            head, _blocks = read_car(car)
            await load(repo, tmp_path, car)
            assert records(repo) == {path.encode(): encode(value) for path, value in wanted.items()}
            root, blocks = read_car(await repo.car())
            assert (root == head) == (status == "deactivated")
            assert set(blocks) - {root} == set(_blocks) - {head}
        async with open_repo(tmp_path, status=status) as repo:
            assert len(records(repo)) == 1500
            with repo.store.read() as txn:
                log = event_log.read_after(txn, 0, 1 << 30, 1 << 20)
            kinds = [firehose.decode_frame(frame)[0]["t"] for _seq, frame in log]
            assert kinds[4:] == (["#sync"] if status == "active" else [])
            if status == "active":
                await repo.create({"a": 1})

    run(story())


def test_importing_again_and_importing_what_changed_keep_the_rest(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path / "a") as source, open_repo(tmp_path / "b") as target:
            for start in range(0, 1000, 200):
                await source.writer.apply_writes(
                    [RecordWrite("create", THING, f"k{i}", {"i": i}) for i in range(start, start + 200)]
                )
            await load(target, tmp_path, await source.car())
            since = source.writer.head.rev
            revs = {path: record.rev for path, record in _all(target)}
            await source.put({"i": "changed"}, "k7")
            await source.delete("k8")
            difference = await source.car(since)
            assert len(difference) < len(await source.car()) / 4
            # Another commit on top at the target has another rev: make the source the newer one.
            target_head = target.writer.head
            await source.create({"late": 1}, rkey="late")
            assert source.writer.head.rev > target_head.rev
            await load(target, tmp_path, await source.car(since))
            assert records(target) == records(source)
            after = {path: record.rev for path, record in _all(target)}
            assert {path for path in after if after[path] != revs.get(path)} == {
                f"{THING}/k7".encode(),
                f"{THING}/late".encode(),
            }

    run(story())


def test_neither_importing_again_nor_counting_maps_the_whole_store(tmp_path: Path) -> None:
    async def story() -> None:
        data_file = tmp_path / "store" / "data.mdb"
        async with open_repo(tmp_path, status="deactivated") as repo:
            car = make_car({f"{THING}/k{i:05d}": {"i": i, "text": f"{i:04d}" * 400} for i in range(8000)})
            await load(repo, tmp_path, car)
            await load(repo, tmp_path, car)
            assert data_file.stat().st_size > 24 << 20
            assert mapped_bytes(data_file) < 4 << 20
            assert account_status(repo.store)["indexedRecords"] == 8000
            assert mapped_bytes(data_file) < 8 << 20

    run(story())


def _all(repo: Repo) -> list[tuple[bytes, Any]]:
    with repo.store.read() as txn:
        return list(repo_store.scan_records(txn))


def test_references_to_blobs_and_backlinks_come_with_the_records(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            cid = Cid.of_raw(b"elsewhere")
            blob = {"$type": "blob", "ref": cid, "mimeType": "image/png", "size": 9}
            follow = {"$type": FOLLOW, "subject": "did:plc:aaaa", "createdAt": "2026-01-01T00:00:00Z"}
            await load(repo, tmp_path, make_car({f"{THING}/a": {"b": blob}, f"{FOLLOW}/3jzfcijpj2z2a": follow}))
            with repo.store.read() as txn:
                assert blob_store.missing_blobs(txn, None, 10) == [(cid, f"{THING}/a".encode())]
                assert blob_store.blob_counts(txn) == (1, 0)
            await repo.create(
                {"subject": "did:plc:aaaa", "createdAt": follow["createdAt"]}, FOLLOW, replaces_duplicates=True
            )
            assert f"{FOLLOW}/3jzfcijpj2z2a".encode() not in records(repo)
            await load(repo, tmp_path, make_car({f"{THING}/b": {"x": 1}}, rev=later(60)))
            with repo.store.read() as txn:
                assert blob_store.blob_counts(txn) == (0, 0)

    run(story())


def _bad_cars() -> dict[str, tuple[type[BadInput], bytes]]:
    good = make_car(many(50))
    root, blocks = read_car(good)
    rows = list(blocks.items())
    empty = (Cid.of_cbor(encode_node((), (), (None,))), encode_node((), (), (None,)))
    record = encode({"a": 1})
    low_key, high_key = b"com.example.thing/a", b"com.example.thing/b"
    wrong_order = encode_node((high_key, low_key), (Cid.of_cbor(record),) * 2, (None, None, None))
    mined = sign_commit(DID, later(10), Cid.of_cbor(wrong_order), KEY.sign)
    not_cbor = b"\xbf\xff"
    odd = build([(low_key, Cid.of_cbor(not_cbor))])
    odd_nodes = seal(odd, "")
    odd_commit = sign_commit(DID, later(10), odd.cid, KEY.sign)
    ahead = make_tid(Clock().now_us() + 10 * 60 * 1_000_000, 1)
    return {
        "cut short": (BadCar, good[:-10]),
        "cut in the header": (BadCar, good[:20]),
        "empty": (BadCar, b""),
        "no CAR": (BadCar, b"\x00" * 100),
        "foreign DID": (BadCommit, make_car(many(3), did="did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")),
        "foreign signature": (BadCommit, make_car(many(3), key=OTHER_KEY)),
        "from the future": (BadCommit, make_car(many(3), rev=ahead)),
        "older than what is here": (BadCommit, make_car(many(3), rev=make_tid(1, 1))),
        "without a node": (BadTree, b"".join(write_car(root, [row for row in rows if row[0] != rows[2][0]]))),
        "without a record": (BadCar, b"".join(write_car(root, rows[:-1]))),
        "without its commit": (BadCar, b"".join(write_car(root, rows[1:]))),
        "root is no commit": (BadCommit, b"".join(write_car(empty[0], [empty]))),
        "tree that is not canonical": (
            BadTree,
            b"".join(
                write_car(mined[0], [mined, (Cid.of_cbor(wrong_order), wrong_order), (Cid.of_cbor(record), record)])
            ),
        ),
        "record that is no DAG-CBOR": (
            BadRecord,
            b"".join(write_car(odd_commit[0], [odd_commit, *odd_nodes, (Cid.of_cbor(not_cbor), not_cbor)])),
        ),
        "collection that is no NSID": (BadTree, make_car({"nodots/a": {"a": 1}})),
        "record with a key that is no text": (BadRecord, make_car({f"{THING}/a": b"\xa1\x01\x01"})),
        "record with a number that JSON does not know": (BadRecord, make_car({f"{THING}/a": NOT_A_NUMBER})),
        "record with a foreign tag": (BadRecord, make_car({f"{THING}/a": b"\xa1\x61a\xc1\x01"})),
        "record nested too deeply": (BadRecord, make_car({f"{THING}/a": b"\xa1\x61a" + b"\x81" * 200 + b"\x01"})),
        "record that is no object": (BadRecord, make_car({f"{THING}/a": [1]})),
    }


@pytest.mark.parametrize("name", list(_bad_cars()))
def test_what_is_wrong_is_refused_by_name_and_nothing_changes(tmp_path: Path, name: str) -> None:
    kind, car = _bad_cars()[name]

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1})
            before = repo.writer.head, records(repo)
            with pytest.raises(kind):
                await load(repo, tmp_path, car, signing_key=KEY.did_key)
            assert (repo.writer.head, records(repo)) == before
            await repo.create({"a": 2})
            good = many(5)
            await load(repo, tmp_path, make_car(good, rev=later(60)))
            assert len(records(repo)) == 5

    run(story())


def test_a_key_that_the_did_document_names_is_good_enough(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(
                repo, tmp_path, make_car(many(5), key=OTHER_KEY, rev=make_tid(1, 1)), signing_key=OTHER_KEY.did_key
            )
            assert len(records(repo)) == 5

    run(story())


ODD_RECORDS = {
    "a float": cbor2.dumps({"$type": THING, "ratio": 1.5}),
    "keys out of order": cbor2.dumps({"zz": 1, "a": 2, "$type": THING}),
    "a head that is not minimal": b"\xa1\x61a\x1b\x00\x00\x00\x00\x00\x00\x00\x01",
    "a link of another kind": encode({"a": Cid.decode(b"\x01\x51\x12\x20" + bytes(32))}),
}


@pytest.mark.parametrize("name", list(ODD_RECORDS))
def test_a_record_that_is_not_canonical_stays_as_it_was_signed(tmp_path: Path, name: str) -> None:
    block = ODD_RECORDS[name]

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            car = make_car({f"{THING}/odd": block, f"{THING}/plain": {"a": 1}})
            await load(repo, tmp_path, car)
            assert records(repo)[f"{THING}/odd".encode()] == block
            _root, blocks = read_car(await repo.car())
            assert blocks[Cid.of_cbor(block)] == block
            shown = json.loads(repo.reader.get_record(DID, THING, "odd", None))
            assert shown["cid"] == str(Cid.of_cbor(block))
            if name == "a float":
                assert shown["value"]["ratio"] == 1.5
            assert (await verify_car(pieces(await repo.car()), DID, KEY.did_key)).records == 2
            await repo.put({"b": 1}, "odd")
            await repo.delete("odd")

    run(story())


def test_revs_go_on_after_an_older_backup_is_put_back_into_a_deactivated_account(tmp_path: Path) -> None:
    """Relays drop a #sync that is older than what they have seen."""

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await repo.create({"a": 1}, rkey="old")
            backup = await repo.car()
            await repo.create({"a": 2}, rkey="new")
            seen = repo.writer.head.rev
            await repo.writer.transact(
                lambda txn: account_store.put_account(txn, account("deactivated")), [AccountEvent(False, "deactivated")]
            )
            with repo.store.read() as txn:
                last_event = event_log.last_seq(txn)
            await load(repo, tmp_path, backup)
            assert list(records(repo)) == [f"{THING}/old".encode()]
            assert repo.writer.head.rev > seen
            root, blocks = read_car(await repo.car())
            assert decode_commit(blocks[root]).rev == repo.writer.head.rev
            verify_commit(decode_commit(blocks[root]), KEY.did_key)
            with repo.store.read() as txn:
                assert event_log.last_seq(txn) == last_event

    run(story())


def test_an_imported_record_can_be_edited_whatever_its_old_host_called_its_blob(tmp_path: Path) -> None:
    """Also before the blob is here; a new record still has to name it as it is."""

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            blob = {"$type": "blob", "ref": Cid.of_raw(b"some text"), "mimeType": "image/x-odd", "size": 9}
            await load(repo, tmp_path, make_car({f"{THING}/a": {"$type": THING, "b": blob}}))
            named = {**blob, "ref": {"$link": str(blob["ref"])}}
            await repo.put({"b": dict(named), "edited": 1}, "a")
            uploaded = await repo.blobs.upload(pieces(b"some text"), "text/plain", 9)
            assert uploaded["mimeType"] == "text/plain"
            await repo.put({"b": dict(named), "edited": 2}, "a")
            with pytest.raises(BadInput, match="does not match"):
                await repo.put({"b": dict(named)}, "another")
            with pytest.raises(BadInput, match="does not match"):
                await repo.put({"b": {**named, "size": 8}}, "a")
            assert repo.blobs.row(blob["ref"]).refs == 1

    run(story())


def test_pictures_of_the_old_form_move_along(tmp_path: Path) -> None:
    """Old records hold {"cid", "mimeType"}; the blob goes with the last record that names it in either form."""
    cid = Cid.of_raw(b"picture")
    old = {"$type": THING, "image": {"cid": str(cid), "mimeType": "image/jpeg"}}
    new = {"$type": THING, "image": {"$type": "blob", "ref": cid, "mimeType": "image/jpeg", "size": 7}}

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            await load(repo, tmp_path, make_car({f"{THING}/old": old, f"{THING}/new": new}))
            with repo.store.read() as txn:
                assert blob_store.blob_counts(txn) == (1, 0)

            async def upload() -> AsyncIterator[bytes]:
                yield b"picture"

            await repo.blobs.upload(upload(), "image/jpeg", 7)
            await repo.delete("new")
            with repo.store.read() as txn:
                assert blob_store.blob_counts(txn) == (1, 1)
                assert blob_store.list_blobs(txn, None, None, 10) == ([cid], None)
            await repo.delete("old")
            with repo.store.read() as txn:
                assert blob_store.blob_counts(txn) == (0, 0)

    run(story())


def test_a_blob_that_another_record_names_after_an_import_stays(tmp_path: Path) -> None:
    value = {"$type": THING, "b": {"$type": "blob", "ref": Cid.of_raw(b"picture"), "mimeType": "image/jpeg", "size": 7}}

    async def story() -> None:
        async with open_repo(tmp_path, status="deactivated") as repo:
            await load(repo, tmp_path, make_car({f"{THING}/a": value}))

            async def upload() -> AsyncIterator[bytes]:
                yield b"picture"

            await repo.blobs.upload(upload(), "image/jpeg", 7)
            await load(repo, tmp_path, make_car({f"{THING}/b": value}))
            await repo.blobs.sweep()
            with repo.store.read() as txn:
                assert blob_store.blob_counts(txn) == (1, 1)

    run(story())
    assert BlobStore(tmp_path / "blobs").path(Cid.of_raw(b"picture")).exists()


def test_a_car_over_the_limit_is_refused_before_it_is_on_the_disk(tmp_path: Path) -> None:
    car = make_car(many(200))

    async def story() -> None:
        async with open_repo(tmp_path) as repo:
            service = importer(repo, tmp_path, limit=len(car) - 1)
            with pytest.raises(TooLarge):
                await service.run(pieces(car), len(car))
            with pytest.raises(TooLarge):
                await service.run(pieces(car))
            with pytest.raises(StoreFull, match="free disk"):
                await importer(repo, tmp_path, limit=1 << 60).run(pieces(car), 1 << 59)
            await service.stop()
            assert records(repo) == {}
            await load(repo, tmp_path, car, limit=len(car))
            assert len(records(repo)) == 200

    run(story())


@pytest.mark.parametrize("status", ["active", "deactivated"])
def test_until_activation_a_key_that_the_document_named_once_is_good_enough(tmp_path: Path, status: str) -> None:
    """A move whose identity step is done may still have to repeat its import: the old host signed that repository."""
    genesis = plc.sign_op(
        plc.genesis([OTHER_KEY.did_key], OTHER_KEY.did_key, "alice.test", "https://old.test"), OTHER_KEY
    )
    did = plc.did_of(genesis)
    moved = plc.sign_op(plc.update(genesis, {"verificationMethods": {"atproto": KEY.did_key}}), OTHER_KEY)
    log = [
        {"did": did, "operation": op, "cid": str(plc.op_cid(op)), "nullified": False, "createdAt": at}
        for op, at in ((genesis, "2026-01-01T00:00:00.000Z"), (moved, "2026-01-02T00:00:00.000Z"))
    ]
    never = K256Key.from_bytes(b"\x33" * 32)

    async def story() -> None:
        async with open_repo(tmp_path, status=status) as repo:
            await repo.store.write(lambda txn: account_store.put_account(txn, replace(account(status), did=did)))
            for key, accepted in ((never, False), (OTHER_KEY, status == "deactivated")):
                car = make_car(many(5), did=did, key=key)
                try:
                    await load(repo, tmp_path, car, signing_key=KEY.did_key, log=log)
                except BadCommit:
                    assert not accepted
                else:
                    assert accepted
            await repo.store.write(lambda txn: account_store.put_account(txn, account(status)))
            await load(repo, tmp_path, make_car(many(5)))

    run(story())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_a_mutated_car_is_refused_or_is_the_same_repository(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: bool
) -> None:
    wanted = {f"{THING}/k{i}": {"i": i} for i in range(30)}
    car = bytearray(make_car(wanted, rev=later(60)))
    place %= len(car)
    if cut:
        del car[place:]
    else:
        car[place] = value

    async def story() -> None:
        folder = tmp_path_factory.mktemp("mutated")
        async with open_repo(folder) as repo:
            before = repo.writer.head
            try:
                await load(repo, folder, bytes(car))
            except BadInput:
                assert (repo.writer.head, records(repo)) == (before, {})
            else:
                assert records(repo) == {path.encode(): encode(record) for path, record in wanted.items()}

    run(story())


def test_an_upload_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_repo(tmp_path) as repo:

            async def broken() -> AsyncIterator[bytes]:
                yield make_car(many(50))[:500]
                raise BadInput("the client left")

            service = importer(repo, tmp_path)
            with pytest.raises(BadInput):
                await service.run(broken())
            await service.stop()
            await repo.create({"a": 1})

    run(story())
