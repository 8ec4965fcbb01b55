"""HandleCheck: whether the handle leads to the account's DID, and the DID document back to it, for everybody else.

Rules that hold here
- Looked up as strangers do it, DNS or HTTPS and the document's home, never answered from what the box believes; but the
  box's own host name is taken when the look-up fails, as in handle_change.
- Anybody can ask (describeRepo), so there is one look-up at a time, at most one a minute for a handle, and nobody waits
  for it longer than WAIT_S.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.errors import PdsError

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.services.account import Accounts
    from pds_lite.services.identity import Identity
    from pds_lite.storage.account_store import Account

WAIT_S = 5.0
AGAIN_S = 60.0
"""Until a handle that was wrong is looked up again; a right one is for PDS_LITE_DID_CACHE_S, if that is longer."""


@dataclass(frozen=True, slots=True)
class _Found:
    did: str
    handle: str
    correct: bool
    until: float

    def is_about(self, account: Account) -> bool:
        return (self.did, self.handle) == (account.did, account.handle)


class HandleCheck:
    """Knows the answer of the last look-up."""

    def __init__(self, config: Config, clock: Clock, identity: Identity, accounts: Accounts) -> None:
        self._config = config
        self._clock = clock
        self._identity = identity
        self._accounts = accounts
        self._found: _Found | None = None
        self._asking: asyncio.Task[None] | None = None

    async def is_correct(self) -> bool:
        """The answer, from memory or looked up; False while there is none."""
        account = self._accounts.require()
        found = self._found
        if found is not None and found.is_about(account) and found.until > self._clock.monotonic():
            return found.correct
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(account), name="handle check")
        await asyncio.wait([self._asking], timeout=WAIT_S)
        found = self._found
        return found is not None and found.is_about(account) and found.correct

    async def _ask(self, account: Account) -> None:
        correct = await self._leads_here(account) and await self._is_named(account)
        pause = max(AGAIN_S, self._config.did_cache_s) if correct else AGAIN_S
        self._found = _Found(account.did, account.handle, correct, self._clock.monotonic() + pause)

    async def _leads_here(self, account: Account) -> bool:
        try:
            return await self._identity.resolve_handle(account.handle, refresh=True) == account.did
        except PdsError:
            return account.handle == self._config.hostname

    async def _is_named(self, account: Account) -> bool:
        if account.plc_op is not None and not account.handle.endswith(".test"):
            return False  # nobody else can look the DID up yet; .test names mean something on their own box alone
        try:
            document = await self._identity.did_doc(account.did, refresh=True)
        except PdsError:
            return False
        return document.handle == account.handle
