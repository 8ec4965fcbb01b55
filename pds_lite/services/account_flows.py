"""AccountFlows: e-mail address, password reset and deletion, each shown to be the owner's wish by a code.

Rules that hold here
- Everything works without a mail server: the code waits at the box (codes), a mail is only sent besides.
- A new address is unconfirmed until its code was typed, and voids the codes that went to the old one.
- A password reset ends all sessions. Asking for one answers the same for any address, at once, so that nobody learns
  the owner's.
- The names and sentences of refusals are the reference's; clients know them.
What deletion does to the store is account_deletion's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pds_lite.errors import BadInput, NotFound, PdsError
from pds_lite.services import codes
from pds_lite.services.account import check_email, hash_new_password
from pds_lite.services.codes import Purpose

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.account import Accounts
    from pds_lite.services.account_deletion import AccountDeletion
    from pds_lite.services.codes import Codes
    from pds_lite.services.mailer import Mailer
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import WriteTxn

log = logging.getLogger(__name__)

_WARNINGS = {
    Purpose.DELETE_ACCOUNT: "It deletes your account with everything in it, for good.",
    Purpose.PLC_OPERATION: "It lets your identity be changed or moved to another server.",
}


class AccountFlows:
    """What the owner confirms with a code."""

    def __init__(
        self, clock: Clock, accounts: Accounts, codes: Codes, mailer: Mailer, deletion: AccountDeletion
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._codes = codes
        self._mailer = mailer
        self._deletion = deletion
        self._running: set[asyncio.Task[None]] = set()

    async def request(self, purpose: Purpose) -> None:
        """Makes a code for the owner and sends it to the account's address, if there is one and a mail server."""
        account = self._accounts.require()
        code = await self._codes.issue(purpose)
        subject, text = code_mail(purpose, code, account.handle)
        self._mailer.post(account.email, subject, text)

    async def request_confirmation(self) -> None:
        """For requestEmailConfirmation. Raises BadInput without an address."""
        if not self._accounts.require().email:
            raise BadInput("account does not have an email address")
        await self.request(Purpose.CONFIRM_EMAIL)

    async def confirm_email(self, email: str, code: str) -> None:
        """For confirmEmail. Raises BadInput: InvalidEmail, InvalidToken, ExpiredToken."""
        if self._accounts.account is None:
            raise NotFound("user not found", error="AccountNotFound")
        if not _same(self._accounts.require().email, email):
            raise BadInput("invalid email", error="InvalidEmail")
        await self._codes.check(Purpose.CONFIRM_EMAIL, code)

        def edit(account: Account) -> Account:
            if not _same(account.email, email):
                raise BadInput("invalid email", error="InvalidEmail")
            return account.with_email(account.email, self._clock.now_us())

        await self._accounts.change(edit, also=lambda txn: self._codes.spend(txn, Purpose.CONFIRM_EMAIL, code))

    async def request_email_update(self) -> bool:
        """For requestEmailUpdate: whether a code is needed (one was made then)."""
        if not self._accounts.require().email_confirmed:
            return False
        await self.request(Purpose.UPDATE_EMAIL)
        return True

    async def update_email(self, email: str, code: str | None) -> None:
        """For updateEmail. Raises BadInput: TokenRequired, InvalidToken, ExpiredToken."""
        check_email(email)
        if not code and self._accounts.require().email_confirmed:
            raise BadInput("confirmation token required", error="TokenRequired")
        if code:
            await self._codes.check(Purpose.UPDATE_EMAIL, code)

        def also(txn: WriteTxn) -> None:
            if code:
                self._codes.spend(txn, Purpose.UPDATE_EMAIL, code)
            codes.forget_all(txn)

        await self._accounts.change(lambda account: account.with_email(email.lower()), also=also)

    async def set_email(self, email: str) -> None:
        """The owner at the box, or the administrator, sets the address, unconfirmed. Raises BadInput."""
        check_email(email)
        await self._accounts.change(lambda account: account.with_email(email.lower()), also=codes.forget_all)

    async def mark_confirmed(self) -> None:
        """The owner at the box says that the address is right: no mail can prove it better. Raises BadInput."""

        def edit(account: Account) -> Account:
            if not account.email:
                raise BadInput("There is no address yet.")
            return account.with_email(account.email, self._clock.now_us())

        await self._accounts.change(edit)

    async def request_password_reset(self, email: str) -> None:
        """For requestPasswordReset: a code if this is the account's address; nothing shows whether it is."""
        account = self._accounts.account
        if account is not None and _same(account.email, email):
            # Behind the answer: the time that a durable write takes would show.
            task = asyncio.create_task(self._offer_reset())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _offer_reset(self) -> None:
        try:
            await self.request(Purpose.RESET_PASSWORD)
        except PdsError as problem:
            log.warning("no code for a password reset: %s", problem.message)

    async def reset_password(self, code: str, password: str) -> None:
        """For resetPassword. Raises BadInput: InvalidToken, ExpiredToken, or for a password too short or too long."""
        await self._codes.check(Purpose.RESET_PASSWORD, code)
        password_hash = await hash_new_password(password)
        await self._accounts.change_password(
            password_hash, lambda txn: self._codes.spend(txn, Purpose.RESET_PASSWORD, code)
        )

    async def delete_account(self, did: str, code: str) -> None:
        """For deleteAccount, by somebody who showed the password. Raises BadInput (InvalidToken, ExpiredToken)."""
        await self._codes.check(Purpose.DELETE_ACCOUNT, code)
        await self._deletion.delete(did, lambda txn: self._codes.spend(txn, Purpose.DELETE_ACCOUNT, code))


def code_mail(purpose: Purpose, code: str, handle: str) -> tuple[str, str]:
    """(subject, text) of the mail with a code; the code stands in it once, and nothing else looks like one."""
    lines = [
        f"{codes.WORDS[purpose]}:",
        f"@{handle}",
        "",
        "Type this code where you were asked for it. It is good for one hour,",
        "and for one use.",
        "",
        f"    {code}",
        "",
        *((_WARNINGS[purpose], "") if purpose in _WARNINGS else ()),
        "If it was not you who asked, do nothing, and tell nobody the code.",
    ]
    return codes.WORDS[purpose], "\n".join(lines) + "\n"


def _same(email: str, shown: str) -> bool:
    return bool(email) and email.lower() == shown.strip().lower()
