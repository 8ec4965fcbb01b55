"""Recovery: what the owner does to a did:plc with the recovery key alone, on any computer, without a box.

The directory's log is verified before anything is planned, and read again after publishing: success means that the
operation stands in force there. The key is given for signing and kept nowhere. What a key may do is decided in
atproto/plc_recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import parse_did_key
from pds_lite.atproto.did_doc import is_origin
from pds_lite.atproto.plc_recovery import Recovery, differences, plan_change, plan_undo
from pds_lite.atproto.syntax import is_plc_did, is_reserved_handle, parse_handle
from pds_lite.errors import BadInput, UpstreamFailure
from pds_lite.services.own_document import with_handle

if TYPE_CHECKING:
    from pds_lite.atproto.crypto import PrivateKey
    from pds_lite.atproto.plc import Audit
    from pds_lite.clock import Clock
    from pds_lite.net.plc_directory import PlcDirectory


@dataclass(frozen=True, slots=True)
class Wishes:
    """What `recover` is to change; what is not named stays."""

    pds: str | None = None
    """Origin of the new host."""
    signing_key: str | None = None
    handle: str | None = None
    add_keys: Sequence[str] = ()
    drop_keys: Sequence[str] = ()
    """Rotation keys, did:key."""

    @property
    def is_empty(self) -> bool:
        """Nothing is to be changed."""
        return not (self.pds or self.signing_key or self.handle or self.add_keys or self.drop_keys)


class RecoveryTool:
    """Reads a log, plans, publishes."""

    def __init__(self, directory: PlcDirectory, clock: Clock, did: str) -> None:
        if not is_plc_did(did):
            raise BadInput(f"{did[:100]} is not a did:plc")
        self._directory = directory
        self._clock = clock
        self._did = did

    async def audit(self) -> Audit:
        """The verified log. Raises BadInput, NotFound, UpstreamFailure."""
        return plc.audit(self._did, await self._directory.audit_log(self._did))

    async def plan_undo(self, did_key: str, cid: str | None) -> Recovery:
        """Undo the operation `cid`, or the last one, and all after it."""
        return plan_undo(await self.audit(), did_key, cid, self._clock.now())

    async def plan_change(self, did_key: str, wishes: Wishes) -> Recovery:
        """Change the identity, taking back what removed the key if need be.

        Raises BadInput also for wishes that change nothing: what is published stays for ever.
        """
        audit = await self.audit()
        plan = plan_change(audit, did_key, {}, self._clock.now())
        if wishes.is_empty and not plan.undone:
            raise BadInput("there is nothing to recover from: this key is in force; name what is to be changed")
        if did_key in wishes.drop_keys and not wishes.add_keys:
            raise BadInput(
                "this is the key that you hold: without another the identity would be its host's alone",
                hint="add --rotation-key KEY",
            )
        plan = plan_change(audit, did_key, _changes(plan.operation, wishes), self._clock.now())
        if not plan.undone and not differences(plan.before, plan.operation):
            raise BadInput("the identity is like that already")
        return plan

    async def publish(self, plan: Recovery, key: PrivateKey) -> str:
        """Signs and publishes; the CID of the operation, which is seen in force. Raises UpstreamFailure, BadInput."""
        operation = plc.sign_op(plan.operation, key)
        cid = str(plc.op_cid(operation))
        await self._directory.submit(self._did, operation)
        if str(plc.op_cid((await self.audit()).last)) != cid:
            raise UpstreamFailure(f"{self._directory.url} took the operation, but it is not the one in force")
        return cid


def plan_view(plan: Recovery) -> dict[str, Any]:
    """What a plan does, for --json and for the question whether to do it."""
    return {
        "undone": [{"operation": entry.cid, "signer": entry.signer} for entry in plan.undone],
        "changes": differences(plan.before, plan.operation),
    }


def _changes(base: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    """The fields of `base` (unsigned operation) with the wishes in them."""
    changes: dict[str, Any] = {}
    if wishes.pds:
        if not is_origin(wishes.pds):
            raise BadInput("a host is named by its origin, such as https://pds.example.com")
        pds = {"type": plc.PDS_TYPE, "endpoint": wishes.pds.rstrip("/")}
        changes["services"] = {**base["services"], plc.PDS_SERVICE: pds}
    if wishes.signing_key:
        parse_did_key(wishes.signing_key)  # the directory takes any, the network none but k256 and p256
        changes["verificationMethods"] = {**base["verificationMethods"], "atproto": wishes.signing_key}
    if wishes.handle:
        if is_reserved_handle(parse_handle(wishes.handle), dev=True):
            raise BadInput(f"nobody can look up names under .{wishes.handle.rpartition('.')[2]}")
        changes["alsoKnownAs"] = with_handle(base["alsoKnownAs"], parse_handle(wishes.handle))
    if wishes.add_keys or wishes.drop_keys:
        for unknown in set(wishes.drop_keys) - set(base["rotationKeys"]):
            raise BadInput(f"{unknown[:200]} is none of the identity's rotation keys")
        kept = [key for key in base["rotationKeys"] if key not in wishes.drop_keys]
        changes["rotationKeys"] = [*kept, *(key for key in wishes.add_keys if key not in kept)]
    return changes
