"""Accounts: the one account of the box. Its row, its passwords, and whether it is active here.

Rules that hold here
- The row is held in memory and changes only once the change is durable; an empty box has none. `change` is the only way
  it changes: it edits the row that the transaction finds, so that two changes at once both last.
- A change of status and the events that announce it are one transaction (`RepoWriter.transact`).
- An account is activated only when its DID document leads here: otherwise two hosts would speak for it. A genesis
  operation that waits to be published counts as the document, so that a box works on a bench without internet.
- An app password has 80 random bits, so a plain digest of it is kept; the owner's password is argon2id's work.
How the account comes to be is sign_up's business.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import plc
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.syntax import is_handle
from pds_lite.errors import BadCommit, BadInput, NotFound, PdsError, Unauthorized, UpstreamFailure
from pds_lite.services import passwords
from pds_lite.services.own_document import own_document, waiting_operations
from pds_lite.services.repo_writer import AccountEvent, Announcement, CommitEvent, IdentityEvent, SyncEvent
from pds_lite.storage import account_store, erasure
from pds_lite.storage.account_store import Account, AppPassword

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pds_lite.atproto.plc import Operation
    from pds_lite.services.foundation import Foundation
    from pds_lite.services.sessions import Sessions
    from pds_lite.storage.store import WriteTxn

PUBLIC_PLC = "https://plc.directory"
MAX_APP_PASSWORDS = 100
MIN_PASSWORD = 8
MAX_PASSWORD = 256
"""Characters of a new password."""
MAX_PASSWORD_SHOWN = 512
"""Characters of a password at sign-in; longer ones are not hashed at all."""

_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?P<host>.{{3,189}})", re.ASCII)
"""RFC 5321's Dot-string at a host name; without quotes, comments and address literals, which are mistakes today."""


class LeadsElsewhere(BadInput):
    """The DID document names another server, or another key."""


@dataclass(frozen=True, slots=True)
class Login:
    """Which secret opened the door."""

    app_password: str | None
    """Name of the app password; None for the owner's own."""
    privileged: bool


