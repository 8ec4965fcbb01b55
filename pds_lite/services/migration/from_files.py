"""A move without an old host: the repository from a CAR, blobs from files, the identity by the owner's rotation key.

The private key never comes here. The command line signs what `plan` proposes and hands the signed operation to
`finish`. Every part may be done again; nothing has changed for the world before `finish`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import plc
from pds_lite.atproto.plc_recovery import plan_change
from pds_lite.atproto.syntax import parse_did
from pds_lite.errors import BadInput
from pds_lite.services.account_status import account_status
from pds_lite.services.migration.job import job_view
from pds_lite.services.sign_up import NewAccount
from pds_lite.storage import migration_store
from pds_lite.storage.migration_store import Migration

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

STEP = "files"


async def begin(services: Services, wanted: Mapping[str, Any], car: AsyncIterator[bytes]) -> dict[str, Any]:
    """The account's row, deactivated, and its repository.

    `wanted`: did, key (did:key that will sign), handle (default: the identity's), password. Raises BadInput when that
    key cannot move the identity, and what an import raises.
    """
    did = parse_did(str(wanted["did"]))
    await plan(services, did, str(wanted["key"]))
    account = services.account.account
    if account is None:
        handle = wanted.get("handle") or (await services.identity.did_doc(did, refresh=True)).handle
        if not handle:
            raise BadInput("the identity has no handle", hint="--handle NAME")
        if not wanted.get("password"):
            raise BadInput("the account here needs a password", hint="--password-stdin")
        account = await services.sign_up.move_in(NewAccount(str(handle), str(wanted["password"]), did=did), did)
        row = Migration(did, account.handle, "", STEP, services.clock.now_us())
        await services.store.write(lambda txn: migration_store.put_migration(txn, row), "migration")
    elif account.did != did:
        raise BadInput(f"this box has the account of {account.handle} already")
    if account.status != "active":
        await services.importer.run(car)
    return await _view(services)


async def plan(services: Services, did: str, did_key: str) -> dict[str, Any]:
    """The unsigned operation that leads the identity here; None in it when it leads here already. Raises BadInput."""
    audit = await services.plc.audit(did)
    now = services.clock.now()
    account = services.account.account
    if account is None or account.did != did:
        plan_change(audit, did_key, {}, now)  # only whether the key could
        return {"operation": None}
    if await services.account.did_document_leads_here():
        return {"operation": None}
    fields = await services.plc.recommended()
    others = [key for key in fields["rotationKeys"] if key != did_key]
    own = services.keys.rotation.did_key
    kept = [key for key in others if key != own][: plc.MAX_ROTATION_KEYS - 2]
    fields["rotationKeys"] = [did_key, *kept, own]
    return {"operation": plan_change(audit, did_key, fields, now).operation}


async def finish(services: Services, given: Mapping[str, Any]) -> dict[str, Any]:
    """Publishes the signed `operation` (None if the identity leads here already) and activates the account."""
    if given.get("operation") is not None:
        await services.plc.submit(given["operation"])
    if not services.account.active:
        await services.account.activate()
    services.crawlers.ask_now()
    answer = await _view(services)
    await services.store.write(migration_store.delete_migration, "migration")
    return {**answer, "state": "done"}


async def _view(services: Services) -> dict[str, Any]:
    account = services.account.require()
    counts = await asyncio.to_thread(account_status, services.store)
    row = Migration(account.did, account.handle, "", STEP, 0)
    return {
        **job_view(services, row),
        "records": counts["indexedRecords"],
        "blobs": counts["importedBlobs"],
        "expected_blobs": counts["expectedBlobs"],
    }
