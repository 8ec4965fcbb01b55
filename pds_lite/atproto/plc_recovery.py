"""What a rotation key alone can do for a did:plc: change it, and undo what a key of less authority signed.

The owner's recovery key stands first in rotationKeys, so for 72 hours it can take back any operation that the box's
key or a thief of it signed (did-method-plc v0.3, "Key rotation & account recovery"). The plan says which operation the
new one follows and which ones it undoes; signing and publishing are the caller's. Times are seconds since the epoch
and come from the caller, since there is no clock here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pds_lite.atproto import plc
from pds_lite.atproto.plc import RECOVERY_WINDOW_S, Audit, LogEntry, Operation
from pds_lite.errors import BadInput


@dataclass(frozen=True, slots=True)
class Recovery:
    """An operation to sign, and what it does."""

    operation: dict[str, Any]
    """Unsigned."""
    undone: tuple[LogEntry, ...]
    """Operations in force that it takes back, oldest first."""
    before: dict[str, Any]
    """The identity's fields now, as plc_operation."""


def plan_change(audit: Audit, did_key: str, changes: Operation, now: float) -> Recovery:
    """`changes` (fields of a plc_operation) made with the key `did_key`.

    It follows the last operation if that one still lists the key; else the newest one from which the key can take back
    all that came after it. Raises BadInput when there is none.
    """
    position = len(audit.entries)
    if audit.is_tombstoned or did_key not in audit.state["rotationKeys"]:
        position = _newest_undoable(audit, did_key, now)
    return _plan(audit, position, changes)


def plan_undo(audit: Audit, did_key: str, cid: str | None, now: float) -> Recovery:
    """Takes back the operation `cid` (the last one if None) and all after it: the fields become what they were before.

    Raises BadInput with the reason why this key cannot do that, or not any more.
    """
    entries = audit.entries
    position = len(entries) - 1
    if cid is not None:
        position = next((i for i, entry in enumerate(entries) if entry.cid == cid), -1)
    if position < 0:
        raise BadInput(f"no operation in force has the CID {cid}")
    reason = why_not_undoable(audit, position, did_key, now)
    if reason is not None:
        raise BadInput(reason)
    return _plan(audit, position, {})


def why_not_undoable(audit: Audit, position: int, did_key: str, now: float) -> str | None:
    """Why `did_key` cannot take back the operation at `position` of those in force; None if it can."""
    if position == 0:
        return "the first operation of an identity cannot be undone"
    entry, keys = audit.entries[position], _keys_before(audit, position)
    if did_key not in keys:
        return f"{did_key} was no rotation key before {entry.cid}"
    if keys.index(did_key) >= keys.index(entry.signer):
        return f"{entry.cid} was signed by {entry.signer}, which has as much authority as {did_key}, or more"
    if now - entry.created > RECOVERY_WINDOW_S:
        return f"{entry.cid} is older than 72 hours and stands for good"
    return None


def keys_that_undo(audit: Audit, position: int) -> list[str]:
    """The rotation keys with more authority than the one that signed the operation at `position` in force."""
    if position == 0:
        return []
    keys = _keys_before(audit, position)
    return keys[: keys.index(audit.entries[position].signer)]


def differences(before: Operation, after: Operation) -> list[str]:
    """One line for each field that differs between two operations, in words for the owner."""
    if after["type"] == "plc_tombstone":
        return ["the identity is ended (tombstone)"]
    old, new = plc.normalized(before), plc.normalized(after)
    lines = _list_changes("rotation key", old["rotationKeys"], new["rotationKeys"])
    lines += _list_changes("name", old["alsoKnownAs"], new["alsoKnownAs"])
    lines += _map_changes("key", old["verificationMethods"], new["verificationMethods"])
    endpoints = [{name: entry["endpoint"] for name, entry in op["services"].items()} for op in (old, new)]
    return lines + _map_changes("service", endpoints[0], endpoints[1])


def _newest_undoable(audit: Audit, did_key: str, now: float) -> int:
    """The position of the newest operation that the key can take back together with all after it."""
    reason = None
    for position in range(len(audit.entries) - 1, 0, -1):
        reason = why_not_undoable(audit, position, did_key, now)
        if reason is None:
            return position
    raise BadInput(
        f"{did_key} is no rotation key of {audit.did} and cannot undo the operations that removed it"
        + (f": {reason}" if reason else "")
    )


def _plan(audit: Audit, position: int, changes: Operation) -> Recovery:
    """The operation that takes the place of the one at `position` in force."""
    last = audit.entries[position - 1].op
    return Recovery(plc.update(last, changes), audit.entries[position:], audit.state)


def _keys_before(audit: Audit, position: int) -> list[str]:
    keys: list[str] = plc.normalized(audit.entries[position - 1].op)["rotationKeys"]
    return keys


def _list_changes(what: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    lines = [f"- {what} {entry}" for entry in old if entry not in new]
    lines += [f"+ {what} {entry}" for entry in new if entry not in old]
    if not lines and list(old) != list(new):
        lines.append(f"  {what}s in another order: {', '.join(new)}")
    return lines


def _map_changes(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    lines = [f"- {what} {name} {value}" for name, value in old.items() if new.get(name) != value]
    return lines + [f"+ {what} {name} {value}" for name, value in new.items() if old.get(name) != value]
