"""com.atproto.admin.*: what a moderator's and operator's tools ask of a server, for the one account there is.

All of it takes the administrator's password (PDS_LITE_ADMIN_PASSWORD); without one set it is closed. There are no
invitations on a box for one, so those methods answer that there are none.
"""

from __future__ import annotations

from typing import Any

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.syntax import parse_at_uri
from pds_lite.errors import BadInput, NotFound
from pds_lite.services.access import Access
from pds_lite.services.bundle import Services
from pds_lite.services.commit_clock import iso_time
from pds_lite.services.sign_up import claim_digest
from pds_lite.services.takedowns import TAKEN_DOWN
from pds_lite.storage import account_store, repo_store, takedown_store
from pds_lite.storage.account_store import Account
from pds_lite.xrpc.router import Call, procedure, query

_NS = "com.atproto.admin."
_REPO = "com.atproto.admin.defs#repoRef"
_BLOB = "com.atproto.admin.defs#repoBlobRef"
_RECORD = "com.atproto.repo.strongRef"


def _account(services: Services, name: str, message: str = "Account not found", error: str | None = None) -> Account:
    """The account, if `name` is its DID or handle."""
    account = services.account.account
    if account is None or name.lower() not in (account.did.lower(), account.handle):
        raise BadInput(message, error=error)
    return account


def _view(account: Account) -> dict[str, Any]:
    view: dict[str, Any] = {
        "did": account.did,
        "handle": account.handle,
        "indexedAt": iso_time(account.created_us),
        "invites": [],
        "invitesDisabled": True,
    }
    if account.email:
        view["email"] = account.email
    if account.email_confirmed_us:
        view["emailConfirmedAt"] = iso_time(account.email_confirmed_us)
    if account.deactivated_us:
        view["deactivatedAt"] = iso_time(account.deactivated_us)
    return view


@query(_NS + "getAccountInfo", access=Access.ADMIN)
async def get_account_info(services: Services, call: Call) -> dict[str, Any]:
    """The account, seen by the administrator."""
    return _view(_account(services, call.params["did"], error="NotFound"))


@query(_NS + "getAccountInfos", access=Access.ADMIN)
async def get_account_infos(services: Services, call: Call) -> dict[str, Any]:
    """Those of the asked-for accounts that are here."""
    account = services.account.account
    return {"infos": [_view(account)] if account is not None and account.did in call.params["dids"] else []}


@query(_NS + "searchAccounts", access=Access.ADMIN)
async def search_accounts(services: Services, call: Call) -> dict[str, Any]:
    """The account, unless its e-mail address is another one."""
    account, email = services.account.account, call.params.get("email", "")
    found = account is not None and email.lower() in ("", account.email.lower())
    return {"accounts": [_view(account)] if account is not None and found and not call.params.get("cursor") else []}


@procedure(_NS + "updateAccountEmail", access=Access.ADMIN)
async def update_account_email(services: Services, call: Call) -> None:
    """Sets the address, unconfirmed."""
    name = call.input["account"]
    _account(services, name, f"Account does not exist: {name}")
    await services.flows.set_email(call.input["email"])


@procedure(_NS + "updateAccountHandle", access=Access.ADMIN)
async def update_account_handle(services: Services, call: Call) -> None:
    """Sets the handle, by the same rules as its owner."""
    _account(services, call.input["did"])
    await services.handles.update(call.input["handle"])


@procedure(_NS + "updateAccountPassword", access=Access.ADMIN)
async def update_account_password(services: Services, call: Call) -> None:
    """Sets the password and ends every session."""
    _account(services, call.input["did"])
    await services.account.set_password(call.input["password"])


@procedure(_NS + "deleteAccount", access=Access.ADMIN)
async def delete_account(services: Services, call: Call) -> None:
    """Deletes the account at once."""
    _account(services, call.input["did"], "account not found")
    await services.deletion.delete(call.input["did"])


@procedure(_NS + "sendEmail", access=Access.ADMIN)
async def send_email(services: Services, call: Call) -> dict[str, Any]:
    """A mail to the owner; `sent` is false where there is no mail server."""
    given = call.input
    account = _account(services, given["recipientDid"], "Recipient not found")
    if not account.email:
        raise BadInput("account does not have an email address")
    if not services.mailer.is_configured:
        return {"sent": False}
    subject = " ".join(given.get("subject", "Message via your PDS").split())
    await services.mailer.send(account.email, subject, given["content"])
    return {"sent": True}


# -- takedowns


