"""Identities: our own without a look-up, others by DNS then HTTPS, kept within bounds, reasons in every refusal."""

import dataclasses
import json
from contextlib import asynccontextmanager

import pytest

from pds_lite.atproto import dag_cbor, did_doc, plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.clock import Clock
from pds_lite.config import Config
from pds_lite.errors import BadSyntax, NotFound, UpstreamFailure
from pds_lite.services import key_store
from pds_lite.services.identity import STALE_S, Identity, Remembered
from pds_lite.storage import account_store
from pds_lite.storage.account_store import Account
from pds_lite.storage.store import Store
from tests.net.dns_server import dns_server
from tests.net.web import Web

PLC = "https://plc.example.com"
OWN = "did:plc:" + "a" * 24
OTHER = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY = K256Key.from_bytes(b"\x11" * 32)
GENESIS = plc.sign_op(plc.genesis([KEY.did_key], KEY.did_key, "alice.example.com", "https://pds.example.net"), KEY)
ACCOUNT = Account(OWN, "alice.example.com", "a@example.com", True, "hash", "active", 1)


class Hours(Clock):
    """A clock that a test moves."""

    elapsed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store")
    store.write_sync(lambda txn: key_store.save(txn, key_store.generate()))
    yield store
    store.close()


@pytest.fixture
def clock():
    return Hours()


@pytest.fixture
def web():
    return Web()


@pytest.fixture
def make(store, clock, web, tmp_path):
    def make(account: Account | None = None, **settings) -> Identity:
        if account is not None:
            store.write_sync(lambda txn: account_store.put_account(txn, account))
        config = Config(data_dir=tmp_path, **{"hostname": "pds.example.net", "plc_url": PLC, **settings})
        return Identity(config, clock, web, store)

    return make


def document(did=OTHER, handle="bob.example.com", key=KEY):
    services = [did_doc.pds_service("https://pds.example.com")]
    return json.dumps(did_doc.build(did, handle=handle, signing_did_key=key.did_key, services=services)).encode()


@asynccontextmanager
async def names(make, table, **settings):
    """An Identity that asks a DNS server with this table, and the names it was asked for."""
    async with dns_server({f"_atproto.{handle}": records for handle, records in table.items()}) as (server, asked):
        yield make(dns_server=server, **settings), asked


# -- handles


async def test_the_own_handle_needs_no_network(make, web):
    identity = make(ACCOUNT)

    assert await identity.resolve_handle("alice.example.com") == OWN
    assert await identity.resolve_handle("Alice.Example.COM") == OWN
    assert web.asked == []


async def test_dns_wins_and_https_is_not_asked(make, web):
    async with names(make, {"bob.example.com": [f'"did={OTHER}"']}) as (identity, _):
        assert await identity.resolve_handle("bob.example.com") == OTHER
    assert web.asked == []


async def test_without_a_record_the_host_itself_is_asked(make, web):
    web.answers["https://bob.example.com/.well-known/atproto-did"] = (200, OTHER.encode())
    async with names(make, {}) as (identity, _):
        assert await identity.resolve_handle("bob.example.com") == OTHER


async def test_conflicting_records_fail_even_if_the_host_would_answer(make, web):
    web.answers["https://bob.example.com/.well-known/atproto-did"] = (200, OTHER.encode())
    async with names(make, {"bob.example.com": [f'"did={OTHER}"', f'"did={OWN}"']}) as (identity, _):
        with pytest.raises(NotFound, match="name 2 different DIDs") as caught:
            await identity.resolve_handle("bob.example.com")
    assert caught.value.error == "HandleNotFound"


@pytest.mark.parametrize(
    ("records", "answer", "reasons"),
    [
        ("NXDOMAIN", (404, b""), ["no TXT record", "status 404"]),
        ("SERVFAIL", "connection refused", ["no DNS server answered", "connection refused"]),
        ([], (200, b"<html>"), ["no TXT record", "not a DID"]),
    ],
)
async def test_a_refusal_says_what_was_looked_up_and_found(make, web, records, answer, reasons):
    web.answers["https://bob.example.com/.well-known/atproto-did"] = answer
    async with names(make, {"bob.example.com": records}) as (identity, _):
        with pytest.raises(NotFound) as caught:
            await identity.resolve_handle("bob.example.com")
    assert caught.value.error == "HandleNotFound"
    for reason in ["Unable to resolve handle bob.example.com", *reasons]:
        assert reason in caught.value.message


