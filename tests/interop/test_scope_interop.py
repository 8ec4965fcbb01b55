"""Scopes beside npm @atproto/oauth-scopes: the same are understood, and they allow the same."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from pds_lite.atproto.oauth_scope import Include, ScopeSet, is_known, parse_permission
from pds_lite.atproto.permission_set import expand_scopes, parse_set

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).resolve().parent / "scope_oracle.mjs"
NSIDS = ["app.bsky.feed.post", "app.bsky.feed.like", "pub.leaflet.document", "chat.bsky.convo.getLog", "*"]
AUDS = ["did:web:api.bsky.app#bsky_appview", "did:web:api.bsky.app", "did:plc:ewvi7nxzyoun6zhxrhs64oiz#x", "*"]
QUESTIONS = [
    *(
        ["repo", {"collection": nsid, "action": action}]
        for nsid in NSIDS[:4]
        for action in ("create", "update", "delete")
    ),
    *(["rpc", {"lxm": lxm, "aud": aud}] for lxm in NSIDS for aud in AUDS[:3]),
    *(["blob", {"mime": mime}] for mime in ("image/png", "video/mp4", "image/svg+xml", "nonsense")),
    *(
        ["account", {"attr": attr, "action": action}]
        for attr in ("email", "repo", "status")
        for action in ("read", "manage")
    ),
    *(["identity", {"attr": attr}] for attr in ("handle", "*")),
]


def quoted(text, dice):
    escapes = {"#": "%23", ":": "%3A", "/": "%2F"}
    return "".join(escapes[char] if char in escapes and dice.random() < 0.3 else char for char in text)


def make_scope(dice):
    resource = dice.choice(
        ["repo", "rpc", "blob", "account", "identity", "include", "transition", "other", "repository"]
    )
    values = [*NSIDS, *AUDS, "image/*", "*/*", "image/png", "email", "repo", "status", "handle", "generic",
              "chat.bsky", "create", "update", "read", "manage", "", "x y", "Åse", "email?", "a.b", "%zz",
              "%41pp.bsky.feed.post"]  # fmt: skip
    names = ["collection", "action", "lxm", "aud", "accept", "attr", "nsid", "x", ""]
    text = resource
    if dice.random() < 0.8:
        text += ":" + quoted(dice.choice(values), dice).replace("#", "%23")
    parts = [
        f"{dice.choice(names)}={quoted(dice.choice(values), dice).replace('#', '%23')}"
        for _ in range(dice.choice([0, 0, 1, 1, 2, 3]))
    ]
    return text + ("?" + "&".join(parts) if parts else "")


FIXED = [
    "atproto", "transition:generic", "transition:email", "transition:chat.bsky", "transition:other", "openid",
    *(f"repo:{nsid}" for nsid in NSIDS), "repo:*?action=create", "repo?collection=app.bsky.feed.post&action=delete",
    *(f"rpc:{lxm}?aud={aud.replace('#', '%23')}" for lxm in NSIDS for aud in AUDS),
    "rpc?lxm=app.bsky.feed.post&lxm=app.bsky.feed.like&aud=*", "blob:*/*", "blob:image/*",
    "blob?accept=image/png&accept=video/*",
    *(f"account:{attr}?action={action}" for attr in ("email", "repo", "x") for action in ("read", "manage", "x")),
    "account:email", "identity:handle", "identity:*", "identity:did", "include:pub.leaflet.authFull",
    "include:pub.leaflet.authFull?aud=did:web:api.bsky.app%23bsky_appview", "include:pub.leaflet.authFull?aud=*",
]  # fmt: skip

ENTRIES = [
    {"resource": "repo", "collection": ["pub.leaflet.document"]},
    {"resource": "repo", "collection": ["pub.leaflet.document", "pub.leaflet.b"], "action": ["update", "create"]},
    {"resource": "repo", "collection": ["app.bsky.feed.post"]},
    {"resource": "repo", "collection": ["*"]},
    {"resource": "rpc", "lxm": ["pub.leaflet.b", "pub.leaflet.a"], "aud": "*"},
    {"resource": "rpc", "lxm": ["pub.leaflet.a"], "inheritAud": True},
    {"resource": "rpc", "lxm": ["pub.leaflet.a"], "aud": "did:web:x.example#y"},
    {"resource": "rpc", "lxm": ["*"], "aud": "*"},
    {"resource": "blob", "accept": ["*/*"]},
]


def ours(scope, question):
    resource, options = question
    scopes = ScopeSet(["atproto", scope])
    match resource:
        case "repo":
            return scopes.allows_repo(options["collection"], options["action"])
        case "rpc":
            return scopes.allows_rpc(options["lxm"], options["aud"])
        case "blob":
            return scopes.allows_blob(options["mime"])
        case "account":
            return scopes.allows_account(options["attr"], options["action"])
    return scopes.allows_identity(options["attr"])


def test_the_same_scopes_are_understood_and_allow_the_same(reference_node):
    node, ref_dir = reference_node
    seed = random.randrange(1 << 31)
    print(f"SEED={seed}")
    dice = random.Random(seed)
    scopes = FIXED + [make_scope(dice) for _ in range(3000)]
    include = "include:pub.leaflet.authFull?aud=did:web:api.bsky.app%23bsky_appview"
    document = {
        "lexicon": 1,
        "id": "pub.leaflet.authFull",
        "defs": {
            "main": {"type": "permission-set", "permissions": [{"type": "permission", **entry} for entry in ENTRIES]}
        },
    }
    sets = [[text, document["defs"]["main"]] for text in (include, "include:pub.leaflet.authFull")]
    run = subprocess.run(
        [node, str(SCRIPT)],
        input=json.dumps([scopes, QUESTIONS, sets]),
        env={**os.environ, "REF_DIR": str(ref_dir)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    theirs = json.loads(run.stdout)
    differences = [
        (scope, known)
        for scope, known in zip(scopes, theirs["known"], strict=True)
        if is_known(scope) != known and "+" not in scope and "x y" not in scope
    ]
    assert differences == []
    for scope, answers in zip(scopes, theirs["allows"], strict=True):
        for question, allowed in zip(QUESTIONS, answers, strict=True):
            assert ours(scope, question) == allowed, (scope, question)
    for (text, _), expanded in zip(sets, theirs["sets"], strict=True):
        wanted = parse_permission(text)
        assert isinstance(wanted, Include)
        found = expand_scopes(wanted, parse_set("pub.leaflet.authFull", document))
        for scope in (found, expanded):
            assert {str(parse_permission(each)) for each in scope} == {str(parse_permission(each)) for each in expanded}
