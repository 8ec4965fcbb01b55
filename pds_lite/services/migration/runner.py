"""MigrationRunner: the job as a task of the box, so that it goes on when whoever began it has gone to bed.

It begins jobs (after the preflight), lets any number of callers follow the one that runs, goes on after a restart where
nothing is needed from the owner, and abandons. The steps are in `job`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.did_doc import is_origin
from pds_lite.atproto.syntax import is_did, parse_handle
from pds_lite.errors import BadInput, NotFound, PdsError, Unavailable, UpstreamFailure
from pds_lite.services.account import MAX_PASSWORD, MIN_PASSWORD
from pds_lite.services.migration import preflight
from pds_lite.services.migration.identity_step import leads_here
from pds_lite.services.migration.job import STEPS, Job, job_view, sign_in
from pds_lite.services.migration.needs import Needs
from pds_lite.services.migration.old_host import OldHost
from pds_lite.storage import event_log, migration_store
from pds_lite.storage.migration_store import Migration

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.services.migration.job import Report
    from pds_lite.services.migration.preflight import Finding

log = logging.getLogger(__name__)

KEPT_LINES = 200
_ACTIVATE = "pds-lite account activate"
_BEFORE_IDENTITY = frozenset(takewhile(lambda step: step != "identity", STEPS))


class MigrationRunner:
    """The one job of a box. `resume` belongs to the start, `stop` to the end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._task: asyncio.Task[dict[str, Any]] | None = None
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._told = 0
        self._news = asyncio.Event()

    def resume(self) -> None:
        """Goes on with a job that a restart ended in the middle."""
        row = self._row()
        if row is not None and row.is_running and row.old_url and row.step != "done":
            self._start(row, {})

    async def stop(self) -> None:
        """Ends the task; the job goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> dict[str, Any] | None:
        """The job, its `state` running, stopped, rehearsed or done; None if there is none."""
        row = self._row()
        return None if row is None else {"state": self._state(row), **job_view(self._services, row)}

    async def begin(self, wanted: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Begins a job, or goes on with the one of the same account, and follows it.

        `wanted`: from (handle, DID or URL), account (with a URL), handle, password, auth_factor, recovery_key,
        rehearse, ignore_preflight, asked_again (the findings were told already). Raises BadInput with what the
        preflight found, and what the job raises.
        """
        row = self._row()
        if row is None or self._is_unbegun(row):
            did, old_url = await self._find(str(wanted["from"]), wanted.get("account"))
            try:
                await self._prepare(did, old_url, wanted, report)
            except Needs as needs:
                return {"state": "needs", "needs": needs.what, "text": needs.text, "did": did, "from": old_url}
        elif wanted.get("from"):
            did, _old_url = await self._find(str(wanted["from"]), wanted.get("account"))
            if did != row.did:
                raise BadInput(f"{row.did} is being moved already", hint="pds-lite migrate --status")
        return await self._run_on(wanted, report)

    async def go_on(self, answers: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Goes on with the stored job, or follows it if it runs. Raises NotFound without one, and what it raises."""
        row = self._row()
        if row is None:
            raise NotFound("no account is being moved here", hint="pds-lite migrate --from HANDLE")
        if not row.old_url:
            raise BadInput("this account comes from files; give the command with --car again")
        if self._is_unbegun(row):
            # The password becomes this box's, too: it must have been shown to the old host in the same breath.
            begun = {
                "from": row.old_url,
                "account": row.did,
                "handle": row.handle,
                "rehearse": row.rehearse,
                "recovery_key": row.recovery_key,
            }
            return await self.begin({**begun, **answers}, report)
        return await self._run_on(answers, report)

    async def _run_on(self, answers: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Starts the stored job unless it runs, and follows it."""
        row = self._row()
        assert row is not None
        if not self._is_at_work():
            rehearse = bool(answers.get("rehearse"))
            ignore = row.ignore_preflight or bool(answers.get("ignore_preflight"))
            row = await self._change(row, rehearse=rehearse, ignore_preflight=ignore)
            self._start(row, {name: value for name, value in answers.items() if isinstance(value, str)})
        return await self._follow(report)

    async def abandon(self) -> dict[str, Any]:
        """Takes everything back that the job did, or without one what a tool began by createAccount; the old host keeps
        the account as it was.

        Raises NotFound if nothing is under way, BadInput once the identity leads here.
        """
        row = self._row()
        if row is None:
            return await self._abandon_arrival()
        if row.step == "done":
            raise NotFound("the move is done: there is nothing to take back")
        await self.stop()
        row = self._row()
        assert row is not None
        services = self._services
        account = services.account.account
        is_here = account is not None and account.did == row.did
        if row.is_moved or (is_here and await self._is_led_here(row)):
            raise BadInput(
                "the identity leads here already: there is nothing to go back to", hint="pds-lite migrate (to finish)"
            )
        with contextlib.suppress(PdsError):  # a host that is gone has no session either
            await self._old_host(row).sign_out()
        if is_here:
            await services.deletion.delete(row.did, announce=False)  # and with it the job, in the same step
        else:
            await services.store.write(migration_store.delete_migration, "migration")
        return {"state": "abandoned", "did": row.did, "handle": row.handle, "from": row.old_url}

    async def _abandon_arrival(self) -> dict[str, Any]:
        services = self._services
        account = services.account.account
        with services.store.read() as txn:
            last_seq = event_log.last_seq(txn)
        # Numbers of events are times: an account that has ever been active here has announced it since it came.
        if account is None or account.status != "deactivated" or last_seq > account.created_us:
            raise NotFound("no account is being moved here")
        if await leads_here(services):
            raise BadInput("the identity leads here already: there is nothing to go back to", hint=_ACTIVATE)
        await services.deletion.delete(account.did, announce=False)
        return {"state": "abandoned", "did": account.did, "handle": account.handle, "from": ""}

    async def _is_led_here(self, row: Migration) -> bool:
        """As the world sees it. Raises UpstreamFailure when that cannot be known and the identity may have moved."""
        try:
            return await leads_here(self._services)
        except PdsError:
            if row.step in _BEFORE_IDENTITY:
                return False
            raise

    def _state(self, row: Migration) -> str:
        if self._is_at_work():
            return "running"
        if row.step == "done":
            return "done"
        return "rehearsed" if row.rehearse and row.step == "identity" else "stopped"

    def _is_unbegun(self, row: Migration) -> bool:
        """True as long as the account's row is not here: nothing is lost by beginning anew."""
        return row.step == "account" and self._services.account.account is None and not self._is_at_work()

    def _is_at_work(self) -> bool:
        return self._task is not None and not self._task.done()

    # -- parts

    async def _find(self, named: str, account: object) -> tuple[str, str]:
        """(DID, origin of the old host). Raises BadInput or NotFound."""
        identity = self._services.identity
        is_url = "://" in named
        name = (str(account or "") if is_url else named).removeprefix("@")
        if not name:
            raise BadInput("whose account at that host?", hint="pds-lite migrate --from URL --account HANDLE")
        if is_did(name):
            did = name
        else:
            try:
                did = await identity.resolve_handle(parse_handle(name), refresh=True)
            except NotFound:
                if not is_url:
                    raise
                did = await self._ask_host(named, name)
        url = named.rstrip("/") if is_url else ((await identity.did_doc(did, refresh=True)).pds or "")
        if not is_origin(url):
            raise BadInput(f"{did} has no host that could be asked" if not is_url else "a host is named by its origin")
        if url == self._services.config.public_url and not is_url:
            raise BadInput(f"{name} lives here already", hint="pds-lite account show")
        return did, url

    async def _ask_host(self, url: str, handle: str) -> str:
        """The DID by the old host's own word: names for tests lead nowhere else."""
        host = self._host(url.rstrip("/"), lambda _line: None)
        try:
            did = (await host.get("com.atproto.identity.resolveHandle", signed_in=False, handle=handle)).get("did")
        except UpstreamFailure as problem:
            if problem.status >= 500:
                raise
            did = None
        if not isinstance(did, str) or not is_did(did):
            raise NotFound(f"{url} does not know {handle}")
        return did

    async def _prepare(self, did: str, old_url: str, wanted: Mapping[str, Any], report: Report) -> None:
        """Preflight and sign-in; then the job is stored. Raises Needs, BadInput."""
        services = self._services
        old = self._host(old_url, report)
        document = await services.identity.did_doc(did, refresh=True)
        handle = parse_handle(str(wanted.get("handle") or document.handle or ""))
        findings = await preflight.check_identity(services, did, old_url)
        findings += await preflight.check_box(services, did, handle)
        described = await _describe(old)
        findings += preflight.check_old_host(services, described, handle)
        _judge(findings, report, ignore=bool(wanted.get("ignore_preflight")), told=bool(wanted.get("asked_again")))
        password = wanted.get("password")
        if not password:
            raise Needs("password", f"the password of {handle} at {old_url}")
        if not MIN_PASSWORD <= len(str(password)) <= MAX_PASSWORD:
            text = f"the password becomes this box's, too, where it needs {MIN_PASSWORD} to {MAX_PASSWORD} characters"
            raise BadInput(text, hint="change it at the old host first")
        session = await sign_in(old, did, str(password), wanted.get("auth_factor"))
        try:
            if session.get("did") != did:
                raise BadInput(f"{old_url} let us in as {str(session.get('did'))[:100]}, not as {did}")
            await self._check_sizes(old, report)
            access, refresh = old.tokens
            row = Migration(
                did,
                handle,
                old_url,
                "account",
                services.clock.now_us(),
                rehearse=bool(wanted.get("rehearse")),
                ignore_preflight=bool(wanted.get("ignore_preflight")),
                access_jwt=access,
                refresh_jwt=refresh,
                recovery_key=str(wanted.get("recovery_key") or ""),
            )
            await services.store.write(lambda txn: migration_store.put_migration(txn, row), "migration")
        except PdsError:
            with contextlib.suppress(PdsError):
                await old.sign_out()
            raise

    async def _check_sizes(self, old: OldHost, report: Report) -> None:
        try:
            status = await old.get("com.atproto.server.checkAccountStatus")
        except UpstreamFailure as problem:
            if problem.status not in (400, 404, 501):
                raise
            status = {}  # a young server: how much there is shows as it comes
        _judge(preflight.check_sizes(self._services, status), report, ignore=False)

    def _host(self, url: str, report: Report) -> OldHost:
        """A host before there is a job to keep its tokens."""
        return OldHost(self._services.http, self._services.clock, url, say=report)

    def _old_host(self, row: Migration) -> OldHost:
        """The job's host, for its last question."""
        services = self._services
        return OldHost(services.http, services.clock, row.old_url, access=row.access_jwt, refresh=row.refresh_jwt)

    def _start(self, row: Migration, answers: Mapping[str, str]) -> None:
        self._task = asyncio.create_task(self._run(Job(self._services, row, answers, self._say)))

    async def _run(self, job: Job) -> dict[str, Any]:
        try:
            return await job.run()
        except PdsError as problem:
            log.info("the move of %s stopped: %s", job.row.did, problem.message)
            raise
        finally:
            self._news.set()

    def _say(self, line: str) -> None:
        self._told += 1
        self._lines.append((self._told, line))
        self._news.set()

    async def _follow(self, report: Report) -> dict[str, Any]:
        """Passes the lines on until the run ends; its outcome. A follower who leaves ends nothing."""
        task, heard = self._task, self._lines[-1][0] if self._lines else 0
        assert task is not None
        while True:
            self._news.clear()
            for number, line in list(self._lines):
                if number > heard:
                    heard = number
                    report(line)
            if task.cancelled():
                raise Unavailable("the move was stopped by another command", hint="pds-lite migrate --status")
            if task.done():
                return task.result()
            await self._news.wait()

    async def _change(self, row: Migration, **changes: Any) -> Migration:
        changed = replace(row, **changes)
        await self._services.store.write(lambda txn: migration_store.put_migration(txn, changed), "migration")
        return changed

    def _row(self) -> Migration | None:
        with self._services.store.read() as txn:
            return migration_store.get_migration(txn)


async def _describe(old: OldHost) -> dict[str, Any]:
    try:
        return await old.get("com.atproto.server.describeServer", signed_in=False)
    except UpstreamFailure as problem:
        hint = "later again; if that host is gone for good: pds-lite migrate --did DID --car FILE --recovery-key-stdin"
        raise UpstreamFailure(problem.message, hint=hint) from None


def _judge(findings: list[Finding], report: Report, *, ignore: bool, told: bool = False) -> None:
    """Tells them, if `told` only those that are not in order; raises BadInput with the first error."""
    for finding in findings:
        if finding.level != "ok" or not told:
            mark = {"ok": "ok  ", "warning": "WARN", "error": "STOP"}[finding.level]
            report(f"{mark} {finding.code}: {finding.text}")
    error = next((finding for finding in findings if finding.level == "error"), None)
    if error is not None and not ignore:
        hint = error.hint or "mend that, or --ignore-preflight, if you know better"
        raise BadInput(error.text, error="Preflight", hint=hint)