@pytest.mark.parametrize("handle", ["bob.local", "bob.onion", "bob.test", "bob.localhost"])
@pytest.mark.parametrize("dev", [True, False])
async def test_names_that_nobody_can_look_up_are_not_looked_up(make, web, handle, dev):
    settings = {"dev": True, "hostname": "localhost:2583"} if dev else {}
    async with names(make, {handle: [f'"did={OTHER}"']}, **settings) as (identity, asked):
        with pytest.raises(NotFound, match="not looked up"):
            await identity.resolve_handle(handle)
    assert (asked, web.asked) == ([], [])


async def test_a_test_handle_of_this_box_is_known_in_development(make):
    identity = make(dataclasses.replace(ACCOUNT, handle="alice.test"), dev=True, hostname="localhost:2583")

    assert await identity.resolve_handle("alice.test") == OWN
    assert await identity.resolve_handle("alice.test", refresh=True) == OWN


async def test_refresh_asks_the_world_about_our_own_handle(make):
    async with names(make, {"alice.example.com": [f'"did={OTHER}"']}, account=ACCOUNT) as (identity, _):
        assert await identity.resolve_handle("alice.example.com", refresh=True) == OTHER


async def test_a_handle_is_remembered_for_as_long_as_configured(make, clock):
    async with names(make, {"bob.example.com": [f'"did={OTHER}"']}, did_cache_s=60.0) as (identity, asked):
        for elapsed in (0, 30, 60, 61):
            clock.elapsed = elapsed
            assert await identity.resolve_handle("bob.example.com") == OTHER
        assert len(asked) == 2


@pytest.mark.parametrize("handle", ["", "alice", "did:plc:x", "a..b", "ä.example.com", "x" * 300 + ".com"])
async def test_what_is_no_handle_is_not_looked_up(make, web, handle):
    with pytest.raises(BadSyntax):
        await make().resolve_handle(handle)
    assert web.asked == []


# -- documents


async def test_documents_come_from_the_directory_and_from_did_webs_own_host(make, web):
    web.answers[f"{PLC}/{OTHER}"] = (200, document())
    web.answers["https://bob.example.com/.well-known/did.json"] = (200, document("did:web:bob.example.com"))
    identity = make()

    assert (await identity.did_doc(OTHER)).signing_key == KEY.did_key
    assert (await identity.did_doc("did:web:bob.example.com")).handle == "bob.example.com"


async def test_localhost_is_a_did_web_in_development_only(make, web):
    did = "did:web:localhost%3A3000"
    web.answers["http://localhost:3000/.well-known/did.json"] = (200, document(did))

    assert (await make(dev=True, hostname="localhost:2583").did_doc(did)).did == did
    with pytest.raises(NotFound):
        await make().did_doc(did)


@pytest.mark.parametrize(
    ("did", "kind", "words"),
    [
        ("did:plc:short", NotFound, "neither a did:plc nor a did:web"),
        ("did:key:zQ3sh", NotFound, "neither"),
        ("did:web:example.com:path", NotFound, "neither"),
        ("nonsense", BadSyntax, "not a DID"),
        (OTHER, UpstreamFailure, "no route"),
    ],
)
async def test_other_dids_are_refused_by_name(make, did, kind, words):
    with pytest.raises(kind, match=words):
        await make().did_doc(did)


async def test_a_document_of_another_did_is_an_upstream_failure(make, web):
    web.answers[f"{PLC}/{OTHER}"] = (200, document(OWN))

    with pytest.raises(UpstreamFailure, match=f"{PLC} answered something else"):
        await make().did_doc(OTHER)


async def test_documents_are_remembered_refreshed_and_forgotten(make, web, clock):
    web.answers[f"{PLC}/{OTHER}"] = (200, document())
    identity = make(did_cache_s=60.0)
    for elapsed, refresh in ((0, False), (60, False), (61, False), (61, True), (62, False)):
        clock.elapsed = elapsed
        await identity.did_doc(OTHER, refresh=refresh)
    assert len(web.asked) == 3

    identity.forget(OTHER)
    await identity.did_doc(OTHER)
    assert len(web.asked) == 4


