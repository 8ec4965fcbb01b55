"""The job: an account's way from another host to this box, step by step.

    account      sign in there; the account's row here, deactivated, on the old host's word (a service token)
    repo         the repository, imported; only what changed when it is done again
    blobs        what the records name (blob_copy)
    preferences  what apps keep in private
    compare      the commit and the counts of both hosts. A rehearsal ends here
    identity     the last thing asked of the owner: the code that the old host mails for the DID's new document
    deactivate   what came to the old host meanwhile; then the account rests there
    activate     and speaks from here
    retire       the old host again, if it could not be reached before

Rules that hold here
- Each step looks at how things are before it acts, so a job that ended anywhere is begun again at its step and does
  nothing twice. The step that comes next is stored before it is begun.
- Before the identity step nothing has changed for the world, and `abandon` leaves nothing behind.
- Never two active accounts: the old one rests before the new one speaks. A host that refuses stops the job, unless the
  owner activates by hand; only one that does not answer any more is passed over, since the identity leads here by then
  and nobody listens to it.
- What only the owner can give (`Needs`) ends the run; it goes on when it has been given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.errors import BadCar, BadCommit, BadInput, BadTree, PdsError, UpstreamFailure
from pds_lite.services.account_status import account_status
from pds_lite.services.migration import identity_step
from pds_lite.services.migration.blob_copy import BlobCopy, missing
from pds_lite.services.migration.comparison import compare_counts
from pds_lite.services.migration.needs import Needs
from pds_lite.services.migration.old_host import OldHost
from pds_lite.services.sign_up import NewAccount
from pds_lite.storage import failpoints, migration_store
from pds_lite.storage.migration_store import Migration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pds_lite.services.bundle import Services

STEPS = {
    "account": "making the account here, deactivated",
    "repo": "fetching the repository",
    "blobs": "fetching the blobs: pictures and videos",
    "preferences": "fetching the preferences",
    "compare": "comparing both hosts",
    "identity": "leading the identity here",
    "deactivate": "putting the account to rest at the old host",
    "activate": "activating the account here",
    "retire": "taking leave of the old host",
    "done": "",
}
"""In order, and what the owner is told of each."""
PAUSES_S = (5.0, 30.0, 120.0)
"""After each failure of a host; then the run ends."""
MAX_ROUNDS = 5
"""How often the copy is begun again in one run because the account was written to at the old host."""
REPORT_BYTES = 4 << 20
SHOWN_MISSING = 200
_WANTED_PREFERENCES = "app.bsky."
_CREATE = "com.atproto.server.createAccount"
_WRONG_CODE = frozenset({"AuthFactorTokenRequired", "InvalidToken", "ExpiredToken"})

Report = Callable[[str], None]
"""Takes a line for the owner."""


class Job:
    """One run of the stored job. `answers` holds what the owner has given; each is used once."""

    def __init__(self, services: Services, row: Migration, answers: Mapping[str, str], report: Report) -> None:
        self._services = services
        self.row = row
        self._answers = dict(answers)
        self._report = report
        self._rounds = 0
        self._old = OldHost(
            services.http,
            services.clock,
            row.old_url,
            self._keep_tokens,
            access=row.access_jwt,
            refresh=row.refresh_jwt,
            say=report,
        )

    async def run(self) -> dict[str, Any]:
        """Goes on until the job is done or needs something. Raises PdsError for what went wrong."""
        try:
            await self.save(is_running=True, problem="")
            while self.row.step != "done":
                if self.row.rehearse and self.row.step == "identity":
                    return await self._end("rehearsed", "everything is here; nothing has changed for the world")
                self._report(f"{self.row.step}: {STEPS[self.row.step]}")
                failpoints.hit(f"migrate.{self.row.step}")
                await self._step_with_patience()
            return await self._end("done", "the account lives here")
        except Needs as needs:
            return await self._end("needs", needs.text, needs=needs.what)
        except PdsError as problem:
            await self.save(is_running=False, problem=problem.message)
            raise

    async def _step_with_patience(self) -> None:
        """One step; a host that fails is asked again a little later."""
        for pause in (*PAUSES_S, None):
            try:
                await getattr(self, f"_{self.row.step}")()
                return
            except UpstreamFailure as problem:
                if problem.error == "SessionEnded":
                    await self._sign_in_again()
                elif pause is None or problem.status < 500:
                    raise
                else:
                    self._report(f"{problem.message}; trying again in {pause:.0f} s")
                    await asyncio.sleep(pause)

    async def save(self, **changes: Any) -> None:
        """Stores the job with these changes."""
        self.row = row = replace(self.row, **changes)
        await self._services.store.write(lambda txn: migration_store.put_migration(txn, row), "migration")

    def take(self, what: str) -> str | None:
        """What the owner gave, once."""
        return self._answers.pop(what, None) or None

    def say(self, text: str) -> None:
        """A line for the owner."""
        self._report(text)

    @property
    def services(self) -> Services:
        return self._services

    @property
    def old(self) -> OldHost:
        return self._old

    async def _next(self, step: str, **changes: Any) -> None:
        failpoints.hit(f"migrate.{self.row.step}.done")
        await self.save(step=step, **changes)

    async def _end(self, state: str, text: str, **more: Any) -> dict[str, Any]:
        await self.save(is_running=False)
        return {"state": state, "text": text, **more, **job_view(self._services, self.row)}

    async def _keep_tokens(self, access: str, refresh: str) -> None:
        await self.save(access_jwt=access, refresh_jwt=refresh)

    async def _sign_in_again(self) -> None:
        password = self.take("password")
        if password is None:
            raise Needs("password", f"the session at {self.row.old_url} has ended; its password is needed again")
        await sign_in(self._old, self.row.did, password, self.take("auth_factor"))

    # -- the steps

    async def _account(self) -> None:
        services, row = self._services, self.row
        if services.account.account is None:
            password = self.take("password")
            if password is None:
                raise Needs("password", f"the password of {row.handle} at {row.old_url}")
            principal = await services.service_auth.accept(await self._proof(), _CREATE)
            email = (await self._old.get("com.atproto.server.getSession")).get("email")
            wanted = NewAccount(
                row.handle,
                password,
                email if isinstance(email, str) else "",
                did=row.did,
                recovery_key=row.recovery_key or None,
            )
            await services.sign_up.move_in(wanted, principal.did)
            self._report("the account is here, deactivated; its password is that of the old host")
        elif services.account.require().did != row.did:
            raise BadInput("this box has another account")
        await self._next("repo")

    async def _proof(self) -> str:
        """The old host's word, as a service token, that the account's owner wants it here."""
        aud = self._services.config.service_did
        try:
            answer = await self._old.get("com.atproto.server.getServiceAuth", aud=aud, lxm=_CREATE)
        except UpstreamFailure as problem:
            if problem.status not in (400, 401, 403) or problem.error == "SessionEnded":
                raise
            hint = "pds-lite migrate, with the account's own password: an app password may not move it"
            raise BadInput(f"the old host does not let the account go: {problem.message}", hint=hint) from None
        return str(answer.get("token"))

    async def _repo(self) -> None:
        await self._import_if_changed()
        await self._next("blobs")

    async def _import_if_changed(self) -> None:
        if not await self._is_behind():
            return
        since = self._imported_rev()
        try:
            await self._import(since)
        except (BadCar, BadTree):
            if since is None:
                raise
            # The old host left out what it takes to be here, a record that came back, say.
            await self._import(None)

    def _imported_rev(self) -> str | None:
        """The rev of the old host's that is here, None before the first import."""
        head = self._services.repo.head
        if head is None:
            return None
        try:
            verify_commit(decode_commit(head.commit_block), self._services.repo.did_key)
        except BadCommit:
            return head.rev
        return None

    async def _import(self, since: str | None) -> None:
        params = {"did": self.row.did} | ({"since": since} if since else {})
        async with self._old.stream("com.atproto.sync.getRepo", **params) as answer:
            length = answer.headers.get("content-length", "")
            await self._services.importer.run(self._counted(answer), int(length) if length.isdigit() else None)
        head = self._services.repo.head
        assert head is not None
        self._report(f"the repository is here, rev {head.rev}")

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        received = told = 0
        async for chunk in chunks:
            received += len(chunk)
            if received - told >= REPORT_BYTES:
                self._report(f"repository: {received >> 20} MB")
                told = received
            yield chunk

    async def _blobs(self) -> None:
        await self._copy_blobs()
        await self._next("preferences")

    async def _copy_blobs(self) -> None:
        last = 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            now = self._services.clock.monotonic()
            if done == total or now - last >= 1:
                last = now
                self._report(f"blobs: {done} of {total}")

        services = self._services
        left = await BlobCopy(services.store, services.blobs, self._old, self.row.did, report).run()
        if left:
            self._report(f"{len(left)} blobs could not be had")

    async def _preferences(self) -> None:
        try:
            given = (await self._old.get("app.bsky.actor.getPreferences")).get("preferences")
            listed = given if isinstance(given, list) else []
            wanted = [each for each in listed if isinstance(each, dict) and _is_ours(each.get("$type"))]
            await self._services.preferences.put(wanted, full_access=True)
            self._report(f"preferences: {len(wanted)}")
        except UpstreamFailure as problem:
            if problem.status not in (400, 404, 501):
                raise
            self._report(f"no preferences to take along: {problem.message}")
        except BadInput as problem:
            self._report(f"the preferences of the old host cannot be kept here: {problem.message}")
        await self._next("compare")

    async def _compare(self) -> None:
        if await self._is_behind():
            await self._again()
            return
        here = await asyncio.to_thread(account_status, self._services.store)
        await compare_counts(self._old, here, self._report)
        self._report(f"the commit is the same on both hosts: {here['repoCommit']}")
        if here["importedBlobs"] < here["expectedBlobs"] and not self.row.accept_missing:
            if self.take("accept_missing") is None:
                gone = here["expectedBlobs"] - here["importedBlobs"]
                raise Needs("accept_missing", f"{gone} blobs could not be had; try again, or go on without them")
            await self.save(accept_missing=True)
        await self._next("identity")

    async def _is_behind(self) -> bool:
        """True if the account was written to at the old host since it was imported."""
        latest = await self._old.get("com.atproto.sync.getLatestCommit", did=self.row.did)
        head = self._services.repo.head
        return head is None or latest.get("cid") != str(head.commit)

    async def _again(self) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise UpstreamFailure(
                "the account is being written to at the old host; try again when it is quiet", status=400
            )
        self._report("the account was written to at the old host; fetching what changed")
        await self.save(step="repo")

    async def _identity(self) -> None:
        if not await identity_step.leads_here(self._services):
            if await self._is_behind():
                await self._again()
                return
            await identity_step.move_identity(self)
        await self._next("deactivate", is_moved=True, signed_op=b"")
        self._report("the identity leads here")

    async def _deactivate(self) -> None:
        try:
            if not self._services.account.active:
                await self._import_if_changed()
                await self._copy_blobs()
        except (UpstreamFailure, BadInput) as problem:
            if problem.error == "SessionEnded":
                raise
            self._report(f"WARN what was written at the old host in the last minutes may be lost: {problem.message}")
        try:
            await self._rest_there()
        except UpstreamFailure as problem:
            if problem.error == "SessionEnded":
                raise
            if problem.status < 500 and not self._services.account.active:
                raise UpstreamFailure(
                    f"the old host keeps the account active: {problem.message}; two may not be active at once",
                    status=400,
                    hint="pds-lite migrate, once it rests there; if that host never lets go: pds-lite account activate",
                ) from None
            self._report(f"WARN the old host does not put the account to rest: {problem.message}")
        await self._next("activate")

    async def _is_active_there(self) -> bool:
        """As the old host tells everybody; False too if it does not know the account any more."""
        try:
            status = await self._old.get("com.atproto.sync.getRepoStatus", signed_in=False, did=self.row.did)
        except UpstreamFailure:
            return False
        return status.get("active") is not False

    async def _rest_there(self) -> None:
        if not self.row.is_old_inactive:
            try:
                await self._old.post("com.atproto.server.deactivateAccount", {})
            except UpstreamFailure as problem:
                if problem.error == "SessionEnded" or problem.status >= 500 or await self._is_active_there():
                    raise
            await self.save(is_old_inactive=True)
            self._report(f"the account rests at {self.row.old_url}")

    async def _activate(self) -> None:
        if not self._services.account.active:
            await self._services.account.activate()
        self._services.crawlers.ask_now()
        self._report("the account is active here")
        await self._next("retire")

    async def _retire(self) -> None:
        try:
            await self._rest_there()
        except UpstreamFailure as problem:
            if problem.error == "SessionEnded":
                raise
            raise UpstreamFailure(
                f"the account lives here now, but the old host could not be told: {problem.message}",
                status=400,
                hint="pds-lite migrate, when that host answers again; nobody listens to it any more",
            ) from None
        try:
            await self._old.sign_out()
        except UpstreamFailure as problem:
            self._report(f"the session at the old host was not ended: {problem.message}")
        await self._next("done", access_jwt="", refresh_jwt="")


