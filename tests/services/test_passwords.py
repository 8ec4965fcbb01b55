"""Passwords: argon2id one at a time, refusals that cost as much as answers, and secrets of the agreed shapes."""

import asyncio
import re
import threading

import pytest
from nacl.pwhash import argon2id

from pds_lite.errors import BadInput, ConfigError, Unavailable
from pds_lite.services import passwords


@pytest.fixture(autouse=True)
def floor_cost():
    yield
    passwords.set_cost(*passwords.FLOOR)


async def test_only_the_password_that_was_hashed_is_right():
    stored = await passwords.hash_password("corréct hörse 🐎")

    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify_password(stored, "corréct hörse 🐎")
    assert not await passwords.verify_password(stored, "correct horse")
    assert not await passwords.verify_password(stored, "")


async def test_the_same_password_hashes_differently_each_time():
    assert await passwords.hash_password("x") != await passwords.hash_password("x")


async def test_the_boards_cost_applies_to_new_hashes_and_old_ones_still_verify():
    old = await passwords.hash_password("x")
    passwords.set_cost(20, 3)
    new = await passwords.hash_password("x")

    assert "m=20480,t=3" in new
    assert await passwords.verify_password(old, "x")
    assert await passwords.verify_password(new, "x")


@pytest.mark.parametrize("cost", [(18, 2), (19, 1), (0, 0)])
def test_a_cost_below_the_floor_is_refused(cost):
    with pytest.raises(ConfigError):
        passwords.set_cost(*cost)


async def test_an_unknown_account_costs_a_whole_hash(monkeypatch):
    costs = []
    kdf = argon2id.kdf

    def counted(*args, opslimit, memlimit):
        costs.append((opslimit, memlimit))
        return kdf(*args, opslimit=opslimit, memlimit=memlimit)

    monkeypatch.setattr(argon2id, "kdf", counted)

    assert not await passwords.verify_password(None, "anything")
    assert costs == [(2, 19 << 20)]


async def test_hashes_run_one_at_a_time_off_the_event_loop():
    loop_thread, seen, running, most = threading.get_ident(), set(), 0, 0

    def work():
        nonlocal running, most
        seen.add(threading.get_ident())
        running += 1
        most = max(most, running)
        threading.Event().wait(0.002)
        running -= 1

    await asyncio.gather(*(passwords._in_thread(work) for _ in range(8)))

    assert most == 1
    assert len(seen) == 1
    assert loop_thread not in seen


async def test_the_queue_is_short_and_a_caller_that_leaves_frees_its_place():
    gate = threading.Event()
    tasks = [asyncio.ensure_future(passwords._in_thread(gate.wait)) for _ in range(passwords.MAX_WAITING)]
    await asyncio.sleep(0)

    with pytest.raises(Unavailable):
        await passwords.hash_password("x")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    gate.set()

    assert await passwords.verify_password(await passwords.hash_password("x"), "x")


async def test_overlong_passwords_are_refused_unhashed():
    for call in (passwords.hash_password("x" * 2049), passwords.verify_password(None, "é" * 1025)):
        with pytest.raises(BadInput):
            await call


async def test_lone_surrogates_from_json_do_not_crash():
    assert not await passwords.verify_password(await passwords.hash_password("x"), "\ud800")


def test_made_secrets_have_the_shapes_that_clients_and_people_expect():
    for _ in range(50):
        assert re.fullmatch(r"[a-z2-7]{5}(-[a-z2-7]{5}){3}", passwords.make_password())
        assert re.fullmatch(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}", passwords.make_app_password())
        assert re.fullmatch(r"[A-Z2-7]{5}-[A-Z2-7]{5}", passwords.make_code())
    assert len({passwords.make_code() for _ in range(200)}) == 200


def test_an_app_password_is_told_by_its_form():
    assert passwords.is_app_password(passwords.make_app_password())
    for text in (passwords.make_password(), "", "abcd-efgh-ijkl", "ABCD-efgh-ijkl-mnop", "abcd-efgh-ijkl-mno1\n"):
        assert not passwords.is_app_password(text)