async def test_a_directory_that_is_down_does_not_make_us_forget_for_a_day(make, web, clock):
    web.answers[f"{PLC}/{OTHER}"] = (200, document())
    identity = make(did_cache_s=60.0)
    await identity.did_doc(OTHER)
    web.answers[f"{PLC}/{OTHER}"] = (503, b"")

    clock.elapsed = STALE_S
    assert (await identity.did_doc(OTHER)).did == OTHER
    with pytest.raises(UpstreamFailure):
        await identity.did_doc(OTHER, refresh=True)
    clock.elapsed = STALE_S + 61
    with pytest.raises(UpstreamFailure):
        await identity.did_doc(OTHER)


async def test_a_tombstone_is_believed_at_once(make, web, clock):
    web.answers[f"{PLC}/{OTHER}"] = (200, document())
    identity = make(did_cache_s=60.0)
    await identity.did_doc(OTHER)
    web.answers[f"{PLC}/{OTHER}"] = (410, b"")
    clock.elapsed = 61

    with pytest.raises(NotFound) as caught:
        await identity.did_doc(OTHER)
    assert caught.value.error == "DidDeactivated"


async def test_our_own_document_needs_no_network_while_the_account_is_active(make, web, store):
    identity = make(ACCOUNT)
    own = await identity.did_doc(OWN)
    with store.read() as txn:
        keys = key_store.load(txn)

    assert (own.handle, own.pds) == ("alice.example.com", "https://pds.example.net")
    assert own.signing_key == keys.signing.did_key
    assert web.asked == []


async def test_what_the_world_believes_of_us_is_asked_on_refresh_and_while_moving_in(make, web):
    web.answers[f"{PLC}/{OWN}"] = (200, document(OWN))

    assert (await make(ACCOUNT).did_doc(OWN, refresh=True)).pds == "https://pds.example.com"
    moving = dataclasses.replace(ACCOUNT, status="deactivated")
    assert (await make(moving).did_doc(OWN)).pds == "https://pds.example.com"


async def test_an_unpublished_did_and_our_own_did_web_are_never_asked_for(make, web):
    unpublished = dataclasses.replace(ACCOUNT, plc_op=dag_cbor.encode(GENESIS))
    assert (await make(unpublished).did_doc(OWN, refresh=True)).did == OWN

    did_web = dataclasses.replace(ACCOUNT, did="did:web:pds.example.net", status="deactivated")
    assert (await make(did_web).did_doc("did:web:pds.example.net", refresh=True)).handle == "alice.example.com"
    assert web.asked == []


async def test_publishing_sends_the_operation_and_forgets_the_old_document(make, web):
    op = plc.sign_op(plc.genesis([KEY.did_key], KEY.did_key, "bob.example.com", "https://pds.example.com"), KEY)
    did = plc.did_of(op)
    web.answers[f"{PLC}/{did}"] = (200, document(did))
    identity = make()
    await identity.did_doc(did)
    await identity.publish_plc(did, op)
    await identity.did_doc(did)

    assert [method for method, _, _ in web.asked] == ["GET", "POST", "GET"]
    assert json.loads(web.asked[1][2]) == op


# -- memory


def test_what_is_remembered_is_bounded_by_count_and_size():
    memory = Remembered(3, 100)
    for index in range(5):
        memory.put(str(index), 1.0, 10, index)
    assert [memory.get(str(index), 0.0) for index in range(5)] == [None, None, 2, 3, 4]

    memory.get("2", 0.0)
    memory.put("big", 1.0, 85, "big")
    assert (memory.get("2", 0.0), memory.get("big", 0.0), len(memory)) == (2, "big", 2), "the longest unused go first"

    memory.put("huge", 1.0, 101, "huge")
    assert len(memory) == 0, "an answer over the bound is not kept"


def test_an_answer_is_good_from_its_time_on():
    memory = Remembered(3, 100)
    memory.put("x", 10.0, 1, "x")

    assert memory.get("x", 10.0) == "x"
    assert memory.get("x", 10.1) is None
    memory.put("x", 20.0, 2, "y")
    assert memory.get("x", 15.0) == "y"
    memory.forget("x")
    memory.forget("x")
    assert memory.get("x", 0.0) is None