async def sign_in(old: OldHost, identifier: str, password: str, code: str | None) -> dict[str, Any]:
    """Opens a session at the old host. Raises Needs for a second factor, BadInput for a wrong password."""
    try:
        return await old.sign_in(identifier, password, code)
    except UpstreamFailure as problem:
        if code is not None and problem.error in _WRONG_CODE:
            raise Needs("auth_factor", f"{old.url} does not take that sign-in code; wait for the next one") from None
        if problem.error == "AuthFactorTokenRequired":
            raise Needs(
                "auth_factor", f"{old.url} wants a sign-in code: out of its e-mail, or of your authenticator app"
            ) from None
        if problem.status in (400, 401):
            raise BadInput(
                f"{old.url} does not let us in: {problem.message}",
                hint="the account's own password at that host, no app password",
            ) from None
        raise


def _is_ours(kind: object) -> bool:
    return isinstance(kind, str) and kind.startswith(_WANTED_PREFERENCES)


def job_view(services: Services, row: Migration) -> dict[str, Any]:
    """The job for --json and for the page: where it stands, and each blob that is not here with its reason."""
    with services.store.read() as txn:
        wanted = islice(missing(services.store), SHOWN_MISSING)
        entries = {cid: migration_store.get_entry(txn, cid) for cid in wanted}
    return {
        "did": row.did,
        "handle": row.handle,
        "from": row.old_url,
        "step": row.step,
        "doing": STEPS.get(row.step, ""),
        "rehearse": row.rehearse,
        "running": row.is_running,
        "moved": row.is_moved,
        "problem": row.problem,
        "missing_blobs": [
            {"cid": str(cid), "state": entry.state, "tries": entry.tries, "reason": entry.reason or "not tried yet"}
            for cid, entry in entries.items()
        ],
    }
