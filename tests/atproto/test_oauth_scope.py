"""Scopes: what each text allows, and that nothing else does. Oracle: @atproto/oauth-scopes (tests/interop)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.oauth_scope import (
    Repo,
    Rpc,
    ScopeSet,
    format_permission,
    is_known,
    needed_blob,
    needed_repo,
    needed_rpc,
    parse_permission,
)

POST, LIKE = "app.bsky.feed.post", "app.bsky.feed.like"
APPVIEW = "did:web:api.bsky.app#bsky_appview"


def allows(text):
    return ScopeSet.parse(text)


def test_a_collection_and_its_actions():
    scope = allows(f"repo:{POST}?action=create&action=delete")
    assert scope.allows_repo(POST, "create")
    assert scope.allows_repo(POST, "delete")
    assert not scope.allows_repo(POST, "update")
    assert not scope.allows_repo(LIKE, "create")
    assert allows(f"repo:{POST}").allows_repo(POST, "update")
    assert allows(f"repo?collection={POST}&collection={LIKE}").allows_repo(LIKE, "create")
    assert allows("repo:*").allows_repo("com.example.any", "delete")
    assert not allows("repo:*?action=create").allows_repo(POST, "update")


def test_a_method_and_its_service():
    scope = allows("rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview")
    assert scope.allows_rpc("app.bsky.feed.getTimeline", APPVIEW)
    assert scope == allows("rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview")
    assert allows(f"rpc:app.bsky.feed.getTimeline?aud={APPVIEW}").allows_rpc("app.bsky.feed.getTimeline", APPVIEW)
    assert not scope.allows_rpc("app.bsky.feed.getTimeline", "did:web:api.bsky.app")
    assert not scope.allows_rpc("app.bsky.feed.getTimeline", "did:web:evil.example#bsky_appview")
    assert not scope.allows_rpc("app.bsky.feed.getFeed", APPVIEW)
    assert allows("rpc:parts.page.mention.search?aud=*").allows_rpc("parts.page.mention.search", "did:web:any.example")
    assert allows(f"rpc:*?aud={APPVIEW}").allows_rpc("app.bsky.feed.getFeed", APPVIEW)
    assert not allows(f"rpc:*?aud={APPVIEW}").allows_rpc("app.bsky.feed.getFeed", "did:web:x.example#y")


def test_blobs_by_media_type():
    assert allows("blob:*/*").allows_blob("application/pdf")
    assert allows("blob:image/*").allows_blob("image/PNG")
    assert not allows("blob:image/*").allows_blob("imagex/png")
    assert not allows("blob:image/*").allows_blob("video/mp4")
    assert allows("blob?accept=image/png&accept=image/svg+xml").allows_blob("image/svg+xml")
    assert allows("blob:image/svg%2Bxml").allows_blob("image/svg+xml")
    assert not allows("blob:*/*").allows_blob("nonsense")
    assert not allows("blob:*/*").allows_blob("*/*")


def test_account_and_identity():
    assert allows("account:email").allows_account("email", "read")
    assert not allows("account:email").allows_account("email", "manage")
    assert allows("account:email?action=manage").allows_account("email", "read")
    assert not allows("account:email?action=manage").allows_account("repo", "read")
    assert allows("account:status?action=manage").allows_account("status", "manage")
    assert allows("identity:handle").allows_identity("handle")
    assert not allows("identity:handle").allows_identity("*")
    assert allows("identity:*").allows_identity("handle")


def test_transition_scopes():
    generic = allows("atproto transition:generic")
    assert generic.allows_repo(POST, "delete")
    assert generic.allows_blob("image/png")
    assert generic.allows_rpc("app.bsky.feed.getTimeline", APPVIEW)
    assert generic.allows_rpc("*", APPVIEW)
    assert not generic.allows_rpc("chat.bsky.convo.listConvos", "did:web:api.bsky.chat#bsky_chat")
    assert not generic.allows_account("email", "read")
    assert not generic.allows_identity("handle")
    assert allows("transition:chat.bsky").allows_rpc("chat.bsky.convo.listConvos", "did:web:api.bsky.chat#bsky_chat")
    assert not allows("transition:chat.bsky").allows_rpc("app.bsky.feed.getTimeline", APPVIEW)
    assert allows("transition:email").allows_account("email", "read")
    assert not allows("transition:email").allows_account("email", "manage")


@pytest.mark.parametrize(
    "text",
    [
        "", "repo", "repo:", "repo?", "repo:not_an_nsid", "repo:app.bsky.*", "repo:app.bsky.feed.post?action=read",
        "repo:app.bsky.feed.post?action=", "repo:app.bsky.feed.post?x=1", "repo:app.bsky.feed.post?collection=a.b.c",
        "repos:app.bsky.feed.post", "Repo:app.bsky.feed.post", "repo:app.bsky.feed.post%", "repo:app.bsky.feed.post%zz",
        "repo:%ff", "rpc:app.bsky.feed.getTimeline", "rpc:*?aud=*", "rpc?lxm=*&lxm=app.bsky.feed.getFeed&aud=*",
        "rpc:app.bsky.feed.getFeed?aud=did:web:api.bsky.app", "rpc:app.bsky.feed.getFeed?aud=a&aud=b",
        "rpc:app.bsky.feed.getFeed?aud=https://x.example%23y", "rpc:app.bsky.feed.getFeed?aud=did:web:x.example%23",
        "rpc:app.bsky.feed.getFeed?aud=did:key:z6Mk%23x", "blob", "blob:", "blob:image", "blob:/png", "blob:image/",
        "blob:*/png", "blob:image/p*", "blob:image/png?accept=a/b", "account", "account:phone",
        "account:email?action=x",
        "account:email?attr=repo", "account?attr=email&attr=repo", "identity", "identity:did", "identity:handle?x=y",
        "include:nope", "include:app.bsky.authFull?aud=*", "include:app.bsky.authFull?aud=did:web:x.example",
        "include?nsid=app.bsky.authFull&nsid=app.bsky.b", "transition:other", "openid", "atproto:x",
        "space:x.y.z?action=a",
    ],
)  # fmt: skip
def test_what_is_not_understood_grants_nothing(text):
    scope = ScopeSet([text])
    assert not is_known(text)
    assert not scope.known().texts
    assert not scope.allows_repo(POST, "create")
    assert not scope.allows_rpc("app.bsky.feed.getFeed", APPVIEW)
    assert not scope.allows_blob("image/png")
    assert not scope.allows_account("email", "read")
    assert not scope.allows_identity("handle")


def test_the_scope_strings_of_known_apps_are_understood():
    leaflet = (
        "atproto transition:email account:email?action=read include:pub.leaflet.authFullPermissions "
        "include:site.standard.authFull include:app.bsky.authCreatePosts "
        "include:app.bsky.authViewAll?aud=did:web:api.bsky.app%23bsky_appview rpc:parts.page.mention.search?aud=* "
        "blob:*/*"
    )
    pdsls = "atproto repo:*?action=create repo:*?action=update repo:*?action=delete blob:*/*"
    fork = "atproto transition:generic transition:email transition:chat.bsky identity:handle account:email?action=manage account:status?action=manage"  # noqa: E501
    for text in (leaflet, pdsls, fork):
        scope = allows(text)
        assert str(scope.known()) == text
    assert [include.nsid for include in allows(leaflet).includes()] == [
        "pub.leaflet.authFullPermissions", "site.standard.authFull", "app.bsky.authCreatePosts", "app.bsky.authViewAll",
    ]  # fmt: skip
    assert allows(leaflet).includes()[-1].aud == APPVIEW


def test_an_include_allows_nothing_by_itself():
    assert not allows("include:app.bsky.authFull").allows_repo(POST, "create")


def test_a_scope_comes_once_and_in_order():
    assert allows("b a  b a").texts == ("b", "a")


NSIDS = st.sampled_from([POST, LIKE, "com.example.thing", "*"])
REPOS = st.builds(
    Repo,
    st.frozensets(NSIDS, min_size=1),
    st.frozensets(st.sampled_from(["create", "update", "delete"]), min_size=1),
)
AUDS = st.sampled_from([APPVIEW, "did:plc:ewvi7nxzyoun6zhxrhs64oiz#svc", "*"])
RPCS = st.builds(Rpc, st.frozensets(NSIDS, min_size=1), AUDS).filter(
    lambda rpc: not (rpc.aud == "*" and "*" in rpc.methods)
)


@given(st.one_of(REPOS, RPCS))
def test_a_written_permission_reads_back_as_what_it_allows(permission):
    read = parse_permission(format_permission(permission))
    assert type(read) is type(permission)
    for name in (POST, LIKE, "com.example.thing", "com.other.thing"):
        for other in ("create", "update", "delete", APPVIEW, "did:web:x.example#y"):
            assert read.allows(name, other) == permission.allows(name, other)


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_breaks_the_parser(text, resource):
    parse_permission(text)
    for known in ("repo", "rpc", "blob", "account", "identity", "include", resource):
        parse_permission(f"{known}:{text}")
        parse_permission(f"{known}?{text}")


@given(st.sampled_from([POST, LIKE]), st.sampled_from(["create", "update", "delete"]))
def test_the_scope_named_as_missing_is_enough(collection, action):
    assert allows(needed_repo(collection, action)).allows_repo(collection, action)
    assert allows(needed_rpc(collection, APPVIEW)).allows_rpc(collection, APPVIEW)
    assert allows(needed_blob("image/svg+xml")).allows_blob("image/svg+xml")
