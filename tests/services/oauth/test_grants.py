"""Grants: durable, bounded, and each token good for exactly what it should be."""

import asyncio
from types import SimpleNamespace

import pytest

from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.errors import OAuthError
from pds_lite.services.oauth import grants as module
from pds_lite.services.oauth.grants import Beginning, Grants
from tests.services.oauth.test_nonces import Hands

CONFIG = SimpleNamespace(service_did="did:web:a.example", public_url="https://a.example", access_ttl=7200)
DAY = 86400


def beginning(number=1, client_key=""):
    return Beginning(
        client_id=f"https://app{number}.example/c.json",
        client_name="",
        sub="did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        agreed=ScopeSet(["atproto", "repo:*"]),
        scope=ScopeSet(["atproto", "repo:*"]),
        dpop_jkt="jkt",
        client_key=client_key,
        code_hash=b"%d" % number,
        code_challenge=f"challenge {number}",
    )


def make(store, clock, secret=b"s"):
    return Grants(CONFIG, clock, store, lambda purpose: secret + purpose.encode())


def begin(grants, number=1, client_key=""):
    return asyncio.run(grants.begin(beginning(number, client_key), []))


def renew(grants, token, scope="atproto"):
    return asyncio.run(grants.renew(token, lambda _grant: ScopeSet.parse(scope), "", []))


def test_a_grant_and_its_tokens_outlive_a_restart(checked_store):
    clock = Hands()
    first = make(checked_store, clock)
    grant = begin(first)
    token, life = first.access_token(grant)
    assert life == module.ACCESS_TTL_S
    again = make(checked_store, clock)
    assert again.check_access(token).grant == grant
    assert again.find_refresh(first.refresh_token(grant)) == (grant, True)
    assert again.of_code(b"1") == grant
    assert again.knows_challenge("challenge 1")
    assert again.agreed_with(grant.client_id, "") == {"atproto", "repo:*"}
    assert again.agreed_with(grant.client_id, "kid ES256 x") == set()


def test_the_last_use_is_told_a_quarter_of_an_hour_too_early_at_most_after_a_restart(checked_store):
    clock = Hands()
    first = make(checked_store, clock)
    grant = begin(first)
    for _ in range(3):  # an app that works on: it fetches a new token when the old one ends
        first.access_token(grant)
        clock.at += module.ACCESS_TTL_S - 1
        token, _ = first.access_token(grant)
        first.used(first.check_access(token))
        last_use = clock.now_us()
        (after_restart,) = make(checked_store, clock).live()
        assert 0 <= last_use - after_restart.used_us <= module.ACCESS_TTL_S * 1_000_000
        grant = renew(first, first.refresh_token(grant))


def test_a_refresh_narrows_the_tokens_there_are(checked_store):
    grants = make(checked_store, Hands())
    grant = begin(grants)
    token, _ = grants.access_token(grant)
    assert grants.check_access(token).scopes.allows_repo("com.example.thing", "create")
    renew(grants, grants.refresh_token(grant), "atproto")
    assert not grants.check_access(token).scopes.allows_repo("com.example.thing", "create")


def test_two_refreshes_at_once_end_the_session(checked_store):
    grants = make(checked_store, Hands())
    token = grants.refresh_token(begin(grants))

    async def both():
        scope = ScopeSet.parse("atproto")
        renewals = (grants.renew(token, lambda _grant: scope, "", []) for _ in range(2))
        return await asyncio.gather(*renewals, return_exceptions=True)

    outcomes = asyncio.run(both())
    assert [type(outcome) for outcome in outcomes].count(OAuthError) == 1
    assert grants.live() == []


def test_other_servers_and_other_purposes_have_other_tokens(checked_store):
    clock = Hands()
    grants = make(checked_store, clock)
    grant = begin(grants)
    token, _ = grants.access_token(grant)
    for foreign in ("", "x", "a.b.c", token[:-2], grants.refresh_token(grant), token.replace(".", "", 1)):
        with pytest.raises(OAuthError):
            grants.check_access(foreign)
    with pytest.raises(OAuthError):
        make(checked_store, clock, b"other").check_access(token)
    assert grants.find_refresh(token) == (None, False)


def test_tokens_end_with_their_time_and_their_grant(checked_store):
    clock = Hands()
    grants = make(checked_store, clock)
    grant = begin(grants)
    token, life = grants.access_token(grant)
    clock.at += life
    with pytest.raises(OAuthError, match="expired"):
        grants.check_access(token)
    token, _ = grants.access_token(grant)
    asyncio.run(grants.revoke(grant.id))
    with pytest.raises(OAuthError, match="revoked"):
        grants.check_access(token)
    assert asyncio.run(grants.revoke(grant.id)) is False


@pytest.mark.parametrize(("key", "unused", "longest"), [("", 14, 14), ("kid ES256 x", 90, 730)])
def test_sessions_last_as_long_as_the_profile_says(checked_store, key, unused, longest):
    clock = Hands()
    grants = make(checked_store, clock)
    grant = begin(grants, client_key=key)
    start = clock.at
    clock.at = start + unused * DAY - 60
    assert grants.get(grant.id) is not None
    clock.at = start + unused * DAY + 60
    assert grants.get(grant.id) is None
    grant = begin(grants, 2, key)
    start = clock.at
    while clock.at < start + longest * DAY - 2 * DAY:
        clock.at += min(unused - 1, longest / 3) * DAY
        if clock.at < start + longest * DAY:
            grant = asyncio.run(grants.renew(grants.refresh_token(grant), lambda _g: ScopeSet(["atproto"]), key, []))
    clock.at = start + longest * DAY - 60
    assert grants.access_token(grant)[1] <= 60, "no token outlives its session"
    clock.at = start + longest * DAY + 60
    assert grants.get(grant.id) is None


def test_the_longest_unused_makes_room_and_the_dead_are_buried(checked_store, monkeypatch):
    monkeypatch.setattr(module, "MAX_GRANTS", 3)
    clock = Hands()
    grants = make(checked_store, clock)
    made = []
    for number in range(4):
        clock.at += 100
        made.append(begin(grants, number))
        if number == 2:
            token, _ = grants.access_token(made[0])
            clock.at += 100
            grants.used(grants.check_access(token))
    assert {grant.id for grant in grants.live()} == {made[0].id, made[2].id, made[3].id}
    clock.at += 15 * DAY
    after_restart = make(checked_store, clock)
    assert after_restart.live() == []
    begin(after_restart, 9)
    with checked_store.read() as txn:
        from pds_lite.storage import oauth_store

        assert len(list(oauth_store.list_grants(txn))) == 1


def test_a_password_reset_ends_them_all(checked_store):
    grants = make(checked_store, Hands())
    begin(grants, 1)
    begin(grants, 2)
    asyncio.run(grants.end_all())
    assert grants.live() == []
    assert make(checked_store, Hands()).live() == []
