"""The last good copy of a permission set stands in while its home is away, and how long is said."""

import asyncio
from types import SimpleNamespace

import pytest

from pds_lite import ujson
from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.errors import OAuthError
from pds_lite.services.oauth import permission_sets as module
from pds_lite.services.oauth.permission_sets import PermissionSets
from pds_lite.storage import oauth_store
from pds_lite.storage.oauth_store import Document
from tests.services.oauth.test_nonces import Hands
from tests.web.test_permission_sets import SETS, dns, entry

NSID = "site.standard.authFull"


def ask(store, age_days):
    """(what becomes, twice, of a set that nobody answers for and of which there is a copy; DNS questions asked)."""
    clock = Hands()
    body = ujson.dumpb(SETS[NSID])
    document = Document("set", NSID, body, clock.now_us() - age_days * 86_400_000_000)
    store.write_sync(lambda txn: oauth_store.put_document(txn, document), "test")

    async def get_twice(sets):
        return [(await asyncio.gather(sets.get(NSID), return_exceptions=True))[0] for _ in range(2)]

    with dns({}) as (server, asked):
        config = SimpleNamespace(dev=True, dns_server=server, did_cache_s=3600.0)
        return asyncio.run(get_twice(PermissionSets(config, clock, None, None, store))), len(asked)


def test_an_old_copy_stands_in_and_its_dead_home_is_not_asked_at_every_turn(checked_store):
    found, asked = ask(checked_store, 89)
    assert [each.nsid for each in found] == [NSID, NSID]
    assert asked == 1


def test_sets_that_amount_to_more_than_a_grant_may_hold_are_refused(checked_store):
    clock = Hands()
    names = [f"site.standard.{'x' * 50}{number}" for number in range(1000)]
    entries = [entry("repo", collection=names[first : first + 200]) for first in range(0, 1000, 200)]
    main = {"type": "permission-set", "permissions": entries}
    body = ujson.dumpb({"lexicon": 1, "id": NSID, "defs": {"main": main}})
    document = Document("set", NSID, body, clock.now_us())
    checked_store.write_sync(lambda txn: oauth_store.put_document(txn, document), "test")
    with dns({}) as (server, _):
        config = SimpleNamespace(dev=True, dns_server=server, did_cache_s=3600.0)
        sets = PermissionSets(config, clock, None, None, checked_store)
        with pytest.raises(OAuthError) as raised:
            asyncio.run(sets.expand(ScopeSet.parse(f"atproto include:{NSID}")))
    assert "too much" in raised.value.message


def test_a_copy_of_ninety_days_begins_no_session_and_the_refusal_says_why(checked_store):
    refusals, _ = ask(checked_store, 91)
    for refusal in refusals:
        assert isinstance(refusal, OAuthError)
        assert refusal.error == "invalid_scope"
        for part in (NSID, "_lexicon.standard.site", "91 days old", f"after {module.EXPIRES_DAYS}"):
            assert part in refusal.message
