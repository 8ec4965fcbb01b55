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
        ("repo:com.example.thing?action=create", "Write", "Add to: records of the kind com.example.thing"),
        ("repo:*?action=delete", "Write", "Delete from: any of your records"),
        ("rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23x", "See", "Ask api.bsky.app in your name"),
        ("rpc:app.bsky.feed.getTimeline?aud=*", "See", "any service"),
        ("rpc:*?aud=did:plc:ewvi7nxzyoun6zhxrhs64oiz%23x", "See", "anything"),
        ("blob:image/*", "Write", "Upload pictures."),
        ("blob?accept=video/mp4&accept=image/*", "Write", "Upload pictures, video/mp4."),
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
    }  # fmt: skip


def test_a_set_is_told_by_its_authority_and_line_by_line():
    (item,) = describe(["include:pub.leaflet.authFull"], {"pub.leaflet.authFull": SET})
    assert "published by leaflet.pub" in item.words
    assert item.details == ("Add, change and delete: records of the kind pub.leaflet.document.",)
    (unknown,) = describe(["include:pub.leaflet.authFull"], {})
    assert "leaflet.pub" in unknown.words