class Accounts:
    """The account and what its owner does to it. `start` reads it from the store."""

    def __init__(self, base: Foundation, sessions: Sessions) -> None:
        self._config, self._clock, self._store = base.config, base.clock, base.store
        self._keys, self._identity, self._repo = base.keys, base.identity, base.repo
        self._sessions = sessions
        self._account: Account | None = None

    def start(self) -> None:
        """Reads the account."""
        with self._store.read() as txn:
            self._account = account_store.get_account(txn)

    @property
    def account(self) -> Account | None:
        """The account's row, None on an empty box."""
        return self._account

    @property
    def active(self) -> bool:
        """There is an account, and it is active here."""
        return self._account is not None and self._account.status == "active"

    @property
    def is_public(self) -> bool:
        """Active, and with a DID that others can resolve: there is something for a relay to crawl."""
        return self.active and self.require().plc_op is None

    def require(self) -> Account:
        """The account. Raises NotFound on an empty box."""
        if self._account is None:
            raise _no_account()
        return self._account

    def adopt(self, account: Account | None) -> None:
        """Takes over a row that another service has just stored, or that it is gone."""
        self._account = account

    async def change(
        self,
        edit: Callable[[Account], Account],
        announce: Sequence[Announcement] = (),
        also: Callable[[WriteTxn], None] | None = None,
    ) -> Account:
        """Stores `edit` of the row, and what `also` does, and the events, in one step. Raises what they raise."""

        def step(txn: WriteTxn) -> Account:
            account = account_store.get_account(txn)
            if account is None:
                raise _no_account()
            edited = edit(account)
            account_store.put_account(txn, edited)
            if also is not None:
                also(txn)
            # On the writer thread, so that memory follows even when whoever asked has hung up.
            txn.after_commit(lambda: self.adopt(edited))
            return edited

        if not announce:
            return await self._store.write(step, "account")
        changed = await self._repo.transact(step, announce)
        assert changed is not None
        return changed

    async def log_in(self, identifier: str, password: str, before_guess: Callable[[], None] = lambda: None) -> Login:
        """Checks a DID, handle or e-mail address and a password or app password. Raises Unauthorized.

        The hint of the error says what was wrong, for the owner's eyes. `before_guess` is called, and may raise, before
        the owner's password is looked at.
        """
        account = self._account
        if len(password) > MAX_PASSWORD_SHOWN:
            raise _wrong_password("The password was longer than any password can be")
        if account is None or not _names(account, identifier):
            if "@" in identifier[1:]:
                # DID and handle are public; that an e-mail address is not the owner's must not show in the time taken.
                before_guess()
                await passwords.verify_password(None, password)
            raise _wrong_password("There is no account of that name here")
        app_password = self._find_app_password(password)
        if app_password is not None:
            return Login(app_password.name, app_password.privileged)
        before_guess()
        if not await passwords.verify_password(account.password_hash, password):
            raise _wrong_password("The password was wrong")
        return Login(None, privileged=True)

    async def set_password(self, password: str) -> None:
        """Replaces the owner's password and ends every session. Raises BadInput for one too short or too long."""
        self.require()
        password_hash = await hash_new_password(password)
        await self.change_password(password_hash)

    async def change_password(self, password_hash: str, also: Callable[[WriteTxn], None] = lambda _txn: None) -> None:
        """Stores the hash, does `also`, and ends every session in one step: a power cut leaves all of it or none."""

        def in_one_step(txn: WriteTxn) -> None:
            also(txn)
            erasure.erase_sign_ins(txn)

        await self.change(lambda account: replace(account, password_hash=password_hash), also=in_one_step)
        await self._sessions.end_all()

    # -- app passwords

    async def create_app_password(self, name: str, *, privileged: bool) -> tuple[AppPassword, str]:
        """A new app password: its row, and the only sight of its text. Raises BadInput for a name in use."""
        self.require()
        if not 0 < len(name) <= 128:
            raise BadInput("the name of an app password has 1 to 128 characters")
        text = passwords.make_app_password()
        row = AppPassword(name, _digest(text), privileged, self._clock.now_us())

        def change(txn: WriteTxn) -> None:
            rows = list(account_store.list_app_passwords(txn))
            if any(other.name == name for other in rows):
                raise BadInput(f"there is an app password named {name[:128]!r} already")
            if len(rows) >= MAX_APP_PASSWORDS:
                raise BadInput(f"there are {MAX_APP_PASSWORDS} app passwords already; revoke one first")
            account_store.put_app_password(txn, row)

        await self._store.write(change, "app password")
        return row, text

    def list_app_passwords(self) -> list[AppPassword]:
        """All app passwords, oldest first."""
        with self._store.read() as txn:
            return sorted(account_store.list_app_passwords(txn), key=lambda row: row.created_us)

    async def revoke_app_password(self, name: str) -> None:
        """Deletes an app password and ends its sessions; one that is not there is no error, as upstream."""
        await self._store.write(
            lambda txn: account_store.delete_app_password(txn, name), "revoke app password", use_reserve=True
        )
        await self._sessions.end_of_app_password(name)

    def _find_app_password(self, text: str) -> AppPassword | None:
        if not passwords.is_app_password(text):
            return None
        digest = _digest(text)
        found = [row for row in self.list_app_passwords() if hmac.compare_digest(row.hash, digest)]
        return found[0] if found else None

    # -- active or not

    async def activate(self) -> None:
        """Makes the account speak from here, and announces it also when it was active: a lost #account event mutes it.

        Raises LeadsElsewhere while the DID document does.
        """
        account = self.require()
        if account.status == "takendown":
            raise Unauthorized("Account has been taken down", error="AccountTakedown")
        await self.check_did_document()
        announce: list[Announcement] = [AccountEvent(True, None), IdentityEvent(account.handle)]
        if not self._head_is_ours():
            announce.append(CommitEvent())
        announce.append(SyncEvent())
        await self.change(lambda account: replace(account, status="active", deactivated_us=0), announce)

    async def deactivate(self) -> None:
        """Stops the account here; reading and moving out go on. Nothing happens when it is deactivated already.

        One that is taken down will be deactivated when it is given back.
        """
        now = self._clock.now_us()
        if self.active:
            await self.change(
                lambda account: replace(account, status="deactivated", deactivated_us=now),
                [AccountEvent(False, "deactivated")],
            )
        elif self.require().status_before == "active":
            await self.change(lambda account: replace(account, status_before="deactivated", deactivated_us=now))

    async def publish(self) -> None:
        """Publishes a DID that was made offline, and what was changed since; nothing happens if that was done before.

        Raises UpstreamFailure, or BadInput for a development box that knows no directory but the public one.
        """
        account = self.require()
        if account.plc_op is None:
            return
        if self._config.dev and self._config.plc_url == PUBLIC_PLC:
            raise BadInput("a development box is not published to the public directory", hint="set PDS_LITE_PLC_URL")
        published = account.plc_op
        for operation in waiting_operations(published):
            try:
                await self._identity.publish_plc(account.did, operation)
            except UpstreamFailure:
                # An earlier attempt whose answer was lost is refused now; the hash says that it is the same one.
                if not await self._is_in_log(account.did, operation):
                    raise
        await self.change(lambda row: replace(row, plc_op=None) if row.plc_op == published else row)

    async def _is_in_log(self, did: str, operation: Operation) -> bool:
        try:
            log = plc.audit(did, await self._identity.plc.audit_log(did))
        except PdsError:
            return False
        return any(entry.cid == str(plc.op_cid(operation)) for entry in log.entries)

    async def did_document_leads_here(self) -> bool:
        """checkAccountStatus.validDid."""
        try:
            await self.check_did_document()
        except PdsError:
            return False
        return True

    def did_document(self) -> dict[str, Any] | None:
        """The account's DID document as this box knows it, None while it leads elsewhere.

        Clients follow its endpoint at sign-in; one that still names the old host would send them away in mid-move.
        """
        account = self._account
        if account is None or account.status != "active":
            return None
        with self._store.read() as txn:
            return own_document(txn, account, self._keys.signing.did_key, self._config.public_url)

    async def check_did_document(self) -> None:
        """Raises LeadsElsewhere if the DID document does, NotFound or UpstreamFailure if it cannot be had."""
        account = self.require()
        if account.plc_op is not None:
            return
        if account.did == self._config.service_did:
            return  # did:web on this very host: the document is the one we serve
        doc = await self._identity.did_doc(account.did, refresh=True)
        if doc.pds != self._config.public_url:
            raise LeadsElsewhere(f"the DID document names {doc.pds or 'no PDS'}, not {self._config.public_url}")
        if doc.signing_key != self._keys.signing.did_key:
            raise LeadsElsewhere("the DID document has another signing key than this server")

    def _head_is_ours(self) -> bool:
        """True if relays can verify the head with the key that the DID document has now."""
        head = self._repo.head
        if head is None:
            return False
        try:
            verify_commit(decode_commit(head.commit_block), self._keys.signing.did_key)
        except BadCommit:
            return False
        return True


def check_email(email: str) -> None:
    """Raises BadInput for what is not one address, or of a host without a dot: that is a mistyped one."""
    parts = _EMAIL.fullmatch(email)
    if parts is None or not is_handle(parts["host"]):
        raise BadInput("This email address is not supported, please use a different email.")


async def hash_new_password(password: str) -> str:
    """The argon2id hash of a password chosen now. Raises BadInput."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadInput(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return await passwords.hash_password(password)


def _no_account() -> NotFound:
    return NotFound("this server has no account yet", error="AccountNotFound", hint="pds-lite init")


def _names(account: Account, identifier: str) -> bool:
    name = identifier.strip().removeprefix("@").lower()
    return name in (account.did.lower(), account.handle.lower()) or (
        bool(account.email) and name == account.email.lower()
    )


def _digest(text: str) -> bytes:
    return sha256(b"pds-lite app password " + text.encode()).digest()


def _wrong_password(reason: str) -> Unauthorized:
    return Unauthorized("Invalid identifier or password", hint=reason)
