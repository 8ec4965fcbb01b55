"""What must be right before a move begins: found out now, not when the identity has left the old host.

Each finding says what was looked at. An "error" stops the move before its first step; a "warning" is for the owner to
judge. Nothing here changes anything, here or elsewhere.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import BadData, PdsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pds_lite.services.bundle import Services

LEAST_FREE = 200 << 20
BYTES_A_BLOCK = 600
"""Of repository on the disk, three times over while it is imported."""
BYTES_A_BLOB = 400_000
"""What a picture has, most of the time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is "ok", "warning" or "error"."""

    level: str
    code: str
    text: str
    hint: str = ""
    """What mends an error, if the text does not say it."""


async def check_box(services: Services, did: str, handle: str) -> list[Finding]:
    """The box: account, reachability with certificate, clock, handle, room."""
    findings = [_check_account(services, did), await check_reachable(services)]
    if not services.config.dev and not services.clock.trusted():
        findings.append(Finding("warning", "clock", "nothing confirms this box's clock"))
    findings.append(await _check_handle(services, did, handle))
    return findings


async def check_identity(services: Services, did: str, old_url: str) -> list[Finding]:
    """The identity: that it leads to the old host, and who can change it."""
    document = await services.identity.did_doc(did, refresh=True)
    if document.pds == services.config.public_url:
        return [Finding("ok", "identity", "the identity leads here already")]
    findings = []
    if document.pds != old_url:
        text = f"the identity leads to {document.pds or 'no host'}, not to {old_url}"
        findings.append(Finding("error", "identity", text))
    if is_plc_did(did):
        audit = await services.plc.audit(did)
        keys = len(audit.state["rotationKeys"])
        findings.append(Finding("ok", "identity", f"{did} has {keys} rotation key{'s' if keys > 1 else ''}"))
    else:
        text = f"{did} is changed where it is served: you will be told what its document must say"
        findings.append(Finding("warning", "identity", text))
    return findings


def check_old_host(services: Services, described: Mapping[str, Any], handle: str) -> list[Finding]:
    """What the old host's describeServer tells."""
    findings = []
    limit, own = described.get("blobUploadLimit"), services.config.blob_limit
    if isinstance(limit, int) and limit > own:
        text = f"the old host takes blobs of {limit} bytes, this box of {own}: larger ones would stay behind"
        findings.append(Finding("warning", "blob_limit", text + " (PDS_LITE_BLOB_LIMIT)"))
    domains = described.get("availableUserDomains")
    for domain in domains if isinstance(domains, list) else []:
        if isinstance(domain, str) and domain and handle.endswith(domain) and not services.config.dev:
            text = f"{handle} is a name of the old host, which may take it away: think of --handle with your own"
            findings.append(Finding("warning", "handle", text))
    return findings


def check_sizes(services: Services, status: Mapping[str, Any]) -> list[Finding]:
    """Whether there is room for what the old host's checkAccountStatus counts."""
    blocks, blobs = (_number(status.get(name)) for name in ("repoBlocks", "expectedBlobs"))
    return [_check_room(services, blocks * BYTES_A_BLOCK * 3 + blobs * BYTES_A_BLOB)]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _check_account(services: Services, did: str) -> Finding:
    account = services.account.account
    if account is None:
        return Finding("ok", "account", "this box is empty")
    if account.did != did:
        return Finding("error", "account", f"this box has the account of {account.handle} already")
    if account.status == "active":
        return Finding("error", "account", f"{account.handle} is active here already")
    return Finding("ok", "account", "the account is on this box, deactivated")


async def check_reachable(services: Services) -> Finding:
    """As others will see it: by its public name, through whatever stands in front, with its certificate."""
    config = services.config
    url = f"{config.public_url}/xrpc/com.atproto.server.describeServer"
    try:
        answer = await services.http.request("GET", url, timeout=10.0, configured=True)
        told = ujson.loads(answer.body) if answer.status == 200 else {}
    except BadData:
        told = {}
    except PdsError as problem:
        text = f"{config.public_url}, where others will look for this box, does not answer: {problem.message}"
        return Finding("error", "reachable", text, "start pds-lite serve, and the proxy in front of it; then again")
    if not isinstance(told, dict) or told.get("did") != config.service_did:
        return Finding("error", "reachable", f"{config.public_url} leads to another server than this box")
    return Finding("ok", "reachable", f"{config.public_url} answers")


async def _check_handle(services: Services, did: str, handle: str) -> Finding:
    if services.config.dev and handle.endswith(".test"):
        return Finding("ok", "handle", f"{handle} is a test name")
    try:
        found = await services.identity.resolve_handle(handle, refresh=True)
    except PdsError as problem:
        return Finding("warning", "handle", problem.message)
    if found != did:
        return Finding("error", "handle", f"{handle} is the handle of another identity, {found}")
    return Finding("ok", "handle", f"{handle} leads to {did}")


def _check_room(services: Services, needed: int) -> Finding:
    free = shutil.disk_usage(services.config.data_dir).free
    if free < LEAST_FREE:
        return Finding("error", "disk", f"only {free >> 20} MB are free on the disk", "make room")
    level = "ok" if free >= needed + LEAST_FREE else "warning"
    return Finding(level, "disk", f"the account may need {needed >> 20} MB, {free >> 20} MB are free on the disk")
