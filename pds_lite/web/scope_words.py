"""Scopes in plain words: what an app asks for, as its owner would say it. For the consent and the account page.

One item for each scope text, since that is what can be ticked. The technical term stands beside the words, because
the owner meets it elsewhere. A wrong word here misleads somebody into giving something away: prefer the wider one.
"""

from __future__ import annotations

import re
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
    "app.bsky.actor.status": "your live status",
    "app.bsky.feed.post": "your posts",
    "app.bsky.feed.like": "your likes",
    "app.bsky.feed.repost": "your reposts",
    "app.bsky.feed.threadgate": "the rules for who may reply to your posts",
    "app.bsky.feed.postgate": "the rules for who may quote your posts",
    "app.bsky.feed.generator": "your feeds",
    "app.bsky.graph.follow": "the list of whom you follow",
    "app.bsky.graph.block": "the list of whom you block",
    "app.bsky.graph.list": "your lists",
    "app.bsky.graph.listitem": "the members of your lists",
    "app.bsky.graph.listblock": "the lists you block",
    "app.bsky.graph.starterpack": "your starter packs",
    "app.bsky.graph.verification": "whom you vouch for",
}
_EVERYTHING = "anything you publish: posts, likes, follows and all other records"
_METHODS = {
    "app.bsky.actor.getPreferences": "your settings",
    "app.bsky.actor.putPreferences": "change your settings",
    "app.bsky.bookmark.getBookmarks": "your bookmarks",
    "app.bsky.feed.getTimeline": "your timeline",
    "app.bsky.notification.listNotifications": "your notifications",
    "com.atproto.moderation.createReport": "report others",
}
_READING = re.compile(r"(get|list|search|describe|resolve|query|check|count)([A-Z]|$)")
"""How the names of methods begin that only read, as everybody names them."""
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
    authority = _authority(include.nsid)
    if permission_set is None:
        return Item(scope, WRITE, f"A set of permissions published by {authority} ({include.nsid}).")
    granted = [_words(permission) for permission in expand(include, permission_set)]
    group = max((group for group, _ in granted), key=GROUPS.index, default=SEE)
    words = f"A set of permissions published by {authority}, which calls it “{permission_set.title or include.nsid}”."
    if not granted:
        return Item(scope, group, f"{words} It allows nothing here.")
    said = [f"In the words of {authority}: “{permission_set.detail}”"] if permission_set.detail else []
    lines = [line for _, line in granted]
    more = [f"And {len(lines) - _MAX_DETAILS} more."] if len(lines) > _MAX_DETAILS else []
    return Item(scope, group, words, (*said, *lines[:_MAX_DETAILS], *more))


def _words(permission: Permission) -> tuple[str, str]:
    match permission:
        case Repo():
            return WRITE, _repo_words(permission)
        case Rpc():
            return _rpc_words(permission)
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
    what = _EVERYTHING if "*" in permission.collections else _joined(_collection_words(permission.collections))
    if permission.actions == {"create", "update", "delete"}:
        return f"Add, change and delete {what}."
    verbs = _joined([_ACTIONS[action] for action in _ACTIONS if action in permission.actions])
    return f"{verbs.capitalize()} {what}."


def _collection_words(collections: Iterable[str]) -> list[str]:
    """Known kinds of records by their names, others by who defines them."""
    found, others = [], dict[str, list[str]]()
    for name in sorted(collections):
        if name in _COLLECTIONS:
            found.append(f"{_COLLECTIONS[name]} ({name})")
        else:
            others.setdefault(_authority(name), []).append(name)
    return found + [f"what {authority} keeps with you ({', '.join(names)})" for authority, names in others.items()]


def _rpc_words(permission: Rpc) -> tuple[str, str]:
    where = "any service" if permission.aud == "*" else _service(permission.aud)
    if "*" in permission.methods:
        return WRITE, f"Do anything at {where} in your name."
    methods = sorted(permission.methods)
    what = ", ".join(f"{_METHODS[name]} ({name})" if name in _METHODS else name for name in methods)
    if any(_is_chat(name) for name in methods):
        return WRITE, f"Use your direct messages at {where}: {what}."
    if all(_READING.match(name.rpartition(".")[2]) for name in methods):
        return SEE, f"See what {where} shows to you alone: {what}."
    return WRITE, f"Act at {where} in your name: {what}."


def _is_chat(method: str) -> bool:
    return method.lower().startswith("chat.bsky.")


def _service(aud: str) -> str:
    did = aud.partition("#")[0]
    return did.removeprefix("did:web:") if did.startswith("did:web:") else did


def _authority(nsid: str) -> str:
    """The domain whose owner defines a name."""
    return ".".join(reversed(nsid.split(".")[:-1]))


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _blob_words(permission: Blob) -> str:
    if "*/*" in permission.accept:
        return "Upload files of any kind."
    kinds = [_FILES.get(pattern, f"files of the kind {pattern}") for pattern in sorted(permission.accept)]
    return f"Upload {_joined(kinds)}."


def _is_grave(permission: Permission) -> bool:
    """What can do harm that is hard to undo."""
    match permission:
        case Repo():
            return "*" in permission.collections and "delete" in permission.actions
        case Rpc():
            return "*" in permission.methods or any(_is_chat(name) for name in permission.methods)
        case Identity():
            return True
        case Account():
            return "manage" in permission.actions
    return False
