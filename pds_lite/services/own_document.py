"""The account's own DID document, as this box knows it without asking: what it says of itself on a bench, too.

What lives here (handle, signing key, host) is the box's to say. What else the identity has, a labeler's key or another
service or name, is taken from the last operation that was seen or made, so that it is missing nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pds_lite.atproto import dag_cbor, did_doc, plc
from pds_lite.storage import identity_store

if TYPE_CHECKING:
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import Txn


def own_document(txn: Txn, account: Account, signing_did_key: str, endpoint: str) -> dict[str, Any]:
    """The document of an account that lives at `endpoint`."""
    if account.plc_op is not None:
        last = waiting_operations(account.plc_op)[-1]
    else:
        stored = identity_store.get_plc(txn).last_op
        last = cast("dict[str, Any]", dag_cbor.decode_own(stored)) if stored else {}
    if last.get("type") not in ("plc_operation", "create"):
        services = [did_doc.pds_service(endpoint)]
        return did_doc.build(account.did, handle=account.handle, signing_did_key=signing_did_key, services=services)
    state = plc.normalized(last)
    pds = {plc.PDS_SERVICE: {"type": plc.PDS_TYPE, "endpoint": endpoint}}
    atproto = {"atproto": signing_did_key}
    here = {  # ours first in each, whatever order the stored form has
        "alsoKnownAs": with_handle(state["alsoKnownAs"], account.handle),
        "verificationMethods": {**atproto, **state["verificationMethods"], **atproto},
        "services": {**pds, **state["services"], **pds},
    }
    return did_doc.of_operation(account.did, {**state, **here})


def waiting_operations(stored: bytes) -> list[dict[str, Any]]:
    """The signed operations in Account.plc_op, genesis first: one map, or a list when the identity changed offline."""
    value = dag_cbor.decode_own(stored)
    return cast("list[dict[str, Any]]", value if isinstance(value, list) else [value])


def with_handle(names: list[str], handle: str) -> list[str]:
    """The names of alsoKnownAs with `handle` in place of the first handle, in front; every other name stays."""
    wanted = f"at://{handle}"
    replaced = next((name for name in names if name.startswith("at://")), None)
    return [wanted, *(name for name in names if name not in (wanted, replaced))]
