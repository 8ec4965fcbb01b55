"""KeyRotation: a new signing key for the account, in an order that a power cut anywhere leaves mendable.

1. The next key is stored beside the present one.   Cut here: the next attempt uses it again.
2. The DID document is changed to it (PLC).         Cut here: `finish` sees the document and goes on with 3.
3. One step: it becomes the signing key, a fresh commit signed by it, #identity, #commit and #sync.
Between 2 and 3 commits still carry the old signature; the #sync of step 3 makes up for whatever was refused meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from pds_lite.atproto.syntax import is_plc_did
from pds_lite.errors import BadInput
from pds_lite.services import key_store
from pds_lite.services.repo_writer import CommitEvent, IdentityEvent, SyncEvent
from pds_lite.storage import failpoints

if TYPE_CHECKING:
    from pds_lite.atproto.crypto import K256Key
    from pds_lite.services.account import Accounts
    from pds_lite.services.foundation import Foundation
    from pds_lite.services.plc_account import PlcAccount
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import WriteTxn

log = logging.getLogger(__name__)


class KeyRotation:
    """Changes the signing key."""

    def __init__(self, base: Foundation, accounts: Accounts, plc: PlcAccount) -> None:
        self._config, self._store, self._keys = base.config, base.store, base.keys
        self._identity, self._repo = base.identity, base.repo
        self._accounts = accounts
        self._plc = plc

    @property
    def is_unfinished(self) -> bool:
        """Whether a rotation has begun and not ended."""
        return self._next() is not None

    async def rotate(self) -> str:
        """The did:key that signs from now on.

        Raises BadInput for an account that is not active, or a did:web of another host whose document must be changed
        first (the message says to what); UpstreamFailure.
        """
        async with self._plc.changing:
            account = self._accounts.require()
            if account.status != "active":
                raise BadInput("the account is not active here", hint="pds-lite account activate")
            key = self._next() or await self._prepare()
            waiting = account.plc_op
            if is_plc_did(account.did):
                did_key = key.did_key
                waiting = await self._plc.update(
                    lambda fields: {"verificationMethods": {**fields["verificationMethods"], "atproto": did_key}}
                )
            elif account.did != self._config.service_did and not await self._is_in_document(account, key):
                raise BadInput(
                    f"{account.did} is served by another host: put {key.did_key} into its document as #atproto,"
                    " then do this again"
                )
            failpoints.hit("rotate.published")
            await self._adopt(key, waiting)
            return key.did_key

    async def finish(self) -> bool:
        """Ends a rotation that a power cut ended between publishing and adopting the key; whether there was one.

        Raises UpstreamFailure while the directory does not answer.
        """
        async with self._plc.changing:
            key, account = self._next(), self._accounts.account
            if key is None or account is None or account.plc_op is not None:
                return False
            if account.status != "active" or not await self._is_in_document(account, key):
                return False
            log.warning("a rotation of the signing key was cut off: finishing it")
            await self._adopt(key, None)
            return True

    async def _prepare(self) -> K256Key:
        key = key_store.make_signing_key()
        await self._store.write(lambda txn: key_store.save_next(txn, key), "next key")
        failpoints.hit("rotate.prepared")
        return key

    async def _adopt(self, key: K256Key, waiting: bytes | None) -> None:
        def change(txn: WriteTxn) -> None:
            key_store.replace_signing(txn, key)
            self._repo.sign_with(txn, key)
            txn.after_commit(lambda: setattr(self._keys, "signing", key))

        handle = self._accounts.require().handle
        await self._accounts.change(
            lambda row: replace(row, plc_op=waiting), [IdentityEvent(handle), CommitEvent(), SyncEvent()], change
        )
        self._identity.forget(self._accounts.require().did)

    async def _is_in_document(self, account: Account, key: K256Key) -> bool:
        document = await self._identity.did_doc(account.did, refresh=True)
        return document.signing_key == key.did_key

    def _next(self) -> K256Key | None:
        with self._store.read() as txn:
            return key_store.load_next(txn)
