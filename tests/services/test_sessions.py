"""Sessions: tokens live and die with their row, refresh rotates, and a stolen refresh token ends the session."""

import asyncio
import base64
import json
from collections.abc import Coroutine
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from pds_lite.atproto import jwt
from pds_lite.clock import Clock
from pds_lite.errors import Unauthorized
from pds_lite.services import key_store, sessions
from pds_lite.services.access import Kind
from pds_lite.services.sessions import Sessions
from pds_lite.storage.store import Store
from tests.set_clock import SetClock

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
KEYS = key_store.generate()
HOUR_US = 3600 * 1_000_000


def make(store: Store, clock: Clock) -> Sessions:
    config: Any = SimpleNamespace(service_did="did:web:pds.example.com", access_ttl=7200)
    made = Sessions(config, clock, store, KEYS)
    made.start()
    return made


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Unauthorized) as caught:
        call(*arguments, **options)
    assert caught.value.status == 400
    return caught.value.error


def test_tokens_carry_the_claims_clients_decode(store: Store, clock: SetClock) -> None:
    pair = run(make(store, clock).open(DID, None, True))

    access, refresh = claims_of(pair.access_jwt), claims_of(pair.refresh_jwt)

    assert jwt.peek_header(pair.access_jwt) == {"typ": "at+jwt", "alg": "HS256"}
    assert jwt.peek_header(pair.refresh_jwt) == {"typ": "refresh+jwt", "alg": "HS256"}
    assert (access["sub"], access["aud"], access["scope"]) == (DID, "did:web:pds.example.com", "com.atproto.access")
    assert (access["exp"] - access["iat"], refresh["exp"] - refresh["iat"]) == (7200, 90 * 86400)
    assert refresh["scope"] == "com.atproto.refresh"
    assert access["jti"] != refresh["jti"]


@pytest.mark.parametrize(
    ("name", "privileged", "kind", "scope"),
    [
        (None, True, Kind.OWNER, "com.atproto.access"),
        ("phone", False, Kind.APP, "com.atproto.appPass"),
        ("phone", True, Kind.APP, "com.atproto.appPassPrivileged"),
    ],
)
def test_an_access_token_says_which_password_opened_it(
    store: Store, clock: SetClock, name: str | None, privileged: bool, kind: Kind, scope: str
) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, name, privileged))

    principal = live.check_access(pair.access_jwt)

    assert (principal.kind, principal.did, principal.privileged) == (kind, DID, privileged)
    assert claims_of(pair.access_jwt)["scope"] == scope


def test_expired_and_wrong_tokens_are_refused_by_the_names_clients_act_on(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, None, True))
    other_server = jwt.encode_hs256({**claims_of(pair.access_jwt), "aud": "did:web:other"}, KEYS.jwt_secret, "at+jwt")
    without_jti = jwt.encode_hs256({"sub": DID, "aud": "did:web:pds.example.com"}, KEYS.jwt_secret, "at+jwt")

    assert refused(live.check_access, pair.refresh_jwt) == "InvalidToken"
    assert refused(live.check_refresh, pair.access_jwt) == "InvalidToken"
    assert refused(live.check_access, pair.access_jwt[:-2] + "xx") == "InvalidToken"
    assert refused(live.check_access, other_server) == "InvalidToken"
    assert refused(live.check_access, without_jti) == "InvalidToken"
    assert refused(live.check_access, "") == "InvalidToken"
    clock.us += 2 * HOUR_US
    assert refused(live.check_access, pair.access_jwt) == "ExpiredToken"
    clock.us += 91 * 24 * HOUR_US
    assert refused(live.check_refresh, pair.refresh_jwt) == "ExpiredToken"
    assert live.check_refresh(pair.refresh_jwt, allow_expired=True).session_id is not None


