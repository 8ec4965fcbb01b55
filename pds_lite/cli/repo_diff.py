"""`pds-lite repo diff A B`: are these the same repository, byte for byte?

A and B are CAR files, or hosts: HANDLE, DID, HANDLE@URL, DID@URL, or the URL of a host with one account. Between hosts
the blobs are compared, too, and with --password-stdin (the account may rest there) the preferences. Needs no box.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from pds_lite import ujson
from pds_lite.errors import BadInput, BadSyntax, PdsError, UpstreamFailure

if TYPE_CHECKING:
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.migration.old_host import OldHost
    from pds_lite.services.repo_diff import Difference, Repository

_PIECE = 1 << 20
MAX_LISTED = 10_000
"""Differences in the answer of --json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A and B."""
    parser.add_argument("left", metavar="A", help="a CAR file, or HANDLE, DID, DID@URL, URL")
    parser.add_argument("right", metavar="B", help="the same")
    parser.add_argument("--no-blobs", action="store_true", help="between hosts, compare the records only")
    parser.add_argument("--password-stdin", action="store_true", help="sign in at both hosts with a line as password")
    parser.add_argument("--plc-url", metavar="U", default=os.environ.get("PDS_LITE_PLC_URL"), help="the directory")


def run(arguments: argparse.Namespace) -> int:
    """Prints every difference; 0 if there is none, 1 if there are, 2 if one of the two cannot be read."""
    password = sys.stdin.readline().rstrip("\r\n") if arguments.password_stdin else None
    try:
        return asyncio.run(_run(arguments, password))
    except PdsError as problem:
        print(f"pds-lite: {problem.message}" + (f"\n  try: {problem.hint}" if problem.hint else ""), file=sys.stderr)
        return 2


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two: its repository, and its host if it has one."""

    repository: Repository
    host: OldHost | None


async def _run(arguments: argparse.Namespace, password: str | None) -> int:
    from pds_lite.net.http_client import HttpClient

    listed: list[Difference] = []
    count = 0
    http = HttpClient(ca_file=os.environ.get("PDS_LITE_CA_FILE") or None, allow_loopback=True)
    try:
        async with AsyncExitStack() as stack:
            sides = [
                await _side(stack, http, name, arguments.plc_url, password)
                for name in (arguments.left, arguments.right)
            ]
            async for difference in _differences(sides[0], sides[1], arguments.no_blobs, password is not None):
                count += 1
                if not arguments.json:
                    print(_line(difference))
                elif len(listed) < MAX_LISTED:
                    listed.append(difference)
    finally:
        await http.close()
    _conclude(arguments, sides, listed, count)
    return 1 if count else 0


def _conclude(arguments: argparse.Namespace, sides: list[_Side], listed: list[Difference], count: int) -> None:
    facts = [
        {
            "did": side.repository.commit.did,
            "rev": side.repository.commit.rev,
            "commit": str(side.repository.root),
            "records": side.repository.records,
        }
        for side in sides
    ]
    if arguments.json:
        differences = [asdict(difference) for difference in listed]
        print(
            ujson.dumps({"equal": not count, "a": facts[0], "b": facts[1], "count": count, "differences": differences})
        )
        return
    for letter, fact in zip("AB", facts, strict=True):
        print(f"{letter}: {fact['records']} records, rev {fact['rev']} of {fact['did']}")
    print(f"{count} differences" if count else "the same, byte for byte")


async def _differences(left: _Side, right: _Side, no_blobs: bool, signed_in: bool) -> AsyncIterator[Difference]:
    from pds_lite.services.repo_diff import diff_blobs, diff_preferences, diff_records

    for difference in diff_records(left.repository, right.repository):
        yield difference
    if left.host is None or right.host is None:
        return
    if not no_blobs:
        async for difference in diff_blobs(left.host, right.host, left.repository.commit.did):
            yield difference
    if signed_in:
        async for difference in diff_preferences(left.host, right.host):
            yield difference


