"""HandleChange: updateHandle. A handle becomes the account's only when it leads to the account's DID.

Rules that hold here
- The handle is looked up as the rest of the network will do it (DNS TXT, then HTTPS), and a refusal says what was found
  where. While it is being looked up the box itself vouches for it under its own name, since a host name that points at
  this box is proved by this box (`answers_for`). The box's own host name is taken even when the look-up fails: many
  home routers do not let a box reach itself under its public name. `.test` names of a development box need no proof.
- First the DID document, then the row and #identity in one step. A power cut between them is mended by asking again:
  an identity that has the handle already is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pds_lite.atproto.syntax import is_plc_did, is_reserved_handle, parse_handle
from pds_lite.errors import BadInput, BadSyntax, PdsError
from pds_lite.services.own_document import with_handle
from pds_lite.services.repo_writer import IdentityEvent
from pds_lite.services.takedowns import require_not_taken_down

if TYPE_CHECKING:
    from pds_lite.config import Config
    from pds_lite.services.account import Accounts
    from pds_lite.services.identity import Identity
    from pds_lite.services.plc_account import PlcAccount
    from pds_lite.storage.account_store import Account


class HandleNotProved(BadInput):
    """The handle does not lead to the account. `told` says the same to its owner."""

    def __init__(self, found: str, told: str) -> None:
        super().__init__(f"External handle did not resolve to DID: {found}")
        self.told = told


class HandleChange:
    """Changes the account's handle."""

    def __init__(self, config: Config, identity: Identity, accounts: Accounts, plc: PlcAccount) -> None:
        self._config = config
        self._identity = identity
        self._accounts = accounts
        self._plc = plc
        self._candidate: str | None = None

    def answers_for(self, host: str) -> bool:
        """Whether /.well-known/atproto-did answers under this host name: the handle's, and one that is being proved."""
        account = self._accounts.account
        return account is not None and host in (account.handle, self._candidate)

    async def update(self, text: str) -> None:
        """Makes `text` the handle. Raises BadInput (InvalidHandle, or how it does not lead here), UpstreamFailure."""
        async with self._plc.changing:
            account = self._accounts.require()
            require_not_taken_down(account)
            handle = self._parse(text)
            await self._prove(handle, account)
            waiting = account.plc_op
            if is_plc_did(account.did):
                waiting = await self._plc.update(
                    lambda fields: {"alsoKnownAs": with_handle(fields["alsoKnownAs"], handle)}
                )
            elif account.did != self._config.service_did:
                await self._check_foreign_document(handle, account)
            self._identity.forget(account.did)
            await self._accounts.change(
                lambda row: replace(row, handle=handle, plc_op=waiting), [IdentityEvent(handle)]
            )

    def _parse(self, text: str) -> str:
        try:
            handle = parse_handle(text)
        except BadSyntax as problem:
            raise BadInput(problem.message, error="InvalidHandle") from None
        if is_reserved_handle(handle, self._config.dev):
            ending = handle.rpartition(".")[2]
            raise BadInput(f"Handle TLD is invalid or disallowed: .{ending}", error="InvalidHandle")
        return handle

    async def _prove(self, handle: str, account: Account) -> None:
        if self._config.dev and handle.endswith(".test"):
            return
        self._candidate = handle
        try:
            did = await self._identity.resolve_handle(handle, refresh=True)
        except PdsError as problem:
            if handle == self._config.hostname:
                return
            found = problem.message.partition(": ")[2] or problem.message
            raise HandleNotProved(problem.message, f"the name {handle} does not lead to you yet: {found}") from None
        finally:
            self._candidate = None
        if did != account.did:
            mend = f"set the TXT record of _atproto.{handle} to did={account.did}"
            raise HandleNotProved(
                f"{handle} leads to {did}, not to {account.did}; {mend}",
                f"the name {handle} leads to {did}, not to you: {mend}",
            )

    async def _check_foreign_document(self, handle: str, account: Account) -> None:
        document = await self._identity.did_doc(account.did, refresh=True)
        if document.handle != handle:
            raise BadInput(f"DID is not properly configured for handle: its document names {document.handle or 'none'}")
