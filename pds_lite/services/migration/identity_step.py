"""The identity step of a move: the DID's document is made to lead here, with the old host's signature.

Rules that hold here
- The old host is asked for a code once; asking again would void the first one. Only an expired code is asked for anew.
- The owner's keys, names and services stay; the old host's own rotation key does not, so that it has no say any more.
- The identity is not led to a box that does not answer under its public name.
- What it signs is looked at before it is published: exactly the fields we asked for, on top of the last operation.
- The signed operation is stored before it is published, so that a run which ends in between costs no second code.
"""

from __future__ import annotations

from time import localtime, strftime
from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.atproto import dag_cbor, plc
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import BadInput, UpstreamFailure
from pds_lite.services.account import LeadsElsewhere
from pds_lite.services.migration import preflight
from pds_lite.services.migration.needs import Needs
from pds_lite.services.plc_account import FIELDS
from pds_lite.storage import failpoints

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.services.migration.job import Job

_WRONG_CODE = frozenset({"InvalidToken", "ExpiredToken"})


async def move_identity(job: Job) -> None:
    """Makes the document lead here. Raises Needs (plc_code, or document for a did:web), UpstreamFailure, BadInput."""
    found = await preflight.check_reachable(job.services)
    if found.level == "error" and not job.row.ignore_preflight:
        raise BadInput(f"the identity must not lead to a box that nobody reaches: {found.text}", hint=found.hint)
    if not is_plc_did(job.row.did):
        raise Needs("document", await _document_text(job))
    operation = await _stored_operation(job)
    if operation is None:
        operation = await _sign(job)
        await job.save(signed_op=dag_cbor.encode(operation))
    failpoints.hit("migrate.signed")
    await job.services.plc.submit(operation)
    failpoints.hit("migrate.submitted")
    if not await leads_here(job.services):
        raise UpstreamFailure("the directory took the operation but does not show it yet")


async def leads_here(services: Services) -> bool:
    """True if the account's document names this box and its key. Raises UpstreamFailure, NotFound: not known now."""
    try:
        await services.account.check_did_document()
    except LeadsElsewhere:
        return False
    return True


async def _stored_operation(job: Job) -> dict[str, Any] | None:
    """The operation signed in an earlier run, if the directory could still take it."""
    if not job.row.signed_op:
        return None
    operation: dict[str, Any] = dag_cbor.decode_own(job.row.signed_op)
    last = (await job.services.plc.audit(job.row.did)).last
    return operation if operation.get("prev") == str(plc.op_cid(last)) else None


async def _sign(job: Job) -> dict[str, Any]:
    if not job.row.code_asked_us or job.take("new_plc_code") is not None:
        await _ask_for_code(job)
    code = job.take("plc_code")
    if code is None:
        raise Needs("plc_code", _question(job))
    wanted = await _wanted(job)
    try:
        answer = await job.old.post("com.atproto.identity.signPlcOperation", {"token": code.strip(), **wanted})
    except UpstreamFailure as problem:
        if problem.error not in _WRONG_CODE:
            raise
        if problem.error == "ExpiredToken":
            await _ask_for_code(job)
            raise Needs("plc_code", f"that code has expired. {_question(job)}") from None
        raise Needs("plc_code", "the old host does not know that code") from None
    operation = answer.get("operation")
    await _check(job, operation, wanted)
    assert isinstance(operation, dict)
    return operation


def _question(job: Job) -> str:
    asked = strftime("%H:%M", localtime(job.row.code_asked_us / 1e6))
    return (
        f"{job.row.old_url} was asked at {asked} for a code: it comes by e-mail (a pds-lite shows it on its account"
        " page). Until it is given nothing has changed for the world; with it your identity leads to this box"
    )


async def _wanted(job: Job) -> dict[str, Any]:
    """The fields of the new document: everything that is the owner's stays, the old host's own key goes.

    Which key that is the old host tells: the last of those that it recommends for an account of its own.
    """
    wanted = await job.services.plc.recommended()
    try:
        told = await job.old.get("com.atproto.identity.getRecommendedDidCredentials")
    except UpstreamFailure as problem:
        job.say(f"the old host does not name its key, so it stays: {problem.message}")
        return wanted
    theirs = told.get("rotationKeys")
    if isinstance(theirs, list) and theirs and theirs[-1] != job.services.keys.rotation.did_key:
        wanted["rotationKeys"] = [key for key in wanted["rotationKeys"] if key != theirs[-1]]
    return wanted


async def _ask_for_code(job: Job) -> None:
    await job.old.post("com.atproto.identity.requestPlcOperationSignature")
    await job.save(code_asked_us=job.services.clock.now_us())


async def _check(job: Job, operation: object, wanted: dict[str, Any]) -> None:
    """Raises BadInput unless the old host signed what we asked for and nothing else."""
    if not isinstance(operation, dict) or any(operation.get(name) != wanted[name] for name in FIELDS):
        raise BadInput("the old host signed something else than was asked; nothing was published")
    last = (await job.services.plc.audit(job.row.did)).last
    if operation.get("prev") != str(plc.op_cid(last)):
        raise BadInput("the old host signed an operation that does not follow the last one; nothing was published")


async def _document_text(job: Job) -> str:
    """What the owner of a did:web changes, ready to be copied."""
    did = job.row.did
    wanted = await job.services.plc.recommended()
    key = wanted["verificationMethods"]["atproto"].removeprefix("did:key:")
    method = {"id": f"{did}#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": key}
    service = {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": job.services.config.public_url,
    }
    host = did.removeprefix("did:web:").replace("%3A", ":")
    return (
        f"in the document at {host}/.well-known/did.json these parts must become"
        f'\n  "alsoKnownAs": ["at://{job.row.handle}"]'
        f'\n  in "verificationMethod", instead of the old #atproto: {ujson.dumps(method)}'
        f'\n  in "service", instead of the old #atproto_pds: {ujson.dumps(service)}'
        "\nand the rest stays. With that change the identity leads to this box; until then the old host has the account"
    )