async def _side(stack: AsyncExitStack, http: HttpClient, name: str, plc_url: str | None, password: str | None) -> _Side:
    from pds_lite.clock import Clock
    from pds_lite.services.migration.old_host import OldHost
    from pds_lite.services.repo_diff import read, spool

    blocks = stack.enter_context(spool())
    file = await asyncio.to_thread(_open, name)
    if file is not None:
        stack.callback(file.close)
        try:
            return _Side(await read(_pieces(file), blocks), None)
        except BadInput as problem:
            raise BadInput(f"{name}: {problem.message}") from None
    did, url = await _find(http, name, plc_url)

    host = OldHost(http, Clock(), url)
    if password is not None:
        await host.sign_in(did, password, None)
        stack.push_async_callback(host.sign_out)
    try:
        async with host.stream("com.atproto.sync.getRepo", did=did) as answer:
            return _Side(await read(answer, blocks), host)
    except UpstreamFailure as problem:
        hint = "--password-stdin: an account at rest shows itself to its owner"
        raise UpstreamFailure(f"{url}: {problem.message}", hint=hint if password is None else "") from None


def _open(name: str) -> BinaryIO | None:
    path = Path(name)
    return path.open("rb") if path.is_file() else None


async def _find(http: HttpClient, name: str, plc_url: str | None) -> tuple[str, str]:
    """(DID, origin of the host) of DID@URL, HANDLE@URL, URL, DID or HANDLE. Raises BadInput, UpstreamFailure."""
    from pds_lite.atproto import did_doc
    from pds_lite.atproto.syntax import is_did, is_plc_did, parse_handle
    from pds_lite.net import dns_txt, well_known
    from pds_lite.net.plc_directory import PlcDirectory

    who, at, url = name.removeprefix("@").rpartition("@") if "://" in name else (name.removeprefix("@"), "", "")
    if url and not at:
        return await _only_account(http, url), url.rstrip("/")
    if url and not is_did(who):
        return await _ask_host(http, url, who), url.rstrip("/")
    if is_did(who):
        did = who
    else:
        try:
            handle = parse_handle(who)
        except BadSyntax:
            raise BadInput(f"{name} is neither a file nor a handle, a DID or a URL") from None
        dids = await dns_txt.lookup_dids(handle)
        did = dids[0] if len(dids) == 1 else await well_known.lookup_did(http, handle)
    if url:
        return did, url.rstrip("/")
    directory = PlcDirectory(http, plc_url or "https://plc.directory")
    document = await directory.document(did) if is_plc_did(did) else await well_known.did_web_document(http, did)
    pds = did_doc.parse(document, did).pds
    if pds is None:
        raise BadInput(f"the document of {did} names no host")
    return did, pds


async def _only_account(http: HttpClient, url: str) -> str:
    match await _get(http, f"{url.rstrip('/')}/xrpc/com.atproto.sync.listRepos?limit=2"):
        case {"repos": [{"did": str(did)}]}:
            return did
    raise BadInput(f"{url} has not just one account: say which, as DID@{url}")


async def _ask_host(http: HttpClient, url: str, handle: str) -> str:
    match await _get(http, f"{url.rstrip('/')}/xrpc/com.atproto.identity.resolveHandle?handle={quote(handle)}"):
        case {"did": str(did)}:
            return did
    raise BadInput(f"{url} does not know {handle}")


async def _get(http: HttpClient, url: str) -> Any:
    answer = await http.request("GET", url)
    if answer.status != 200:
        raise BadInput(f"GET {url}: status {answer.status}")
    return ujson.loads(answer.body)


async def _pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece


def _line(difference: Difference) -> str:
    """One line: - only in A, + only in B, ~ in both but not the same."""
    mark = "~" if difference.left and difference.right else "-" if difference.left else "+"
    if difference.kind == "preferences":
        mark = "~"
    cids = " ".join(cid for cid in (difference.left, difference.right) if cid and cid != difference.name)
    return f"{mark} {difference.kind} {difference.name} {cids}".rstrip()
