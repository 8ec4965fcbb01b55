"""OAuth scopes of atproto (specs/permission): what a text such as `repo:app.bsky.feed.post?action=create` allows.

Grammar: `resource[:positional][?name=value&...]`. Values are percent-decoded; a repeated name makes a list; the one
parameter that may stand in front, the positional, must not come again by name. A scope that breaks a rule, or names a
resource or parameter not known here, is `None` and grants nothing: a later version of the protocol may know it.

`ScopeSet` answers what a list of scopes allows. It knows no method, no session and no error.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote, unquote

from pds_lite.atproto.syntax import is_account_did, is_nsid

ATPROTO = "atproto"
GENERIC = "transition:generic"
EMAIL = "transition:email"
CHAT = "transition:chat.bsky"
STATIC = frozenset({ATPROTO, GENERIC, EMAIL, CHAT})

REPO_ACTIONS = ("create", "update", "delete")
ACCOUNT_ATTRIBUTES = frozenset({"email", "repo", "status"})
_SAFE = ":/+,@*"
"""What stays as it is when a scope is written: no separator of the grammar."""
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Repo:
    """Write records of these collections ("*" for any)."""

    collections: frozenset[str]
    actions: frozenset[str]

    def allows(self, collection: str, action: str) -> bool:
        return action in self.actions and (collection in self.collections or "*" in self.collections)


@dataclass(frozen=True, slots=True)
class Rpc:
    """Call these methods ("*" for any) of the service `aud` (`did#service`, or "*" for any)."""

    methods: frozenset[str]
    aud: str

    def allows(self, lxm: str, aud: str) -> bool:
        return self.aud in ("*", aud) and (lxm in self.methods or "*" in self.methods)


@dataclass(frozen=True, slots=True)
class Blob:
    """Upload files of these media types: `image/png`, `image/*` or `*/*`."""

    accept: tuple[str, ...]

    def allows(self, mime_type: str) -> bool:
        return _is_media_type(mime_type) and any(_accepts(pattern, mime_type.lower()) for pattern in self.accept)


@dataclass(frozen=True, slots=True)
class Account:
    """Read or manage an attribute of the account: email, repo or status."""

    attr: str
    actions: frozenset[str]

    def allows(self, attr: str, action: str) -> bool:
        return attr == self.attr and (action in self.actions or "manage" in self.actions)


@dataclass(frozen=True, slots=True)
class Identity:
    """Change the handle, or with "*" anything in the identity."""

    attr: str

    def allows(self, attr: str) -> bool:
        return self.attr in ("*", attr)


@dataclass(frozen=True, slots=True)
class Include:
    """What the permission set `nsid` lists, for services at `aud` where it inherits one (permission_set.expand)."""

    nsid: str
    aud: str | None


Permission: TypeAlias = Repo | Rpc | Blob | Account | Identity | Include
Parameters: TypeAlias = Mapping[str, Sequence[str]]


@lru_cache(maxsize=256)
def parse_permission(text: str) -> Permission | None:
    """The permission a granular scope stands for; None for static scopes and for all that is not understood."""
    taken = _take_apart(text)
    if taken is None or taken[0] not in _BUILD:
        return None
    resource, positional, named = taken
    first, build = _BUILD[resource]
    if positional is not None:
        if first in named:
            return None
        named = {**named, first: [positional]}
    return build(named)


def is_known(text: str) -> bool:
    """True for a scope that this server understands."""
    return text in STATIC or parse_permission(text) is not None


def build_repo(parameters: Parameters) -> Repo | None:
    """The permission of `collection` and `action` lists; also used for entries of permission sets."""
    collections, actions = parameters.get("collection", ()), parameters.get("action", REPO_ACTIONS)
    if not collections or not actions or parameters.keys() - {"collection", "action"}:
        return None
    if not all(name == "*" or is_nsid(name) for name in collections) or set(actions) - set(REPO_ACTIONS):
        return None
    return Repo(frozenset(collections), frozenset(actions))


def build_rpc(parameters: Parameters) -> Rpc | None:
    """The permission of an `lxm` list and one `aud`; also used for entries of permission sets."""
    methods, aud = parameters.get("lxm", ()), _single(parameters, "aud")
    if not methods or aud is None or parameters.keys() - {"lxm", "aud"}:
        return None
    if not all(name == "*" or is_nsid(name) for name in methods) or not (aud == "*" or is_service(aud)):
        return None
    if aud == "*" and "*" in methods:
        return None  # everything everywhere is not on offer
    return Rpc(frozenset(methods), aud)


def is_service(aud: str) -> bool:
    """True for `did#service`, the DID being one that can be resolved."""
    did, _, fragment = aud.partition("#")
    well_formed = bool(fragment) and fragment.isascii() and all(char.isalnum() or char in "-._~" for char in fragment)
    return well_formed and is_account_did(did, dev=True)


class ScopeSet:
    """The scopes of one grant. Immutable. `include:` scopes allow nothing until they are expanded."""

    __slots__ = ("_account", "_blob", "_identity", "_repo", "_rpc", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts: tuple[str, ...] = tuple(dict.fromkeys(texts))
        """Each scope once, in order."""
        permissions = [parse_permission(text) for text in self.texts]
        self._repo = tuple(each for each in permissions if isinstance(each, Repo))
        self._rpc = tuple(each for each in permissions if isinstance(each, Rpc))
        self._blob = tuple(each for each in permissions if isinstance(each, Blob))
        self._account = tuple(each for each in permissions if isinstance(each, Account))
        self._identity = tuple(each for each in permissions if isinstance(each, Identity))

    @classmethod
    def parse(cls, text: str) -> "ScopeSet":
        """From a space-separated scope parameter."""
        return cls(part for part in text.split(" ") if part)

    def __str__(self) -> str:
        return " ".join(self.texts)

    def __repr__(self) -> str:
        return f"ScopeSet({str(self)!r})"

    def __contains__(self, text: object) -> bool:
        return text in self.texts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScopeSet) and set(self.texts) == set(other.texts)

    def __hash__(self) -> int:
        return hash(frozenset(self.texts))

    def known(self) -> "ScopeSet":
        """Without the scopes that are not understood."""
        return ScopeSet(text for text in self.texts if is_known(text))

    def includes(self) -> list[Include]:
        """The permission sets asked for."""
        return [each for each in map(parse_permission, self.texts) if isinstance(each, Include)]

    def allows_repo(self, collection: str, action: str) -> bool:
        """`action` is create, update or delete."""
        return GENERIC in self.texts or any(each.allows(collection, action) for each in self._repo)

    def allows_rpc(self, lxm: str, aud: str) -> bool:
        """`lxm` "*" asks for a token that names no method. `aud` is `did#service`; a bare DID passes only for "*"."""
        if lxm.lower().startswith("chat.bsky."):  # the domain of an NSID reads the same in any case
            whole = CHAT in self.texts
        else:
            whole = GENERIC in self.texts
        return whole or any(each.allows(lxm, aud) for each in self._rpc)

    def allows_blob(self, mime_type: str) -> bool:
        """Upload a file of this media type."""
        return GENERIC in self.texts or any(each.allows(mime_type) for each in self._blob)

    def allows_account(self, attr: str, action: str) -> bool:
        """`action` is read or manage; who may manage may read."""
        if (attr, action) == ("email", "read") and EMAIL in self.texts:
            return True
        return any(each.allows(attr, action) for each in self._account)

    def allows_identity(self, attr: str) -> bool:
        """`attr` is handle or "*"."""
        return any(each.allows(attr) for each in self._identity)


def needed_repo(collection: str, action: str) -> str:
    """The least scope that allows this write: for error messages, as all of these."""
    return f"repo:{collection}?action={action}"


def needed_rpc(lxm: str, aud: str) -> str:
    """The least scope that allows this call."""
    return f"rpc:{lxm}?aud={quote(aud, safe=_SAFE)}"


def needed_blob(mime_type: str) -> str:
    """The least scope that allows this upload."""
    return f"blob:{quote(mime_type, safe=_SAFE)}"


def format_permission(permission: Repo | Rpc) -> str:
    """The scope text of a permission, in one canonical order: how an expanded permission set enters a token."""
    if isinstance(permission, Rpc):
        lead, named = _lead(permission.methods)
        return _joined("rpc" + lead, [*(("lxm", name) for name in named), ("aud", permission.aud)])
    lead, named = _lead(permission.collections)
    pairs = [("collection", name) for name in named]
    if permission.actions != frozenset(REPO_ACTIONS):
        pairs += [("action", action) for action in REPO_ACTIONS if action in permission.actions]
    return _joined("repo" + lead, pairs)


def _lead(names: frozenset[str]) -> tuple[str, list[str]]:
    """A single name goes in front, several go by name."""
    ordered = ["*"] if "*" in names else sorted(names)
    return (f":{ordered[0]}", []) if len(ordered) == 1 else ("", ordered)


def _joined(head: str, pairs: list[tuple[str, str]]) -> str:
    query = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in pairs)
    return f"{head}?{query}" if query else head


def _take_apart(text: str) -> tuple[str, str | None, dict[str, list[str]]] | None:
    """(resource, positional, named values) of a scope; None if its escapes are broken."""
    head, mark, query = text.partition("?")
    resource, colon, positional = head.partition(":")
    named: dict[str, list[str]] = {}
    try:
        if mark and query:
            for part in query.split("&"):
                name, _, value = part.partition("=")
                named.setdefault(_decode(name), []).append(_decode(value))
        return resource, _decode(positional) if colon else None, named
    except ValueError:
        return None


def _decode(text: str) -> str:
    """Percent-decoding. A plus stays one: no value may hold a space, but `image/svg+xml` is a media type."""
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("a percent sign without two digits")
    return unquote(text, errors="strict")


def _single(parameters: Parameters, name: str) -> str | None:
    values = parameters.get(name, ())
    return values[0] if len(values) == 1 else None


def _build_blob(parameters: Parameters) -> Blob | None:
    accept = parameters.get("accept", ())
    if not accept or parameters.keys() - {"accept"} or not all(_is_accept(pattern) for pattern in accept):
        return None
    return Blob(tuple(pattern.lower() for pattern in accept))


def _build_account(parameters: Parameters) -> Account | None:
    attr, actions = _single(parameters, "attr"), parameters.get("action", ("read",))
    if attr not in ACCOUNT_ATTRIBUTES or not actions or parameters.keys() - {"attr", "action"}:
        return None
    return None if set(actions) - {"read", "manage"} else Account(attr, frozenset(actions))


def _build_identity(parameters: Parameters) -> Identity | None:
    attr = _single(parameters, "attr")
    return Identity(attr) if attr in ("handle", "*") and len(parameters) == 1 else None


def _build_include(parameters: Parameters) -> Include | None:
    nsid, aud = _single(parameters, "nsid"), _single(parameters, "aud")
    if nsid is None or not is_nsid(nsid) or parameters.keys() - {"nsid", "aud"}:
        return None
    if "aud" in parameters and (aud is None or not is_service(aud)):
        return None
    return Include(nsid, aud)


_BUILD: dict[str, tuple[str, Callable[[Parameters], Permission | None]]] = {
    "repo": ("collection", build_repo),
    "rpc": ("lxm", build_rpc),
    "blob": ("accept", _build_blob),
    "account": ("attr", _build_account),
    "identity": ("attr", _build_identity),
    "include": ("nsid", _build_include),
}
"""Resource -> its positional parameter, and what makes the permission of its parameters."""


def _is_media_type(text: str) -> bool:
    kind, slash, subtype = text.partition("/")
    return bool(kind and slash and subtype) and "/" not in subtype and " " not in text and "*" not in text


def _is_accept(pattern: str) -> bool:
    if pattern == "*/*":
        return True
    return _is_media_type(pattern[:-1] + "x" if pattern.endswith("/*") else pattern)


def _accepts(pattern: str, mime_type: str) -> bool:
    if pattern == "*/*":
        return True
    return mime_type.startswith(pattern[:-1]) if pattern.endswith("/*") else mime_type == pattern
