"""AccountDeletion: the account and everything it had here goes, and the box is empty again.

Rules that hold here
- One durable step takes away the account's row, its passwords, sessions, codes and repository, gives the box another
  signing key, and announces #account deleted. After it the sync methods answer RepoNotFound and nobody can sign in.
- Records, blob files and old events are dropped after it in small steps; a power cut does not end that (`resume`).
- The DID is not ended: it stays its owner's, whose recovery key can lead it to another host. So the box's rotation key
  stays, too.
- The box takes another account only with a new claim code (`pds-lite account claim-code`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pds_lite.errors import BadInput
from pds_lite.services import key_store
from pds_lite.storage import account_store, erasure, event_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from pds_lite.services.account import Accounts
    from pds_lite.services.blobs import Blobs
    from pds_lite.services.key_store import Keys
    from pds_lite.services.repo_import import RepoImport
    from pds_lite.services.repo_writer import RepoWriter
    from pds_lite.services.sequencer import Sequencer
    from pds_lite.services.sessions import Sessions
    from pds_lite.services.sign_in_log import SignInLog
    from pds_lite.services.takedowns import Takedowns
    from pds_lite.storage.store import Store, WriteTxn


class AccountDeletion:
    """Deletes the account. `resume` belongs to the start."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        takedowns: Takedowns,
        sign_in_log: SignInLog,
        accounts: Accounts,
        sessions: Sessions,
        repo: RepoWriter,
        importer: RepoImport,
        blobs: Blobs,
        sequencer: Sequencer,
    ) -> None:
        self._store = store
        self._keys = keys
        self._takedowns = takedowns
        self._sign_in_log = sign_in_log
        self._accounts = accounts
        self._sessions = sessions
        self._repo = repo
        self._importer = importer
        self._blobs = blobs
        self._sequencer = sequencer

    async def delete(self, did: str, also: Callable[[WriteTxn], None] | None = None, *, announce: bool = True) -> None:
        """Deletes the account `did`; `also` is done first in the same step and may refuse.

        Without `announce` nobody is told: of an account that was moving in and lives elsewhere there is nothing to say.
        Raises BadInput if it is not here, Unavailable (ImportInProgress), and what `also` raises.
        """
        await self._importer.drop_idle()

        def change(txn: WriteTxn) -> None:
            account = account_store.get_account(txn)
            if account is None or account.did != did:
                raise BadInput("account not found")
            if also is not None:
                also(txn)
            erasure.erase_account(txn)
            key = key_store.make_signing_key()
            key_store.replace_signing(txn, key)
            self._repo.sign_with(txn, key)
            txn.after_commit(lambda: setattr(self._keys, "signing", key))
            txn.after_commit(lambda: self._accounts.adopt(None))

        await self._repo.erase(change, announce=announce)
        self._takedowns.forget()
        await self._sessions.end_all()
        await self._sign_in_log.forget()
        await self.resume()

    async def resume(self) -> None:
        """Drops what a deletion leaves behind; nothing on a box with an account."""
        with self._store.read() as txn:
            if account_store.get_account(txn) is not None:
                return
            last_seq, oldest_seq = event_log.last_seq(txn), event_log.oldest_seq(txn)
        if oldest_seq < last_seq:
            await self._sequencer.forget_before(last_seq)
        await self._importer.drop_idle()
        await self._blobs.sweep()
