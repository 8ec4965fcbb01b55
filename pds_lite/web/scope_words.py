"""Scopes in plain words: what an app asks for, as its owner would say it. For the consent and the account page.

One item for each scope text, since that is what can be ticked. The technical term stands beside the words, because
the owner meets it elsewhere. A wrong word here misleads somebody into giving something away: prefer the wider one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pds_lite.atproto.oauth_scope import (
    CHAT,
    EMAIL,
    GENERIC,
    Account,
    Blob,
    Identity,
    Include,
    Permission,
    Repo,
    Rpc,
    parse_permission,
)
from pds_lite.atproto.permission_set import PermissionSet, expand

SEE, WRITE, MANAGE = "See", "Write", "Manage"
GROUPS = (SEE, WRITE, MANAGE)

_COLLECTIONS = {
    "app.bsky.actor.profile": "your profile",
    "app.bsky.feed.post": "your posts",
    "app.bsky.feed.like": "your likes",
    "app.bsky.feed.repost": "your reposts",
    "app.bsky.feed.threadgate": "who may reply to your posts",
    "app.bsky.feed.postgate": "who may quote your posts",
    "app.bsky.feed.generator": "your feeds",
    "app.bsky.graph.follow": "whom you follow",
    "app.bsky.graph.block": "whom you block",
    "app.bsky.graph.list": "your lists",
    "app.bsky.graph.listitem": "who is on your lists",
    "app.bsky.graph.listblock": "the lists you block",
    "app.bsky.graph.starterpack": "your starter packs",
}
_ACTIONS = {"create": "add to", "update": "change", "delete": "delete from"}
_STATIC = {
    GENERIC: (
        WRITE,
        "Do nearly everything you can do: add, change and delete all your records, upload files, and use other "
        "services in your name. Not your direct messages, not your account settings.",
    ),
    CHAT: (WRITE, "Read, send and delete your direct messages."),
    EMAIL: (SEE, "See your e-mail address."),
}
_ACCOUNT = {
    ("email", "read"): (SEE, "See your e-mail address."),
    ("email", "manage"): (MANAGE, "See and change your e-mail address."),
    ("repo", "read"): (SEE, "See how your data is kept."),
    ("repo", "manage"): (MANAGE, "Replace all your records by importing others."),
    ("status", "read"): (SEE, "See whether your account is active."),
    ("status", "manage"): (MANAGE, "Deactivate your account."),
}
_FILES = {"image/*": "pictures", "video/*": "videos", "audio/*": "sound files", "text/*": "texts"}
_MAX_DETAILS = 40


@dataclass(frozen=True, slots=True)
class Item:
    """One scope in words. `details` explain it line by line; `grave` ones deserve a warning."""

    scope: str
    group: str
    words: str
    details: tuple[str, ...] = ()
    grave: bool = False


def describe(scopes: Iterable[str], sets: Mapping[str, PermissionSet]) -> list[Item]:
    """The items of `scopes`, without `atproto` itself; `sets` are the permission sets they include, by name."""
    items = []
    for scope in scopes:
        if scope in _STATIC:
            group, words = _STATIC[scope]
            items.append(Item(scope, group, words, grave=scope in (GENERIC, CHAT)))
            continue
        permission = parse_permission(scope)
        if isinstance(permission, Include):
            items.append(_describe_set(scope, permission, sets.get(permission.nsid)))
        elif permission is not None:
            group, words = _words(permission)
            items.append(Item(scope, group, words, grave=_is_grave(permission)))
    return items


def _describe_set(scope: str, include: Include, permission_set: PermissionSet | None) -> Item:
    authority = ".".join(reversed(include.nsid.split(".")[:-1]))
    if permission_set is None:
        return Item(scope, WRITE, f"A set of permissions published by {authority}.")
    granted = [_words(permission)[1] for permission in expand(include, permission_set)]
    title = permission_set.title or include.nsid
    words = f"“{title}”, a set of permissions published by {authority}."
    more = [f"and {len(granted) - _MAX_DETAILS} more"] if len(granted) > _MAX_DETAILS else []
    return Item(scope, WRITE, words, (*granted[:_MAX_DETAILS], *more))


def _words(permission: Permission) -> tuple[str, str]:
    match permission:
        case Repo():
            return WRITE, _repo_words(permission)
        case Rpc():
            return SEE, _rpc_words(permission)
        case Blob():
            return WRITE, _blob_words(permission)
        case Account():
            return _ACCOUNT[permission.attr, "manage" if "manage" in permission.actions else "read"]
        case Identity(attr="handle"):
            return MANAGE, "Change your handle: the name under which people find you."
        case Identity():
            return MANAGE, "Change your whole identity: your name, your host, and who controls your account."
    return WRITE, "A set of permissions."


def _repo_words(permission: Repo) -> str:
    if permission.actions == {"create", "update", "delete"}:
        verb = "Add, change and delete"
        what = "any of your records" if "*" in permission.collections else _names(permission.collections)
        return f"{verb}: {what}."
    verbs = " and ".join(_ACTIONS[action] for action in _ACTIONS if action in permission.actions).capitalize()
    what = "any of your records" if "*" in permission.collections else _names(permission.collections)
    return f"{verbs}: {what}."


def _names(collections: Iterable[str]) -> str:
    return ", ".join(
        f"{_COLLECTIONS[name]} ({name})" if name in _COLLECTIONS else f"records of the kind {name}"
        for name in sorted(collections)
    )


def _rpc_words(permission: Rpc) -> str:
    what = "anything" if "*" in permission.methods else ", ".join(sorted(permission.methods))
    where = "any service" if permission.aud == "*" else _service(permission.aud)
    return f"Ask {where} in your name for: {what}."


def _service(aud: str) -> str:
    did = aud.partition("#")[0]
    return did.removeprefix("did:web:") if did.startswith("did:web:") else did


def _blob_words(permission: Blob) -> str:
    if "*/*" in permission.accept:
        return "Upload files of any kind."
    kinds = [_FILES.get(pattern, pattern) for pattern in sorted(permission.accept)]
    return f"Upload {', '.join(kinds)}."


def _is_grave(permission: Permission) -> bool:
    """What can do harm that is hard to undo."""
    match permission:
        case Repo():
            return "*" in permission.collections and "delete" in permission.actions
        case Identity():
            return True
        case Account():
            return "manage" in permission.actions
    return False