@query(_NS + "getSubjectStatus", access=Access.ADMIN)
async def get_subject_status(services: Services, call: Call) -> dict[str, Any]:
    """Whether an account, record or blob is taken down."""
    did, uri, blob = (call.params.get(name) for name in ("did", "uri", "blob"))
    if blob:
        if not did:
            raise BadInput("Must provide a did to request blob state")
        return _blob_status(services, did, Cid.parse(blob))
    if uri:
        return _record_status(services, uri)
    if not did:
        raise BadInput("No provided subject")
    account = _account(services, did, "Subject not found", "NotFound")
    taken_down = account.status == TAKEN_DOWN
    status = account.status_before if taken_down else account.status
    return {
        "subject": {"$type": _REPO, "did": did},
        "takedown": {"applied": True, "ref": account.takedown_ref} if taken_down else {"applied": False},
        "deactivated": {"applied": status == "deactivated"},
    }


@procedure(_NS + "updateSubjectStatus", access=Access.ADMIN)
async def update_subject_status(services: Services, call: Call) -> dict[str, Any]:
    """Takes an account, record or blob down, or gives it back; deactivates or activates the account."""
    given = call.input
    subject, takedown, deactivated = given["subject"], given.get("takedown"), given.get("deactivated")
    if takedown and takedown["applied"] and deactivated and not deactivated["applied"]:
        raise BadInput("Cannot activate and takedown an account at the same time")
    kind = subject.get("$type")
    if kind not in (_REPO, _RECORD, _BLOB):
        raise BadInput(f"Invalid subject ({kind})")
    _account(services, parse_at_uri(subject["uri"]).authority if kind == _RECORD else subject["did"], error="NotFound")
    if takedown:
        await _take_down(services, subject, takedown["applied"], takedown.get("ref", ""))
    if deactivated and kind == _REPO:
        await (services.account.deactivate() if deactivated["applied"] else services.account.activate())
    answer = {"subject": subject}
    return {**answer, "takedown": takedown} if takedown else answer


async def _take_down(services: Services, subject: dict[str, Any], applied: bool, ref: str) -> None:
    if subject["$type"] == _REPO:
        await (services.takedowns.take_down(ref) if applied else services.takedowns.give_back())
        return
    if subject["$type"] == _RECORD:
        row = takedown_store.of_record(_path(subject["uri"]), ref)
    else:
        row = takedown_store.of_blob(Cid.parse(subject["cid"]), ref)
    await (services.takedowns.hide(row) if applied else services.takedowns.show(row))


def _record_status(services: Services, uri: str) -> dict[str, Any]:
    account = _account(services, parse_at_uri(uri).authority, "Subject not found", "NotFound")
    path = _path(uri)
    with services.store.read() as txn:
        record = repo_store.get_record(txn, path)
    if record is None:
        raise NotFound("Subject not found")
    row = services.takedowns.of_record(path)
    return {
        "subject": {"$type": _RECORD, "uri": f"at://{account.did}/{path.decode()}", "cid": str(record.cid)},
        "takedown": {"applied": True, "ref": row.ref} if row else {"applied": False},
    }


def _blob_status(services: Services, did: str, cid: Cid) -> dict[str, Any]:
    _account(services, did, "Subject not found", "NotFound")
    if services.blobs.row(cid) is None:
        raise NotFound("Subject not found")
    row = services.takedowns.of_blob(cid)
    return {
        "subject": {"$type": _BLOB, "did": did, "cid": str(cid)},
        "takedown": {"applied": True, "ref": row.ref} if row else {"applied": False},
    }


def _path(uri: str) -> bytes:
    parsed = parse_at_uri(uri)
    if parsed.collection is None or parsed.rkey is None:
        raise BadInput("the uri does not name a record")
    return f"{parsed.collection}/{parsed.rkey}".encode()


# -- invitations, of which there are none


@query(_NS + "getInviteCodes", access=Access.ADMIN)
async def get_invite_codes(_services: Services, _call: Call) -> dict[str, Any]:
    """A claim code is kept as a digest, so there is nothing to list."""
    return {"codes": []}


@procedure(_NS + "disableInviteCodes", access=Access.ADMIN)
async def disable_invite_codes(services: Services, call: Call) -> None:
    """Voids the claim code of an empty box, if it is named."""
    with services.store.read() as txn:
        claim = account_store.get_claim(txn)
    if claim is not None and any(claim_digest(code) == claim for code in call.input.get("codes", ())[:100]):
        await services.store.write(account_store.delete_claim, "claim")


@procedure(_NS + "disableAccountInvites", access=Access.ADMIN)
async def disable_account_invites(services: Services, call: Call) -> None:
    """Nothing to do: the account cannot invite anybody."""
    _account(services, call.input["account"])


@procedure(_NS + "enableAccountInvites", access=Access.ADMIN)
async def enable_account_invites(services: Services, call: Call) -> None:
    """Refused, since it would promise what a box for one cannot keep."""
    _account(services, call.input["account"])
    raise BadInput("This server has one account, so it gives out no invitations")
