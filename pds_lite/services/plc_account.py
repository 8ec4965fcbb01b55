"""PlcAccount: the account's did:plc as the directory has it, and every operation that this box makes of it.

Rules that hold here (protocol digest 7)
- An operation changes only what it is about: foreign rotation keys, services, names and keys stay as they are.
- The directory's log is verified before anything is built on it. A tombstoned identity is refused.
- What the box signs is noted durably before anybody else can have it (identity_store), so that the PLC watch knows it.
- One operation at a time; each follows the one before it. While the DID is not published yet, operations wait in the
  account's row behind the genesis and are published with it.
Handles and keys themselves are changed by handle_change and key_rotation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor, plc
from pds_lite.atproto.crypto import parse_did_key
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import BadInput, BadKey, PdsError, UpstreamFailure
from pds_lite.net.plc_directory import OperationRefused
from pds_lite.services.own_document import waiting_operations, with_handle
from pds_lite.services.repo_writer import IdentityEvent
from pds_lite.storage import failpoints, identity_store

if TYPE_CHECKING:
    from pds_lite.atproto.plc import Audit, Operation
    from pds_lite.services.account import Accounts
    from pds_lite.services.foundation import Foundation
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import WriteTxn

MAX_WAITING = 32
"""Operations that may wait for the first publication."""
FIELDS = ("rotationKeys", "alsoKnownAs", "verificationMethods", "services")

Edit = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From an identity's fields to those that change."""


