"""Scopes in words: each scope is told, by a sentence that says no less than it allows."""

import pytest

from pds_lite.atproto.permission_set import parse_set
from pds_lite.web.scope_words import GROUPS, describe
from tests.web.test_oauth import KINDS

SET = parse_set(
    "pub.leaflet.authFull",
    {
        "lexicon": 1,
        "id": "pub.leaflet.authFull",
        "defs": {
            "main": {
                "type": "permission-set",
                "title": "Everything",
                "permissions": [{"type": "permission", "resource": "repo", "collection": ["pub.leaflet.document"]}],
            }
        },
    },
)


@pytest.mark.parametrize("scopes", KINDS.values())
def test_every_kind_of_scope_has_words(scopes):
    asked = [scope for scope in scopes.split(" ") if scope != "atproto"]
    items = describe(scopes.split(" "), {})
    assert [item.scope for item in items] == asked
    assert all(item.words.endswith(".") and item.group in GROUPS for item in items)


@pytest.mark.parametrize(
    ("scope", "group", "part"),
    [
        ("repo:app.bsky.feed.post", "Write", "your posts (app.bsky.feed.post)"),
        (
            "repo:com.example.thing?action=create",
            "Write",
            "Add to what example.com keeps with you (com.example.thing).",
        ),
        ("repo:*?action=delete", "Write", "Delete from anything you publish: posts"),
        (
            "rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23x",
            "See",
            "See what api.bsky.app shows to you alone",
        ),
        ("rpc:app.bsky.feed.getTimeline?aud=*", "See", "any service"),
        ("rpc:app.bsky.graph.muteActor?aud=*", "Write", "Act at any service in your name: app.bsky.graph.muteActor."),
        ("rpc?lxm=app.bsky.feed.getFeed&lxm=app.bsky.graph.muteActor&aud=*", "Write", "Act at any service"),
        ("rpc:com.example.gettysburg?aud=*", "Write", "Act at any service"),
        ("rpc:chat.bsky.convo.getLog?aud=did:web:api.bsky.chat%23x", "Write", "direct messages at api.bsky.chat"),
        ("rpc:*?aud=did:plc:ewvi7nxzyoun6zhxrhs64oiz%23x", "Write", "Do anything at did:plc:ewvi"),
        (
            "repo?collection=app.bsky.feed.post&collection=app.bsky.feed.like&action=create",
            "Write",
            "your likes (app.bsky.feed.like) and your posts (app.bsky.feed.post).",
        ),
        ("blob:image/*", "Write", "Upload pictures."),
        ("blob?accept=video/mp4&accept=image/*", "Write", "Upload pictures and files of the kind video/mp4."),
        ("account:email", "See", "See your e-mail"),
        ("account:email?action=manage", "Manage", "change your e-mail"),
        ("identity:handle", "Manage", "handle"),
        ("identity:*", "Manage", "who controls your account"),
        ("transition:chat.bsky", "Write", "direct messages"),
    ],
)
def test_the_words_say_what_is_allowed(scope, group, part):
    (item,) = describe([scope], {})
    assert item.group == group
    assert part in item.words


def test_what_can_do_lasting_harm_is_marked():
    grave = {item.scope for item in describe(" ".join(KINDS.values()).split(" "), {}) if item.grave}
    assert grave == {
        "transition:generic", "transition:chat.bsky", "repo:*", "account:email?action=manage",
        "account:repo?action=manage", "account:status?action=manage", "identity:handle", "identity:*",
        "rpc:*?aud=did:web:api.bsky.app%23bsky_appview",
    }  # fmt: skip


def test_a_set_is_told_by_its_authority_and_line_by_line():
    (item,) = describe(["include:pub.leaflet.authFull"], {"pub.leaflet.authFull": SET})
    assert "published by leaflet.pub" in item.words
    assert item.details == ("Add, change and delete what leaflet.pub keeps with you (pub.leaflet.document).",)
    (unknown,) = describe(["include:pub.leaflet.authFull"], {})
    assert "leaflet.pub" in unknown.words


def test_a_set_says_whose_words_it_uses_and_stands_where_its_widest_permission_does():
    main = {
        "type": "permission-set",
        "title": "Just looking",
        "detail": "Nothing to worry about.",
        "permissions": [
            {"type": "permission", "resource": "rpc", "aud": "*", "lxm": ["pub.leaflet.getDraft"]},
            {"type": "permission", "resource": "rpc", "aud": "*", "lxm": ["pub.leaflet.publish"]},
        ],
    }
    document = {"lexicon": 1, "id": "pub.leaflet.authSome", "defs": {"main": main}}
    scope = "include:pub.leaflet.authSome"
    (item,) = describe([scope], {"pub.leaflet.authSome": parse_set("pub.leaflet.authSome", document)})
    assert "published by leaflet.pub, which calls it “Just looking”" in item.words
    assert item.details[0] == "In the words of leaflet.pub: “Nothing to worry about.”"
    assert item.group == "Write"
    main["permissions"].pop()
    (item,) = describe([scope], {"pub.leaflet.authSome": parse_set("pub.leaflet.authSome", document)})
    assert item.group == "See"
    main["permissions"].clear()
    (item,) = describe([scope], {"pub.leaflet.authSome": parse_set("pub.leaflet.authSome", document)})
    assert item.words.endswith("It allows nothing here.")
