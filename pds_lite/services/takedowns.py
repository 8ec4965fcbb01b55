"""Takedowns: what the administrator hides (admin.updateSubjectStatus): the account, a record, a blob.

Rules that hold here
- A record that is hidden is not answered by getRecord and listRecords, a blob not by getBlob; the signed repository
  keeps both, since it must stay whole for everybody who verifies it.
- An account that is taken down makes no commits, its sessions end and sync says so (#account takendown). Giving it back
  restores whether it was active before.
- What is hidden is held in memory, so that reading costs nothing while nothing is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pds_lite.errors import AccountInactive, Unauthorized
from pds_lite.services.repo_writer import AccountEvent, Announcement, SyncEvent
from pds_lite.storage import erasure, takedown_store
from pds_lite.storage.takedown_store import Takedown

if TYPE_CHECKING:
    from pds_lite.atproto.cid import Cid
    from pds_lite.services.account import Accounts
    from pds_lite.services.sessions import Sessions
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import Store

TAKEN_DOWN = "takendown"


class Takedowns:
    """What is hidden. `start` reads it from the store."""

    def __init__(self, store: Store, accounts: Accounts, sessions: Sessions) -> None:
        self._store = store
        self._accounts = accounts
        self._sessions = sessions
        self._rows: dict[bytes, Takedown] = {}
        self.paths: frozenset[bytes] = frozenset()
        """Paths of hidden records."""

    def start(self) -> None:
        """Reads what is hidden."""
        with self._store.read() as txn:
            self._rows = {row.key: row for row in takedown_store.list_takedowns(txn)}
        self._index()

    def hides_blob(self, cid: Cid) -> bool:
        """Whether this blob is not to be served."""
        return bool(self._rows) and takedown_store.of_blob(cid).key in self._rows

    def of_record(self, path: bytes) -> Takedown | None:
        """The takedown of a record."""
        return self._rows.get(takedown_store.of_record(path).key)

    def of_blob(self, cid: Cid) -> Takedown | None:
        """The takedown of a blob."""
        return self._rows.get(takedown_store.of_blob(cid).key)

    async def hide(self, takedown: Takedown) -> None:
        """Hides a record or blob. Raises TooLarge."""
        await self._store.write(lambda txn: takedown_store.put_takedown(txn, takedown), "takedown")
        self._rows[takedown.key] = takedown
        self._index()

    async def show(self, takedown: Takedown) -> None:
        """Shows it again."""
        await self._store.write(lambda txn: takedown_store.delete_takedown(txn, takedown), "takedown")
        self._rows.pop(takedown.key, None)
        self._index()

    async def take_down(self, ref: str) -> None:
        """Takes the account down and ends its sessions."""

        def edit(account: Account) -> Account:
            before = account.status_before if account.status == TAKEN_DOWN else account.status
            return replace(account, status=TAKEN_DOWN, status_before=before, takedown_ref=ref)

        await self._accounts.change(edit, [AccountEvent(False, TAKEN_DOWN)], erasure.erase_sign_ins)
        await self._sessions.end_all()

    async def give_back(self) -> None:
        """Makes the account again what it was; nothing if it is not taken down."""
        account = self._accounts.require()
        if account.status != TAKEN_DOWN:
            return
        before = account.status_before or "deactivated"
        announce: list[Announcement] = [AccountEvent(False, before)]
        if before == "active":
            announce = [AccountEvent(True, None), SyncEvent()]
        await self._accounts.change(
            lambda account: replace(account, status=before, status_before="", takedown_ref=""), announce
        )

    def forget(self) -> None:
        """The account is gone, and what was hidden of it."""
        self._rows = {}
        self._index()

    def _index(self) -> None:
        self.paths = frozenset(row.path for row in self._rows.values() if row.path)


def require_readable(account: Account) -> None:
    """For what strangers read of a repository. Raises AccountInactive (RepoTakendown, RepoDeactivated)."""
    if account.status == TAKEN_DOWN:
        raise AccountInactive(f"Repo has been takendown: {account.did}", error="RepoTakendown", status=400)
    if account.status != "active":
        raise AccountInactive(f"Repo has been deactivated: {account.did}", error="RepoDeactivated", status=400)


def require_not_taken_down(account: Account) -> None:
    """Raises Unauthorized (AccountTakedown)."""
    if account.status == TAKEN_DOWN:
        raise Unauthorized("Account has been taken down", error="AccountTakedown")