def test_a_refreshed_token_is_spent_and_answers_the_same_successor_for_two_hours(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    first = run(live.open(DID, None, True))
    second = run(live.refresh(live.check_refresh(first.refresh_jwt)))
    third = run(live.refresh(live.check_refresh(second.refresh_jwt)))

    clock.us += 2 * HOUR_US - 1
    again_first = run(live.refresh(live.check_refresh(first.refresh_jwt)))
    again_second = run(live.refresh(live.check_refresh(second.refresh_jwt)))

    assert claims_of(again_first.refresh_jwt)["jti"] == claims_of(second.refresh_jwt)["jti"]
    assert claims_of(again_second.refresh_jwt)["jti"] == claims_of(third.refresh_jwt)["jti"]
    assert claims_of(again_first.access_jwt)["sub"] == DID


def test_racing_refreshes_all_get_one_successor(store: Store, clock: SetClock) -> None:
    live = make(store, clock)

    async def race() -> set[str]:
        pair = await live.open(DID, None, True)
        principal = live.check_refresh(pair.refresh_jwt)
        answers = await asyncio.gather(*(live.refresh(principal) for _ in range(10)))
        return {claims_of(answer.refresh_jwt)["jti"] for answer in answers}

    assert len(run(race())) == 1


def test_a_token_used_again_after_its_grace_ends_the_session(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    first = run(live.open(DID, None, True))
    second = run(live.refresh(live.check_refresh(first.refresh_jwt)))

    clock.us += 2 * HOUR_US
    assert refused(lambda: run(live.refresh(live.check_refresh(first.refresh_jwt)))) == "ExpiredToken"

    assert refused(live.check_refresh, second.refresh_jwt) == "ExpiredToken"
    assert refused(make(store, clock).check_refresh, second.refresh_jwt) == "ExpiredToken"


def test_after_a_restart_every_token_in_its_grace_has_the_successor_it_had(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pairs = [run(live.open(DID, None, True))]
    for _ in range(4):
        clock.forward(600)
        pairs.append(run(live.refresh(live.check_refresh(pairs[-1].refresh_jwt))))

    live = make(store, clock)

    for spent, successor in pairwise(pairs):
        again = run(live.refresh(live.check_refresh(spent.refresh_jwt)))
        assert claims_of(again.refresh_jwt)["jti"] == claims_of(successor.refresh_jwt)["jti"]
    clock.forward(7200 - 3 * 600)
    live = make(store, clock)
    assert refused(lambda: run(live.refresh(live.check_refresh(pairs[0].refresh_jwt)))) == "ExpiredToken"
    assert live.live() == []


def test_spent_tokens_are_few_however_often_a_client_refreshes(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, None, True))
    for _ in range(3 * sessions.MAX_SPENT):
        pair = run(live.refresh(live.check_refresh(pair.refresh_jwt)))
    assert len(live.live()[0].spent) == sessions.MAX_SPENT


def test_the_last_use_is_shown_at_once_and_written_once_an_hour(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, None, True))
    opened = clock.us
    clock.forward(1800)
    live.check_access(pair.access_jwt)
    assert live.live()[0].used_us == opened + 1800 * 1_000_000
    run(live.save())
    assert make(store, clock).live()[0].used_us == opened, "not worth a write yet"

    clock.forward(1801)
    live.check_access(pair.access_jwt)
    run(live.save())

    assert make(store, clock).live()[0].used_us == live.live()[0].used_us == opened + 3601 * 1_000_000
    assert live.check_refresh(pair.refresh_jwt).session_id == live.live()[0].id


def test_an_ended_session_does_not_come_back_with_its_last_use(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, None, True))
    clock.forward(3601)
    principal = live.check_access(pair.access_jwt)

    async def at_once() -> None:
        await asyncio.gather(live.end(principal.session_id), live.save())

    run(at_once())
    assert make(store, clock).live() == []


def test_a_session_of_an_account_that_is_taken_down_says_so_and_is_not_refreshed(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    pair = run(live.open(DID, None, True, taken_down=True))

    assert claims_of(pair.access_jwt)["scope"] == "com.atproto.takendown"
    assert live.check_access(pair.access_jwt).taken_down
    with pytest.raises(Unauthorized) as caught:
        run(live.refresh(live.check_refresh(pair.refresh_jwt)))
    assert (caught.value.status, caught.value.error) == (401, "AccountTakedown")


def test_sessions_and_the_grace_of_the_last_spent_token_survive_a_restart(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    first = run(live.open(DID, "phone", True))
    second = run(live.refresh(live.check_refresh(first.refresh_jwt)))

    live = make(store, clock)

    assert live.check_access(first.access_jwt).privileged
    again = run(live.refresh(live.check_refresh(first.refresh_jwt)))
    assert claims_of(again.refresh_jwt)["jti"] == claims_of(second.refresh_jwt)["jti"]


def test_ending_a_session_revokes_its_access_token_at_once(store: Store, clock: SetClock) -> None:
    live = make(store, clock)
    mine, phone, tablet = (run(live.open(DID, name, True)) for name in (None, "phone", "tablet"))

    run(live.end_of_app_password("phone"))
    assert refused(live.check_access, phone.access_jwt) == "ExpiredToken"
    run(live.end(live.check_access(tablet.access_jwt).session_id))
    assert refused(live.check_access, tablet.access_jwt) == "ExpiredToken"
    assert live.check_access(mine.access_jwt).kind is Kind.OWNER
    run(live.end_all())
    assert refused(live.check_access, mine.access_jwt) == "ExpiredToken"
    assert make(store, clock).live() == []


def test_the_longest_unused_session_makes_room(store: Store, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    live = make(store, clock)
    pairs = []
    for _ in range(5):
        clock.us += 1
        pairs.append(run(live.open(DID, None, True)))

    assert refused(live.check_access, pairs[1].access_jwt) == "ExpiredToken"
    assert [live.check_access(pair.access_jwt).did for pair in pairs[2:]] == [DID] * 3
    assert len(make(store, clock).live()) == 3