class PlcAccount:
    """Reads and changes the account's did:plc."""

    def __init__(self, base: Foundation, accounts: Accounts) -> None:
        self._config, self._store, self._keys = base.config, base.store, base.keys
        self._identity, self._repo = base.identity, base.repo
        self._accounts = accounts
        self.changing = asyncio.Lock()
        """Held by whoever changes the identity, from reading what it is to storing what it became."""

    async def audit(self, did: str) -> Audit:
        """The verified log of a did:plc. Raises BadInput when it does not hold together, NotFound, UpstreamFailure."""
        return await verify_log(did, await self._identity.plc.audit_log(did))

    async def update(self, edit: Edit) -> bytes | None:
        """Publishes what `edit` makes of the identity's fields, if that is a change. The caller holds `changing`.

        Answers what Account.plc_op must be from now on, for the caller's own step: with a DID that is not published yet
        the operation is not sent but waits there. Raises BadInput (not a did:plc, tombstoned, not our key's to change),
        NotFound, UpstreamFailure.
        """
        account = self._require_plc()
        if account.plc_op is not None:
            return await self._append_waiting(account.plc_op, edit)
        last = await self._last_operation(account.did)
        changes = edit(plc.normalized(last))
        if any(last.get(name) != value for name, value in changes.items()):
            await self._publish(account.did, self._sign(last, changes))
        return None

    async def add_recovery_key(self, did_key: str) -> None:
        """Makes a key of the owner's the identity's first rotation key; the others stay behind it.

        Raises BadInput (no did:key, no room, or as `update`), NotFound, UpstreamFailure.
        """
        parse_did_key(did_key)

        def put_first(fields: Operation) -> dict[str, Any]:
            keys = [did_key, *(key for key in fields["rotationKeys"] if key != did_key)]
            if len(keys) > plc.MAX_ROTATION_KEYS:
                raise BadInput(
                    f"the identity has {len(keys) - 1} rotation keys already, as many as there may be",
                    hint="pds-lite identity recover --drop-key KEY",
                )
            return {"rotationKeys": keys}

        async with self.changing:
            account = self._require_plc()
            waiting = await self.update(put_first)
            if waiting != account.plc_op:
                await self._accounts.change(lambda row: replace(row, plc_op=waiting))

    async def depends_on_box(self) -> bool:
        """Whether no key but this box's can change the identity: lost with its card. Raises as `audit`."""
        account = self._require_published()
        state = (await self.audit(account.did)).state
        return bool(state["rotationKeys"] == [self._keys.rotation.did_key])

    async def sign(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """signPlcOperation: a signed operation with the fields `given`, the others as they are. It is not published.

        Raises BadInput, NotFound, UpstreamFailure.
        """
        async with self.changing:
            account = self._require_published()
            last = await self._last_operation(account.did)
            changes = {name: given[name] for name in FIELDS if given.get(name) is not None}
            operation = self._sign(last, changes)
            await self._note(operation)
        return operation

    async def submit(self, operation: object) -> None:
        """submitPlcOperation: publishes an operation that leaves the account here; done again, it succeeds again.

        Raises BadInput as the reference, also for what the directory refuses; UpstreamFailure.
        """
        async with self.changing:
            account = self._require_published()
            self._check_submitted(operation, account)
            assert isinstance(operation, dict)
            try:
                await self._publish(account.did, operation)
            except OperationRefused as problem:  # whoever made it must mend it; trying again would not help
                raise BadInput(problem.message) from None
        await self._repo.transact(None, [IdentityEvent(account.handle)])

    async def recommended(self) -> dict[str, Any]:
        """What the DID document must say for the account to live here, on top of what it says beside that.

        The owner's rotation keys come first: the recovery key named at sign-up, then those the identity has. Raises
        UpstreamFailure rather than leave out what it cannot look up.
        """
        account = self._accounts.require()
        wanted = plc.genesis(
            [self._keys.rotation.did_key], self._keys.signing.did_key, account.handle, self._config.public_url
        )
        if not is_plc_did(account.did):
            return {name: wanted[name] for name in FIELDS if name != "rotationKeys"}
        if account.plc_op is not None:
            state = plc.normalized(waiting_operations(account.plc_op)[-1])
            return {name: state[name] for name in FIELDS}
        audit = await self.audit(account.did)
        state = audit.state
        with self._store.read() as txn:
            recovery_key = identity_store.get_plc(txn).recovery_key
        return {
            "rotationKeys": rotation_keys_here(audit, self._keys.rotation.did_key, recovery_key),
            "alsoKnownAs": with_handle(state["alsoKnownAs"], account.handle),
            "verificationMethods": {**state["verificationMethods"], **wanted["verificationMethods"]},
            "services": {**state["services"], **wanted["services"]},
        }

    # -- parts

    async def _append_waiting(self, waiting: bytes, edit: Edit) -> bytes:
        operations = waiting_operations(waiting)
        last = operations[-1]
        changes = edit(plc.normalized(last))
        if all(last.get(name) == value for name, value in changes.items()):
            return waiting
        if len(operations) >= MAX_WAITING:
            raise BadInput("the DID was changed too often before its publication", hint="pds-lite identity publish")
        operation = self._sign(last, changes)
        await self._note(operation)
        return dag_cbor.encode([*operations, operation])

    def _sign(self, last: Operation, changes: Mapping[str, Any]) -> dict[str, Any]:
        if self._keys.rotation.did_key not in plc.normalized(last)["rotationKeys"]:
            raise BadInput("this server's key is none of the DID's rotation keys: it cannot change the DID document")
        try:
            return plc.sign_op(plc.update(last, changes), self._keys.rotation)
        except BadKey as problem:
            raise BadInput(problem.message) from None

    async def _last_operation(self, did: str) -> Operation:
        audit = await self.audit(did)
        if audit.is_tombstoned:
            raise BadInput("Did is tombstoned")
        return audit.last

    async def _publish(self, did: str, operation: Operation) -> None:
        await self._note(operation)
        failpoints.hit("plc.noted")
        try:
            await self._identity.publish_plc(did, operation)
        except UpstreamFailure:
            # An earlier try whose answer was lost is refused now; the hash says that it is the same one.
            if not await self._is_in_force(did, operation):
                raise
            self._identity.forget(did)
        failpoints.hit("plc.published")

        def remember(txn: WriteTxn) -> None:
            row = identity_store.get_plc(txn)
            identity_store.put_plc(txn, replace(row, last_op=dag_cbor.encode(dict(operation))))

        await self._store.write(remember, "plc")

    async def _is_in_force(self, did: str, operation: Operation) -> bool:
        try:
            return plc.op_cid((await self.audit(did)).last) == plc.op_cid(operation)
        except PdsError:
            return False

    async def _note(self, operation: Operation) -> None:
        cid = str(plc.op_cid(operation))
        await self._store.write(lambda txn: identity_store.note_made(txn, cid), "plc")

    def _check_submitted(self, operation: object, account: Account) -> None:
        if not isinstance(operation, dict) or operation.get("type") != "plc_operation":
            raise BadInput("Invalid operation")
        try:
            plc.check_op(operation)
        except BadInput as problem:
            raise BadInput(f"Invalid operation: {problem.message}") from None
        if self._keys.rotation.did_key not in operation["rotationKeys"]:
            raise BadInput("Rotation keys do not include server's rotation key")
        pds = operation["services"].get(plc.PDS_SERVICE, {})
        if pds.get("type") != plc.PDS_TYPE:
            raise BadInput("Incorrect type on atproto_pds service")
        if pds.get("endpoint") != self._config.public_url:
            raise BadInput("Incorrect endpoint on atproto_pds service")
        if operation["verificationMethods"].get("atproto") != self._keys.signing.did_key:
            raise BadInput("Incorrect signing key")
        if operation["alsoKnownAs"][:1] != [f"at://{account.handle}"]:
            raise BadInput("Incorrect handle in alsoKnownAs")

    def _require_plc(self) -> Account:
        account = self._accounts.require()
        if not is_plc_did(account.did):
            raise BadInput(f"{account.did} is not a did:plc: its document is changed where it is served")
        return account

    def _require_published(self) -> Account:
        account = self._require_plc()
        if account.plc_op is not None:
            raise BadInput("The DID is not published yet", hint="pds-lite identity publish")
        return account


async def verify_log(did: str, log: list[Any]) -> Audit:
    """`plc.audit` in a thread: a log may be long, and every entry is a signature or several. Raises BadInput."""
    return await asyncio.to_thread(plc.audit, did, log)


def rotation_keys_here(audit: Audit, own: str, recovery_key: str) -> list[str]:
    """The rotation keys, at most five, for an identity that lives here: the `recovery_key` named, those it has, ours.

    When ours is new and the key that signed last is not the first of several, that one is taken for the old host's,
    which loses its say with the move. Every other key may be the owner's and stays. So does an only key, or the
    identity would hang on this box alone.
    """
    kept: list[str] = list(audit.state["rotationKeys"])
    if own not in kept:
        signer = audit.entries[-1].signer
        if len(kept) > 1 and kept[0] != signer:
            kept = [key for key in kept if key != signer]
    if recovery_key and recovery_key not in kept:
        kept.insert(0, recovery_key)
    others = [key for key in kept if key != own][: plc.MAX_ROTATION_KEYS - 1]
    return [key for key in kept if key == own or key in others] if own in kept else [*others, own]
