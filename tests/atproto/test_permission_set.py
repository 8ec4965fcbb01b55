"""Permission sets: an authority gives away what is its own, in the forms known here, and nothing else."""

import pytest

from pds_lite.atproto.oauth_scope import Include, Repo, Rpc, ScopeSet
from pds_lite.atproto.permission_set import expand, expand_scopes, parse_set
from pds_lite.errors import BadData

NSID = "pub.leaflet.authFull"
AUD = "did:web:leaflet.pub#api"


def lexicon(*permissions, **main):
    return {
        "lexicon": 1,
        "id": NSID,
        "defs": {"main": {"type": "permission-set", "permissions": list(permissions), **main}},
    }


def entry(resource, **fields):
    return {"type": "permission", "resource": resource, **fields}


def grants(*permissions, aud=None):
    return expand(Include(NSID, aud), parse_set(NSID, lexicon(*permissions)))


def test_records_and_methods_of_its_own_group():
    assert grants(entry("repo", collection=["pub.leaflet.document", "pub.leaflet.comment"], action=["create"])) == [
        Repo(frozenset({"pub.leaflet.document", "pub.leaflet.comment"}), frozenset({"create"}))
    ]
    assert grants(entry("repo", collection=["pub.leaflet.graph.subscription"])) != []
    assert grants(entry("rpc", lxm=["pub.leaflet.get"], aud="*")) == [Rpc(frozenset({"pub.leaflet.get"}), "*")]


@pytest.mark.parametrize(
    "permission",
    [
        entry("repo", collection=["app.bsky.feed.post"]),
        entry("repo", collection=["pub.leaflet.document", "app.bsky.feed.post"]),
        entry("repo", collection=["pub.leafletx.document"]),
        entry("repo", collection=["*"]),
        entry("repo", collection=[]),
        entry("repo", collection=["pub.leaflet.document"], action=["read"]),
        entry("repo", collection=["pub.leaflet.document"], swift=True),
        entry("repo", collection=[5]),
        entry("repo", collection=["pub.leaflet.document"] * 1000),
        entry("rpc", lxm=["*"], aud="*"),
        entry("rpc", lxm=["app.bsky.feed.getTimeline"], aud="*"),
        entry("rpc", lxm=["pub.leaflet.get"]),
        entry("rpc", lxm=["pub.leaflet.get"], aud=AUD),
        entry("rpc", lxm=["pub.leaflet.get"], inheritAud=True),
        entry("blob", accept=["*/*"]),
        entry("account", attr="email"),
        entry("identity", attr="*"),
        {"resource": "repo", "collection": ["pub.leaflet.document"]},
        {"type": "permission"},
    ],
)
def test_an_entry_that_breaks_a_rule_grants_nothing_and_spares_the_rest(permission):
    good = entry("repo", collection=["pub.leaflet.document"])
    assert grants(permission, good) == grants(good)


def test_an_audience_is_inherited_only_where_it_is_given():
    inherits = entry("rpc", lxm=["pub.leaflet.get"], inheritAud=True)
    assert grants(inherits, aud=AUD) == [Rpc(frozenset({"pub.leaflet.get"}), AUD)]
    assert grants(entry("rpc", lxm=["pub.leaflet.get"], inheritAud=True, aud="*"), aud=AUD) == []
    assert grants(entry("rpc", lxm=["pub.leaflet.get"]), aud=AUD) == []


def test_the_expansion_is_a_scope_that_means_the_same():
    found = parse_set(
        NSID,
        lexicon(
            entry("repo", collection=["pub.leaflet.b", "pub.leaflet.a"]),
            entry("rpc", lxm=["pub.leaflet.get"], inheritAud=True),
        ),
    )
    scopes = expand_scopes(Include(NSID, AUD), found)
    assert scopes == [
        "repo?collection=pub.leaflet.a&collection=pub.leaflet.b",
        "rpc:pub.leaflet.get?aud=did:web:leaflet.pub%23api",
    ]
    assert ScopeSet(scopes).allows_repo("pub.leaflet.a", "delete")
    assert ScopeSet(scopes).allows_rpc("pub.leaflet.get", AUD)


def test_title_and_detail_are_kept_short():
    found = parse_set(NSID, lexicon(title="Leaflet", detail="x" * 1000))
    assert (found.title, len(found.detail)) == ("Leaflet", 300)
    assert parse_set(NSID, lexicon(title=5)).title == ""


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, {"lexicon": 2, "id": NSID}, {**lexicon(), "id": "pub.leaflet.other"}, {**lexicon(), "defs": []},
        {**lexicon(), "defs": {"main": {"type": "record"}}}, lexicon(permissions="all"),
        lexicon(permissions=[{}] * 201),
    ],
)  # fmt: skip
def test_another_document_is_refused(document):
    with pytest.raises(BadData):
        parse_set(NSID, document)
