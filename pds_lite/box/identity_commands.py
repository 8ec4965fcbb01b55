"""What a person at the box may ask about the identity: the commands behind `pds-lite identity` that need the box.

Undo and recover are not here: they take the owner's recovery key, which must not come near the box (cli/identity).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import plc
from pds_lite.atproto.plc import Audit
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.box.control import Channel
from pds_lite.errors import PdsError
from pds_lite.services.commit_clock import iso_time
from pds_lite.services.plc_watch import alarm_view

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

Parameters = Mapping[str, Any]


async def show(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """The identity: keys of the box, what the directory says, alarms."""
    account = services.account.account
    answer: dict[str, Any] = {
        "did": account.did if account else None,
        "handle": account.handle if account else None,
        "published": account is not None and account.plc_op is None,
        "directory": services.identity.plc.url,
        "signing_key": services.keys.signing.did_key,
        "rotation_key": services.keys.rotation.did_key,
        "unfinished_rotation": services.key_rotation.is_unfinished,
        "log": None,
        "problem": None,
    }
    if account is not None and is_plc_did(account.did) and account.plc_op is None:
        try:
            answer["log"] = log_view(await services.plc.audit(account.did))
            await services.plc_watch.check()
        except PdsError as problem:
            answer["problem"] = problem.message
    return {**answer, **watch_view(services)}


async def rotate_key(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """A new signing key."""
    return {"signing_key": await services.key_rotation.rotate()}


async def new_recovery_key(services: Services, parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """A key that the owner holds becomes the identity's first; only its did:key comes here."""
    key = str(parameters["key"])
    await services.plc.add_recovery_key(key)
    return {"first_rotation_key": key}


async def change_handle(services: Services, parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """Another handle, by the same rules as for a client."""
    await services.handles.update(str(parameters["handle"]))
    return {"handle": services.account.require().handle}


async def acknowledge(services: Services, _parameters: Parameters, _channel: Channel) -> dict[str, Any]:
    """The owner says that what raised an alarm is right."""
    return {"acknowledged": await services.plc_watch.acknowledge()}


def watch_view(services: Services) -> dict[str, Any]:
    """The state of the PLC watch, for this and for `status`."""
    row, watch = services.plc_watch.row(), services.plc_watch
    return {
        "alarms": [alarm_view(watch, alarm) for alarm in row.alarms],
        "trouble": row.trouble or None,
        "checked": iso_time(watch.checked_us) if watch.checked_us is not None else None,
    }


def log_view(audit: Audit) -> dict[str, Any]:
    """A verified log: the identity's fields and its operations, oldest first."""
    state = audit.state
    in_force = {entry.cid for entry in audit.entries}
    return {
        "tombstoned": audit.is_tombstoned,
        "rotation_keys": state["rotationKeys"],
        "names": state["alsoKnownAs"],
        "keys": state["verificationMethods"],
        "services": {name: entry["endpoint"] for name, entry in state["services"].items()},
        "operations": [
            {
                "operation": entry.cid,
                "created": iso_time(int(entry.created * 1_000_000)),
                "signer": entry.signer,
                "kind": "genesis" if entry.op["prev"] is None else str(plc.normalized(entry.op)["type"]),
                "undone": entry.cid not in in_force,
            }
            for entry in audit.log
        ],
    }


COMMANDS = {
    "identity.show": show,
    "identity.rotate-key": rotate_key,
    "identity.new-recovery-key": new_recovery_key,
    "identity.handle": change_handle,
    "identity.acknowledge": acknowledge,
}
