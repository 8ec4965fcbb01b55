"""com.atproto.sync.*: the repository as everybody may read it. The stream is in subscribe_repos.

Rules that hold here (protocol digest 5)
- All of it is public while the account is active. Afterwards only the account itself may read on (it is moving out),
  the rest gets RepoDeactivated; getRepoStatus and listRepos say so instead of failing.
- A blob goes out with its real type and length, and with headers that keep a browser from running it.
- An export that cannot be finished cuts the connection: half a repository must not look whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from pds_lite.atproto.car import CONTENT_TYPE as CAR
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.repo import Head
from pds_lite.errors import BadInput, NotFound
from pds_lite.services.access import Access, Kind
from pds_lite.services.bundle import Services
from pds_lite.services.takedowns import require_readable
from pds_lite.storage import blob_store
from pds_lite.storage.account_store import Account
from pds_lite.storage.blob_store import BlobRow
from pds_lite.xrpc.responses import JSON, Reply, error_reply
from pds_lite.xrpc.router import Call, query

log = logging.getLogger("pds_lite.xrpc")

_NS = "com.atproto.sync."
_PIECE = 512 << 10
"""Bytes of a blob read at a time."""
_INLINE = 64 << 10
"""Blobs up to this size are read at once, without a worker thread."""
_BLOB_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "accept-ranges": "bytes",
}
_KEPT_BY_CACHES = "public, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def _repo(services: Services, call: Call, did: str) -> Account:
    """The account with this DID, if the caller may read it."""
    account = services.account.account
    if account is None or did != account.did:
        raise NotFound(f"Could not find repo for DID: {did[:300]}", error="RepoNotFound")
    if not call.principal.is_account and call.principal.kind is not Kind.ADMIN:
        require_readable(account)
    return account


def _head(services: Services, call: Call, missing: str = "RepoNotFound") -> Head:
    did = call.params["did"]
    _repo(services, call, did)
    head = services.reader.head
    if head is None:
        raise NotFound(f"Could not find root for DID: {did}", error=missing)
    return head


@query(_NS + "getLatestCommit", access=Access.OPTIONAL)
async def get_latest_commit(services: Services, call: Call) -> dict[str, Any]:
    """CID and rev of the head."""
    head = _head(services, call)
    return {"cid": str(head.commit), "rev": head.rev}


@query(_NS + "getHead", access=Access.OPTIONAL)
async def get_head(services: Services, call: Call) -> dict[str, Any]:
    """The older form of getLatestCommit."""
    return {"root": str(_head(services, call, "HeadNotFound").commit)}


@query(_NS + "getRepo", access=Access.OPTIONAL)
async def get_repo(services: Services, call: Call) -> Reply:
    """The repository as a CAR, or at least what changed after `since`."""
    _head(services, call)
    return await _stream(services.reader.export_car(call.params.get("since")))


@query(_NS + "getCheckout", access=Access.OPTIONAL)
async def get_checkout(services: Services, call: Call) -> Reply:
    """The older form of getRepo."""
    _head(services, call)
    return await _stream(services.reader.export_car())


@query(_NS + "getRecord", access=Access.OPTIONAL)
async def get_record(services: Services, call: Call) -> Reply:
    """A proof of a record, or of its absence."""
    _head(services, call)
    path = f"{call.params['collection']}/{call.params['rkey']}".encode()
    return Reply(await services.reader.record_proof(path), CAR)


@query(_NS + "getBlocks", access=Access.OPTIONAL)
async def get_blocks(services: Services, call: Call) -> Reply:
    """Blocks of the current repository by CID."""
    _head(services, call)
    return await _stream(services.reader.blocks_car([Cid.parse(text) for text in call.params["cids"]]))


async def _stream(pieces: AsyncIterator[bytes]) -> Reply:
    """A CAR in pieces. The first is made before the answer begins, so that what it raises becomes an error answer."""
    first = await anext(pieces)

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return Reply(body(), CAR)


@query(_NS + "getRepoStatus", access=Access.PUBLIC)
async def get_repo_status(services: Services, call: Call) -> dict[str, Any]:
    """Whether the account is active; the rev only while it is."""
    account = services.account.account
    if account is None or call.params["did"] != account.did:
        raise NotFound(f"Could not find repo for DID: {call.params['did'][:300]}", error="RepoNotFound")
    head = services.reader.head
    if account.status != "active":
        return {"did": account.did, "active": False, "status": account.status}
    return {"did": account.did, "active": True, **({"rev": head.rev} if head is not None else {})}


@query(_NS + "listRepos", access=Access.PUBLIC)
async def list_repos(services: Services, call: Call) -> dict[str, Any]:
    """The one repository."""
    account, head = services.account.account, services.reader.head
    # One account: whoever has a cursor has seen it.
    if account is None or head is None or call.params.get("cursor"):
        return {"repos": []}
    repo: dict[str, Any] = {"did": account.did, "head": str(head.commit), "rev": head.rev}
    active = account.status == "active"
    return {"repos": [{**repo, "active": active, **({} if active else {"status": account.status})}]}


@query(_NS + "listBlobs", access=Access.OPTIONAL)
async def list_blobs(services: Services, call: Call) -> dict[str, Any]:
    """Blobs that records refer to and that are here."""
    params = call.params
    _repo(services, call, params["did"])
    cursor = params.get("cursor")
    with services.store.read() as txn:
        cids, last = blob_store.list_blobs(
            txn, params.get("since"), Cid.parse(cursor) if cursor else None, params.get("limit", 500)
        )
    answer: dict[str, Any] = {"cids": [str(cid) for cid in cids]}
    return answer if last is None else {**answer, "cursor": str(last)}


@query(_NS + "getBlob", access=Access.OPTIONAL)
async def get_blob(services: Services, call: Call) -> Reply:
    """A blob or a part of it, to be downloaded, never run."""
    _repo(services, call, call.params["did"])
    cid = Cid.parse(call.params["cid"])
    row = services.blobs.row(cid)
    if row is None or not row.refs or services.takedowns.hides_blob(cid):
        raise NotFound("Blob not found", error="BlobNotFound")
    etag = f'"{cid}"'
    headers = {**_BLOB_HEADERS, "etag": etag, "content-disposition": f'attachment; filename="{cid}"'}
    if "authorization" not in call.headers:  # else the router says private: it may be the owner of a hidden repository
        headers["cache-control"] = _KEPT_BY_CACHES
    if _is_known(call.headers.get("if-none-match"), etag):
        return Reply(b"", row.mime_type, 304, headers)
    wanted = call.headers.get("range")
    if wanted is None or call.headers.get("if-range", etag) != etag:
        return _blob_reply(services, row, (0, row.size), 200, headers)
    part = _part_of(wanted, row.size)
    if part is None:
        return _blob_reply(services, row, (0, row.size), 200, headers)
    if part[0] >= part[1]:
        problem = BadInput("The range lies outside the blob", error="RangeNotSatisfiable", status=416)
        return Reply(error_reply(problem).body, JSON, 416, {"content-range": f"bytes */{row.size}"})
    headers["content-range"] = f"bytes {part[0]}-{part[1] - 1}/{row.size}"
    return _blob_reply(services, row, part, 206, headers)


def _is_known(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))


def _part_of(wanted: str, size: int) -> tuple[int, int] | None:
    """(start, end) of a Range with one part; None for what need not be understood. start >= end: not satisfiable."""
    match = _RANGE.fullmatch(wanted.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        return max(0, size - int(match[2])), size
    start = int(match[1])
    if match[2] == "":
        return start, size
    last = int(match[2])
    return None if last < start else (start, min(size, last + 1))


def _blob_reply(services: Services, row: BlobRow, part: tuple[int, int], status: int, headers: dict[str, str]) -> Reply:
    start, end = part
    headers["content-length"] = str(end - start)
    path = services.blobs.path(row.cid)
    if not os.path.exists(path):  # noqa: PTH110 - half the price of a Path, for each picture served
        log.error("the file of blob %s is gone: pds-lite doctor --store", row.cid)
        raise NotFound("The file of this blob is gone", error="BlobNotFound")
    if end - start <= _INLINE:
        return Reply(_read(path, start, end), row.mime_type, status, headers)
    return Reply(_pieces(path, start, end), row.mime_type, status, headers)


def _read(path: str, start: int, end: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, end - start, start)
    finally:
        os.close(file)


async def _pieces(path: str, start: int, end: int) -> AsyncIterator[bytes]:
    """A part of a file. It is opened once: a blob deleted meanwhile is still sent whole."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while start < end:
            piece = await asyncio.to_thread(os.pread, file, min(_PIECE, end - start), start)
            if not piece:
                return
            start += len(piece)
            yield piece
    finally:
        os.close(file)
