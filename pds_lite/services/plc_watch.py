"""PlcWatch: looks whether anybody else has changed the account's did:plc, and raises an alarm while it can be undone.

Every PDS_LITE_PLC_WATCH_S the directory's audit log is read and verified. An operation that this box neither made nor
was given to submit is an alarm: stored, shown by `status` and `doctor`, logged as an error, with the time left of the
72 hours in which a rotation key of more authority can take it back.

Rules that hold here
- What is judged is how many entries of the log are known; a log that is shorter or different in them is an alarm too,
  kept as `trouble` until a good one is seen.
- An alarm ends when its operation was undone or the owner acknowledges it; a restart does not end it.
- An operation that undoes an alarm and restores exactly what was before is the cure, not a new alarm.
- A directory that does not answer is no news. An account that moves in begins with the log it has when it is activated
  here; one that is not active here is not watched, since its new host changes it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.plc import RECOVERY_WINDOW_S
from pds_lite.atproto.plc_recovery import differences, keys_that_undo
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import BadInput, PdsError
from pds_lite.services.commit_clock import iso_time
from pds_lite.services.plc_account import verify_log
from pds_lite.storage import identity_store
from pds_lite.storage.identity_store import PlcAlarm, PlcRow

if TYPE_CHECKING:
    from pds_lite.atproto.plc import Audit, LogEntry
    from pds_lite.clock import Clock
    from pds_lite.services.account import Accounts
    from pds_lite.services.identity import Identity
    from pds_lite.services.plc_account import PlcAccount
    from pds_lite.storage.store import Store, WriteTxn

log = logging.getLogger(__name__)

MAX_CHANGES = 12
"""Lines that one alarm keeps of what was changed."""


class PlcWatch:
    """Watches the account's did:plc. `row` is what it knows."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        identity: Identity,
        accounts: Accounts,
        plc_account: PlcAccount,
        every: float,
    ) -> None:
        """`every`: seconds between two looks."""
        self._store = store
        self._clock = clock
        self._identity = identity
        self._accounts = accounts
        self._plc = plc_account
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self.checked_us: int | None = None
        """When the log was last seen, since the start of this process."""

    def start(self) -> None:
        """Looks now and then from now on; repeats in the log what is still to be answered."""
        for alarm in self.row().alarms:
            self._cry(alarm)
        self._task = asyncio.create_task(self._run(), name="plc watch")

    async def stop(self) -> None:
        """Ends the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def row(self) -> PlcRow:
        """What is known, alarms included."""
        with self._store.read() as txn:
            return identity_store.get_plc(txn)

    def time_left(self, alarm: PlcAlarm) -> int:
        """Seconds in which the operation can still be undone; 0 when it cannot be any more, or by no key."""
        if not alarm.undo_keys:
            return 0
        return max(0, alarm.created + RECOVERY_WINDOW_S - self._clock.now())

    def sentences(self) -> list[str]:
        """The alarms in words, each with what is to be done."""
        row = self.row()
        return [self.sentence(alarm) for alarm in row.alarms] + ([row.trouble] if row.trouble else [])

    def sentence(self, alarm: PlcAlarm) -> str:
        """One alarm in words."""
        left = self.time_left(alarm)
        when = iso_time(alarm.created * 1_000_000)
        changes = "; ".join(alarm.changes) or "nothing that shows"
        said = f"the DID was changed at {when} by {alarm.signer}, not by this box ({changes}): operation {alarm.cid}."
        if left:
            hours, minutes = divmod(left // 60, 60)
            cure = f"It can be undone for {hours} h {minutes:02d} min with a recovery key: pds-lite identity undo."
        else:
            cure = "It cannot be undone (any more)."
        return f"{said} {cure} If it was you: pds-lite identity acknowledge"

    async def check(self) -> PlcRow:
        """Looks once. Raises what keeps it from seeing the log (UpstreamFailure, NotFound)."""
        async with self._plc.changing:  # an operation of ours on its way must be noted before its entry is judged
            account = self._accounts.account
            if account is None or not is_plc_did(account.did) or account.plc_op is not None:
                return self.row()
            if account.status != "active":
                await self._forget_baseline()
                return self.row()
            raw = await self._identity.plc.audit_log(account.did)
            try:
                audit = await verify_log(account.did, raw)
            except BadInput as problem:
                return await self._judge_trouble(
                    f"the PLC directory answers a log that does not hold: {problem.message}"
                )
            return await self._judge(audit)

    async def acknowledge(self) -> int:
        """The owner says that every operation with an alarm is right; how many those were."""

        def change(txn: WriteTxn) -> int:
            row = identity_store.get_plc(txn)
            # After trouble with the log itself the next look begins with what the directory says then.
            baseline = row.baseline and not row.trouble
            identity_store.put_plc(txn, replace(row, alarms=(), trouble="", baseline=baseline))
            return len(row.alarms) + bool(row.trouble)

        return await self._store.write(change, "plc watch")

    # -- parts

    async def _run(self) -> None:
        while True:
            try:
                await self.check()
            except PdsError as problem:
                log.debug("the PLC log could not be read: %s", problem.message)
            await asyncio.sleep(self._every)

    async def _judge(self, audit: Audit) -> PlcRow:
        cried: list[PlcAlarm] = []

        def change(txn: WriteTxn) -> tuple[PlcRow, PlcRow]:
            cried.clear()
            before = identity_store.get_plc(txn)
            after = judge(before, audit)
            if after != before:
                identity_store.put_plc(txn, after)
            known = {alarm.cid for alarm in before.alarms}
            cried.extend(alarm for alarm in after.alarms if alarm.cid not in known)
            return before, after

        row = self.row()
        if judge(row, audit) != row:  # an unchanged log costs no write
            before, row = await self._store.write(change, "plc watch")
            if row.trouble and row.trouble != before.trouble:
                log.error("%s", row.trouble)
            self._identity.forget(audit.did)
        self.checked_us = self._clock.now_us()
        for alarm in cried:
            self._cry(alarm)
        return row

    async def _judge_trouble(self, trouble: str) -> PlcRow:
        row = self.row()
        if row.trouble == trouble:
            return row
        log.error("%s", trouble)

        def change(txn: WriteTxn) -> PlcRow:
            troubled = replace(identity_store.get_plc(txn), trouble=trouble)
            identity_store.put_plc(txn, troubled)
            return troubled

        return await self._store.write(change, "plc watch")

    async def _forget_baseline(self) -> None:
        if not self.row().baseline:
            return

        def change(txn: WriteTxn) -> None:
            row = identity_store.get_plc(txn)
            identity_store.put_plc(txn, replace(row, baseline=False, alarms=(), trouble=""))

        await self._store.write(change, "plc watch")

    def _cry(self, alarm: PlcAlarm) -> None:
        log.error("PLC ALARM: %s", self.sentence(alarm))


def judge(row: PlcRow, audit: Audit) -> PlcRow:
    """What is known after seeing this log."""
    entries = audit.log
    shown = {entry.cid for entry in entries}
    seen = replace(
        row,
        baseline=True,
        judged=len(entries),
        last_cid=entries[-1].cid,
        made=tuple(cid for cid in row.made if cid not in shown),
        trouble="",
        last_op=dag_cbor.encode(audit.last),
    )
    if not row.baseline:
        return seen
    if len(entries) < row.judged or (row.judged and entries[row.judged - 1].cid != row.last_cid):
        return replace(row, trouble="the PLC directory has changed the past of this DID: its log is not the one known")
    in_force = {entry.cid for entry in audit.entries}
    alarms = [alarm for alarm in row.alarms if alarm.cid in in_force]
    foreign = {alarm.cid for alarm in row.alarms}
    foreign |= {entry.cid for entry in entries[row.judged :] if entry.cid not in row.made}
    alarms += [
        _alarm(audit, entry)
        for entry in entries[row.judged :]
        if entry.cid in foreign & in_force and not _is_cure(audit, entry, foreign)
    ]
    return replace(seen, alarms=tuple(alarms))


def _is_cure(audit: Audit, entry: LogEntry, foreign: set[str]) -> bool:
    """Whether the operation only took back foreign ones and restored exactly what was before them."""
    cids = [line.cid for line in audit.log]
    if entry.op["type"] != "plc_operation" or entry.op["prev"] is None:
        return False
    before = cids.index(entry.op["prev"])
    undone = cids[before + 1 : cids.index(entry.cid)]
    return bool(undone) and foreign.issuperset(undone) and not differences(audit.log[before].op, entry.op)


def _alarm(audit: Audit, entry: LogEntry) -> PlcAlarm:
    position = audit.entries.index(entry)
    changes: list[str] = []
    if position > 0:
        changes = differences(audit.entries[position - 1].op, entry.op)
    return PlcAlarm(
        entry.cid,
        int(entry.created),
        entry.signer,
        tuple(keys_that_undo(audit, position)),
        tuple(line[:300] for line in changes[:MAX_CHANGES]),
    )


def alarm_view(watch: PlcWatch, alarm: PlcAlarm) -> dict[str, Any]:
    """An alarm in the form of --json and the account page."""
    return {
        "operation": alarm.cid,
        "created": iso_time(alarm.created * 1_000_000),
        "signer": alarm.signer,
        "changes": list(alarm.changes),
        "undo_keys": list(alarm.undo_keys),
        "seconds_left": watch.time_left(alarm),
        "text": watch.sentence(alarm),
    }
