"""The commands behind `pds-lite migrate`: begin or go on with the move of an account to this box, and watch it.

As in commands.py: `async (services, parameters, channel) -> JSON value`. Lines for the owner go down the channel while
the job runs; the job does not end when whoever watches goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.cid import Cid
from pds_lite.errors import NotFound

if TYPE_CHECKING:
    from pds_lite.box.control import Channel
    from pds_lite.services.bundle import Services

Parameters = Mapping[str, Any]


async def migrate_begin(services: Services, parameters: Parameters, channel: Channel) -> Any:
    """Preflight, sign-in, and the job up to what it needs next."""
    return await _watched(channel, lambda report: services.migration().begin(parameters, report))


async def migrate_resume(services: Services, parameters: Parameters, channel: Channel) -> Any:
    """The job from where it stands, with what the owner gives now."""
    return await _watched(channel, lambda report: services.migration().go_on(parameters, report))


async def migrate_status(services: Services, _parameters: Parameters, _channel: Channel) -> Any:
    """Where the job stands."""
    status = services.migration().status()
    if status is None:
        raise NotFound("no account is being moved here", hint="pds-lite migrate --from HANDLE")
    return status


async def migrate_abandon(services: Services, _parameters: Parameters, _channel: Channel) -> Any:
    """Takes the job back; the box is empty again and has a new claim code."""
    from pds_lite.box.setup import wait_for_claim

    answer = await services.migration().abandon()
    prepared = await wait_for_claim(services, with_code=True)
    return {**answer, "claim_code": prepared.claim_code}


async def migrate_files(services: Services, parameters: Parameters, channel: Channel) -> Any:
    """The account's row and repository from a CAR (the channel's body), on the word of a rotation key."""
    from pds_lite.services.migration.from_files import begin

    return await begin(services, parameters, channel.body)


async def migrate_blob(services: Services, parameters: Parameters, channel: Channel) -> Any:
    """One blob from a file."""
    from pds_lite.services.migration.blob_copy import store_blob

    cid = Cid.parse(parameters["cid"])
    reason = await store_blob(services.blobs, cid, channel.body, "")
    return {"cid": str(cid), "reason": reason}


async def migrate_missing(services: Services, _parameters: Parameters, channel: Channel) -> Any:
    """The CIDs of all blobs that are not here, one a line down the channel."""
    from pds_lite.services.migration.blob_copy import missing

    count = 0
    for cid in missing(services.store):
        await channel.send(f"{cid}\n".encode())
        count += 1
    return {"missing": count}


async def migrate_plan(services: Services, parameters: Parameters, _channel: Channel) -> Any:
    """The operation that leads the identity here, for a rotation key of the owner's to sign."""
    from pds_lite.services.migration.from_files import plan

    return await plan(services, services.account.require().did, parameters["key"])


async def migrate_finish(services: Services, parameters: Parameters, _channel: Channel) -> Any:
    """Publishes the operation that a rotation key of the owner's has signed, and activates."""
    from pds_lite.services.migration.from_files import finish

    return await finish(services, parameters)


async def _watched(channel: Channel, work: Callable[[Callable[[str], None]], Awaitable[Any]]) -> Any:
    """`work`, whose lines go down the channel. A channel that breaks ends the watching."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    async def pump() -> None:
        while (line := await lines.get()) is not None:
            await channel.send(line.encode() + b"\n")

    pumping = asyncio.create_task(pump())
    working = asyncio.ensure_future(work(lines.put_nowait))
    try:
        await asyncio.wait({pumping, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            pumping.result()
        lines.put_nowait(None)
        await pumping
        return await working
    finally:
        pumping.cancel()
        working.cancel()
        await asyncio.gather(pumping, working, return_exceptions=True)


COMMANDS = {
    "migrate.begin": migrate_begin,
    "migrate.resume": migrate_resume,
    "migrate.status": migrate_status,
    "migrate.abandon": migrate_abandon,
    "migrate.files": migrate_files,
    "migrate.blob": migrate_blob,
    "migrate.missing": migrate_missing,
    "migrate.plan": migrate_plan,
    "migrate.finish": migrate_finish,
}
