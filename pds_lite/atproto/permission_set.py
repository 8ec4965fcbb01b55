"""Permission sets (specs/permission): lexicons that name a bundle of permissions, asked for as `include:nsid?aud=...`.

Rules: a set may hold repo and rpc permissions only, and only for NSIDs in its own group, so that an authority can
never give away what is not its own; rpc audiences are `*` or inherited from the `include:` scope. An entry that breaks
a rule, or holds a field not known here, grants nothing; the rest of its set does. Fetching sets is services/oauth's
business.
"""

from dataclasses import dataclass
from typing import Any

from pds_lite.atproto.oauth_scope import Include, Parameters, Repo, Rpc, build_repo, build_rpc, format_permission
from pds_lite.errors import BadData

MAX_ENTRIES = 200
MAX_NAMES = 500
"""NSIDs in one entry."""
MAX_TEXT = 300
"""Characters of a title or detail that are kept."""


@dataclass(frozen=True, slots=True)
class PermissionSet:
    """A set as its authority published it; `entries` are unjudged."""

    nsid: str
    title: str
    detail: str
    entries: tuple[dict[str, Any], ...]


def parse_set(nsid: str, document: object) -> PermissionSet:
    """The set in a lexicon document (JSON, or the record that holds it). Raises BadData if it is none."""
    if not isinstance(document, dict) or document.get("id") != nsid or document.get("lexicon") != 1:
        raise BadData(f"this is not the lexicon {nsid}")
    defs = document.get("defs")
    main = defs.get("main") if isinstance(defs, dict) else None
    if not isinstance(main, dict) or main.get("type") != "permission-set":
        raise BadData(f"the lexicon {nsid} is not a permission set")
    entries = main.get("permissions")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise BadData(f"the permission set {nsid} has no list of permissions, or too long a one")
    kept = tuple(entry for entry in entries if isinstance(entry, dict))
    return PermissionSet(nsid, _text(main.get("title")), _text(main.get("detail")), kept)


def expand(include: Include, permission_set: PermissionSet) -> list[Repo | Rpc]:
    """What the set grants when asked for by `include`."""
    found = []
    for entry in permission_set.entries:
        permission = _permission(entry, include.aud)
        if permission is not None and _is_own(permission, permission_set.nsid):
            found.append(permission)
    return found


def expand_scopes(include: Include, permission_set: PermissionSet) -> list[str]:
    """`expand` as scope texts."""
    return [format_permission(permission) for permission in expand(include, permission_set)]


def _permission(entry: dict[str, Any], inherited_aud: str | None) -> Repo | Rpc | None:
    fields = {name: value for name, value in entry.items() if name not in ("type", "resource")}
    if entry.get("type") != "permission":
        return None
    if entry.get("resource") == "repo":
        parameters = _lists(fields)
        return None if parameters is None else build_repo(parameters)
    if entry.get("resource") != "rpc" or fields.get("aud", "*") != "*":
        return None
    if fields.pop("inheritAud", False) is True:
        if inherited_aud is None or "aud" in fields:
            return None
        fields["aud"] = inherited_aud
    parameters = _lists(fields)
    return None if parameters is None else build_rpc(parameters)


def _lists(fields: dict[str, Any]) -> Parameters | None:
    """Every value as a list of texts, None if one is something else."""
    lists = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    for value in lists.values():
        if not isinstance(value, list) or len(value) > MAX_NAMES or not all(isinstance(text, str) for text in value):
            return None
    return lists


def _is_own(permission: Repo | Rpc, nsid: str) -> bool:
    group = nsid[: nsid.rindex(".") + 1]
    names = permission.collections if isinstance(permission, Repo) else permission.methods
    return all(name.startswith(group) for name in names)


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
