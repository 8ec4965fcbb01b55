"""com.atproto.repo.*: records, blobs and the import of a repository.

Handlers only translate between lexicon shapes and services; what the lexicon checks was checked before they run. The
ways to write become RecordWrites here and differ in nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadInput, NotFound
from pds_lite.services import media_types
from pds_lite.services.access import ANY_SCOPE, HANDLER_ASKS, Access
from pds_lite.services.bundle import Services
from pds_lite.services.record_writes import Action, RecordWrite, Swap
from pds_lite.services.repo_writer import RecordResult, WriteResult
from pds_lite.services.takedowns import require_readable
from pds_lite.storage import blob_store
from pds_lite.storage.account_store import Account
from pds_lite.xrpc.proxying import ask_elsewhere
from pds_lite.xrpc.responses import Reply
from pds_lite.xrpc.router import Call, procedure, query

_NS = "com.atproto.repo."
_JSON = "application/json"
_POINTS = {"create": 3, "update": 2, "put": 2, "delete": 1, "discard": 1}
"""What a write costs of the hourly and daily allowance (protocol digest 13)."""
_NEEDED_ACTIONS = {
    "create": ("create",),
    "update": ("update",),
    "put": ("create", "update"),
    "delete": ("delete",),
    "discard": ("delete",),
}
"""What an OAuth session must be allowed: a put is judged before anybody looks whether the record exists."""
_MIME_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")


@procedure(_NS + "createRecord", access=Access.SESSION, oauth=HANDLER_ASKS)
async def create_record(services: Services, call: Call) -> dict[str, Any]:
    """A new record; a second like, repost, follow or block of a subject takes the place of the first."""
    given = call.input
    write = RecordWrite(
        "create",
        given["collection"],
        given.get("rkey"),
        given["record"],
        validate=given.get("validate"),
        replaces_duplicates=given.get("validate") is not False,
    )
    return _one_answer(await _apply(services, call, [write]))


@procedure(_NS + "putRecord", access=Access.SESSION, oauth=HANDLER_ASKS)
async def put_record(services: Services, call: Call) -> dict[str, Any]:
    """Creates or updates; no commit if nothing changes."""
    given = call.input
    write = RecordWrite(
        "put", given["collection"], given["rkey"], given["record"], _swap_record(given), given.get("validate")
    )
    return _one_answer(await _apply(services, call, [write]))


@procedure(_NS + "deleteRecord", access=Access.SESSION, oauth=HANDLER_ASKS)
async def delete_record(services: Services, call: Call) -> dict[str, Any]:
    """Deletes; deleting nothing succeeds without a commit."""
    given = call.input
    write = RecordWrite("discard", given["collection"], given["rkey"], swap=_swap_record(given))
    return _commit_answer(await _apply(services, call, [write]))


@procedure(_NS + "applyWrites", access=Access.SESSION, oauth=HANDLER_ASKS)
async def apply_writes(services: Services, call: Call) -> dict[str, Any]:
    """Up to 200 writes in one commit, or none of them."""
    given = call.input
    if len(given["writes"]) > 200:
        raise BadInput("Too many writes. Max: 200")
    writes = [_batched(write, given.get("validate")) for write in given["writes"]]
    result = await _apply(services, call, writes)
    return {**_commit_answer(result), "results": [_batched_answer(each) for each in result.results]}


def _batched(write: dict[str, Any], validate: bool | None) -> RecordWrite:
    kind = str(write.get("$type", "")).rpartition("#")[2]
    actions: dict[str, Action] = {"create": "create", "update": "update", "delete": "delete"}
    if kind not in actions:
        raise BadInput(f"Action not supported: {kind[:100]}")
    return RecordWrite(actions[kind], write["collection"], write.get("rkey"), write.get("value"), validate=validate)


def _batched_answer(result: RecordResult) -> dict[str, Any]:
    kind = f"{_NS}applyWrites#{result.action}Result"
    return {"$type": kind} if result.cid is None else {"$type": kind, **_record_answer(result)}


async def _apply(services: Services, call: Call, writes: list[RecordWrite]) -> WriteResult:
    account = _own_repo(services, call.input["repo"])
    for write in writes:
        for action in _NEEDED_ACTIONS[write.action]:
            call.principal.require_repo(write.collection, action)
    services.limits.spend_writes(account.did, sum(_POINTS[write.action] for write in writes))
    swap = call.input.get("swapCommit")
    result = await services.repo.apply_writes(writes, Cid.parse(swap) if swap is not None else None)
    if result.commit is not None:
        services.crawlers.wrote()
    return result


def _swap_record(given: dict[str, Any]) -> Any:
    if "swapRecord" not in given:
        return Swap.ANY
    text = given["swapRecord"]
    return None if text is None else Cid.parse(text)


def _one_answer(result: WriteResult) -> dict[str, Any]:
    return {**_record_answer(result.results[0]), **_commit_answer(result)}


def _record_answer(result: RecordResult) -> dict[str, Any]:
    answer = {"uri": result.uri, "cid": str(result.cid)}
    return answer if result.status is None else {**answer, "validationStatus": result.status}


def _commit_answer(result: WriteResult) -> dict[str, Any]:
    return {} if result.commit is None else {"commit": {"cid": str(result.commit[0]), "rev": result.commit[1]}}


def _own_repo(services: Services, repo: str) -> Account:
    """The account that `repo`, a DID or handle, names; only the one account has a repository here."""
    account = services.account.account
    if account is None or (repo != account.did and repo.lower() != account.handle):
        raise NotFound(f"Could not find repo: {repo[:300]}", error="RepoNotFound")
    return account


def _readable_repo(services: Services, call: Call) -> Account:
    """_own_repo, unless it is not active and somebody else asks."""
    account = _own_repo(services, call.params["repo"])
    if not call.principal.is_account:
        require_readable(account)
    return account


@query(_NS + "getRecord", access=Access.LENIENT)
async def get_record(services: Services, call: Call) -> Reply:
    """One record; of a repository that is not here the AppView's, since clients ask their own host for everybody's."""
    params = call.params
    try:
        account = _readable_repo(services, call)
    except NotFound:
        return await ask_elsewhere(services, call)
    hidden = services.takedowns.paths
    body = services.reader.get_record(account.did, params["collection"], params["rkey"], params.get("cid"), hidden)
    return Reply(body, _JSON)


@query(_NS + "listRecords", access=Access.LENIENT)
async def list_records(services: Services, call: Call) -> Reply:
    """A page of a collection, newest key first unless `reverse`."""
    params = call.params
    account = _readable_repo(services, call)
    body = services.reader.list_records(
        account.did,
        params["collection"],
        params.get("limit", 50),
        params.get("cursor"),
        oldest_first=params.get("reverse", False),
        hidden=services.takedowns.paths,
    )
    return Reply(body, _JSON)


@query(_NS + "describeRepo", access=Access.LENIENT)
async def describe_repo(services: Services, call: Call) -> dict[str, Any]:
    """Handle, DID document and the collections in use."""
    account = _readable_repo(services, call)
    return {
        "handle": account.handle,
        "did": account.did,
        "didDoc": services.account.did_document() or {"id": account.did},
        "collections": services.reader.collections(),
        "handleIsCorrect": await services.handle_check.is_correct(),
    }


@procedure(_NS + "uploadBlob", access=Access.SESSION_OR_SERVICE, oauth=HANDLER_ASKS)
async def upload_blob(services: Services, call: Call) -> dict[str, Any]:
    """A streamed upload; allowed while the account is deactivated, since it is moving in then."""
    services.account.require()
    body = call.body
    if body is None or not body.present:
        raise BadInput("Request must have a body")
    declared = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _MIME_TYPE.fullmatch(declared):
        declared = media_types.UNKNOWN
    call.principal.require_blob(declared)
    body.limit = min(body.limit, services.config.blob_limit)
    length = None if body.encoded else body.length
    return {"blob": await services.blobs.upload(body, declared, length)}


@procedure(_NS + "importRepo", access=Access.OWNER, oauth="account:repo?action=manage")
async def import_repo(services: Services, call: Call) -> None:
    """A whole repository as a CAR, or what changed in one."""
    services.account.require()
    if call.body is None or not call.body.present:
        raise BadInput("Request must have a body")
    body = call.body
    await services.importer.run(body, None if body.encoded else body.length)


@query(_NS + "listMissingBlobs", access=Access.SESSION, oauth=ANY_SCOPE)
async def list_missing_blobs(services: Services, call: Call) -> dict[str, Any]:
    """Blobs that records name and that are not here, each with one such record."""
    account = services.account.require()
    limit = call.params.get("limit", 500)
    cursor = call.params.get("cursor")
    with services.store.read() as txn:
        missing = blob_store.missing_blobs(txn, Cid.parse(cursor) if cursor else None, limit)
    answer: dict[str, Any] = {
        "blobs": [{"cid": str(cid), "recordUri": f"at://{account.did}/{path.decode()}"} for cid, path in missing]
    }
    return {**answer, "cursor": str(missing[-1][0])} if len(missing) == limit else answer
