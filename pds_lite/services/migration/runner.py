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
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.did_doc import is_origin
from pds_lite.atproto.syntax import is_did, parse_handle
from pds_lite.errors import BadInput, NotFound, PdsError
from pds_lite.services.migration import preflight
from pds_lite.services.migration.job import Job, job_view, sign_in
from pds_lite.services.migration.needs import Needs
from pds_lite.services.migration.old_host import OldHost
from pds_lite.storage import migration_store
from pds_lite.storage.migration_store import Migration

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.services.migration.job import Report
    from pds_lite.services.migration.preflight import Finding

log = logging.getLogger(__name__)

KEPT_LINES = 200


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
        """The job, None if there is none."""
        row = self._row()
        return None if row is None else job_view(self._services, row)

    async def begin(self, wanted: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Begins a job, or goes on with the one of the same account, and follows it.

        `wanted`: from (handle, DID or URL), account (with a URL), handle, password, auth_factor, recovery_key,
        rehearse, ignore_preflight. Raises BadInput with what the preflight found, and what the job raises.
        """
        row = self._row()
        if row is None or (row.step == "account" and self._services.account.account is None):
            did, old_url = await self._find(str(wanted["from"]), wanted.get("account"))
            try:
                row = await self._prepare(did, old_url, wanted, report)
            except Needs as needs:
                return {"state": "needs", "needs": needs.what, "text": needs.text, "did": did, "from": old_url}
        elif wanted.get("from"):
            did, _old_url = await self._find(str(wanted["from"]), wanted.get("account"))
            if did != row.did:
                raise BadInput(f"{row.did} is being moved already", hint="pds-lite migrate --status")
        return await self.go_on(wanted, report)

    async def go_on(self, answers: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Goes on with the stored job, or follows it if it runs. Raises NotFound without one, and what it raises."""
        row = self._row()
        if row is None:
            raise NotFound("no account is being moved here", hint="pds-lite migrate --from HANDLE")
        if not row.old_url:
            raise BadInput("this account comes from files; give the command with --car again")
        if self._task is None or self._task.done():
            rehearse = bool(answers.get("rehearse"))
            ignore = row.ignore_preflight or bool(answers.get("ignore_preflight"))
            row = await self._change(row, rehearse=rehearse, ignore_preflight=ignore)
            self._start(row, {name: value for name, value in answers.items() if isinstance(value, str)})
        return await self._follow(report)

    async def abandon(self) -> dict[str, Any]:
        """Takes everything back that the job did; the old host keeps the account as it was.

        Raises NotFound without a job, BadInput once the identity leads here.
        """
        row = self._row()
        if row is None or row.step == "done":
            raise NotFound("no account is being moved here")
        await self.stop()
        row = self._row()
        assert row is not None
        services = self._services
        account = services.account.account
        is_here = account is not None and account.did == row.did
        if row.is_moved or (is_here and await services.account.did_document_leads_here()):
            raise BadInput(
                "the identity leads here already: there is nothing to go back to", hint="pds-lite migrate (to finish)"
            )
        with contextlib.suppress(PdsError):  # a host that is gone has no session either
            await self._old_host(row).sign_out()
        if is_here:
            await services.deletion.delete(row.did, announce=False)
        await services.store.write(migration_store.delete_migration, "migration")
        return {"state": "abandoned", "did": row.did, "from": row.old_url}

    # -- parts

    async def _find(self, named: str, account: object) -> tuple[str, str]:
        """(DID, origin of the old host). Raises BadInput or NotFound."""
        identity = self._services.identity
        is_url = "://" in named
        name = str(account or "") if is_url else named
        if not name:
            raise BadInput("whose account at that host?", hint="pds-lite migrate --from URL --account HANDLE")
        if is_did(name):
            did = name
        else:
            try:
                did = await identity.resolve_handle(parse_handle(name.removeprefix("@")), refresh=True)
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
        host = self._anonymous(url.rstrip("/"))
        answer = await host.get("com.atproto.identity.resolveHandle", signed_in=False, handle=handle)
        did = answer.get("did") if isinstance(answer, dict) else None
        if not isinstance(did, str) or not is_did(did):
            raise NotFound(f"{url} does not know {handle}")
        return did

    async def _prepare(self, did: str, old_url: str, wanted: Mapping[str, Any], report: Report) -> Migration:
        """Preflight and sign-in; the job, stored. Raises Needs, BadInput."""
        services = self._services
        old = self._anonymous(old_url)
        document = await services.identity.did_doc(did, refresh=True)
        handle = parse_handle(str(wanted.get("handle") or document.handle or ""))
        findings = await preflight.check_identity(services, did, old_url)
        findings += await preflight.check_box(services, did, handle)
        described = await old.get("com.atproto.server.describeServer", signed_in=False)
        findings += preflight.check_old_host(services, described, handle)
        _judge(findings, report, ignore=bool(wanted.get("ignore_preflight")))
        password = wanted.get("password")
        if not password:
            raise Needs("password", f"the password of {handle} at {old_url}")
        session = await sign_in(old, did, str(password), wanted.get("auth_factor"))
        if session.get("did") != did:
            raise BadInput(f"{old_url} let us in as {session.get('did')}, not as {did}")
        status = await old.get("com.atproto.server.checkAccountStatus")
        _judge(preflight.check_sizes(services, status), report, ignore=False)
        access, refresh = self._tokens
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
        )
        await services.store.write(lambda txn: migration_store.put_migration(txn, row), "migration")
        return row

    def _anonymous(self, url: str) -> OldHost:
        """A host before there is a job to keep its tokens."""
        self._tokens = ("", "")

        async def keep(access: str, refresh: str) -> None:
            self._tokens = (access, refresh)

        return OldHost(self._services.http, self._services.clock, url, keep)

    def _old_host(self, row: Migration) -> OldHost:
        async def keep(_access: str, _refresh: str) -> None:
            """The job is about to go."""

        services = self._services
        return OldHost(services.http, services.clock, row.old_url, keep, access=row.access_jwt, refresh=row.refresh_jwt)

    def _start(self, row: Migration, answers: Mapping[str, str]) -> None:
        self._task = asyncio.create_task(self._run(Job(self._services, row, answers, self._say)))

    async def _run(self, job: Job) -> dict[str, Any]:
        try:
            return await job.run()
        except PdsError as problem:
            log.warning("the move of %s stopped: %s", job.row.did, problem.message)
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


def _judge(findings: list[Finding], report: Report, *, ignore: bool) -> None:
    """Tells all; raises BadInput with the first error."""
    for finding in findings:
        mark = {"ok": "ok  ", "warning": "WARN", "error": "STOP"}[finding.level]
        report(f"{mark} {finding.code}: {finding.text}")
    error = next((finding for finding in findings if finding.level == "error"), None)
    if error is not None and not ignore:
        raise BadInput(
            error.text, error="Preflight", hint="pds-lite migrate ... --ignore-preflight, if you know better"
        )
