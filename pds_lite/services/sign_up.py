"""Sign-up: how the one account comes to be. On the box itself (init), by createAccount, or by moving in from elsewhere.

Rules that hold here
- The first account is the only one; the claim code printed at init is the right to make it, and is spent with it.
- A new did:plc has the owner's recovery key first in rotationKeys and this box's key after it, so that the owner can
  overrule the box for 72 hours (protocol digest 7). Only the recovery key's public half is ever known here.
- A DID is published before its account is stored, or nothing is stored. Offline, the signed genesis waits in the row.
- An account that moves in (existing DID, service JWT of that DID) starts deactivated, announces nothing and has an
  empty repository that an import replaces.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import plc
from pds_lite.atproto.crypto.did_key import parse_did_key
from pds_lite.atproto.dag_cbor import encode
from pds_lite.atproto.syntax import is_reserved_handle, parse_handle
from pds_lite.errors import BadInput, BadKey, BadSyntax, PdsError, Unauthorized
from pds_lite.services.account import PUBLIC_PLC, check_email, hash_new_password
from pds_lite.services.repo_writer import AccountEvent, Announcement, CommitEvent, IdentityEvent, SyncEvent
from pds_lite.storage import account_store, failpoints, identity_store
from pds_lite.storage.account_store import Account
from pds_lite.storage.identity_store import PlcRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from pds_lite.services.account import Accounts
    from pds_lite.services.foundation import Foundation
    from pds_lite.storage.store import WriteTxn


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a person chooses at sign-up."""

    handle: str
    password: str
    email: str = ""
    did: str | None = None
    """An existing DID (move in, or did:web); None makes a did:plc."""
    recovery_key: str | None = None
    """did:key of the owner's recovery key, first in rotationKeys."""


class SignUp:
    """Makes the account."""

    def __init__(self, base: Foundation, accounts: Accounts) -> None:
        self._config, self._clock, self._store = base.config, base.clock, base.store
        self._keys, self._identity, self._repo = base.keys, base.identity, base.repo
        self._accounts = accounts

    async def create(
        self, wanted: NewAccount, *, publish: bool, before_it_is_stored: Callable[[Account], None] = lambda _: None
    ) -> Account:
        """A new account with a new DID, active at once. With `publish` the DID is at the directory before it returns.

        `before_it_is_stored` is called with it when nothing but the storing is left; if it raises, there is no account.
        Raises BadInput (AlreadyExists, InvalidHandle), UpstreamFailure when the directory does not take the operation.
        """
        handle = self._check_handle(wanted.handle)
        if self._config.dev and self._config.plc_url == PUBLIC_PLC:
            publish = False  # what is tried out on a desk must not stand in the public directory for ever
        did, operation = wanted.did, None
        if did is None:
            operation = self._genesis(handle, wanted.recovery_key)
            did = plc.did_of(operation)
        account = await self._row(wanted, did, handle, "active")
        if operation is not None and publish:
            await self._identity.publish_plc(did, operation)
        elif operation is not None:
            account = replace(account, plc_op=encode(operation))
        before_it_is_stored(account)
        cid = "" if operation is None else str(plc.op_cid(operation))
        await self._store_account(
            account,
            [IdentityEvent(handle), AccountEvent(True, None), CommitEvent(), SyncEvent()],
            lambda txn: identity_store.begin(txn, cid) if cid else identity_store.forget(txn),
        )
        return account

    async def move_in(self, wanted: NewAccount, requester: str | None) -> Account:
        """The row of an account whose DID exists; `requester` is the issuer of the service JWT shown.

        Raises Unauthorized unless that is the DID itself, BadInput (AlreadyExists, UnresolvableDid, InvalidHandle, or
        InvalidRequest for a handle that is not the DID's).
        """
        did = wanted.did
        assert did is not None
        if requester != did:
            raise Unauthorized(f"Missing auth to create account with did: {did}")
        handle = self._check_handle(wanted.handle)
        await self._check_handle_belongs(handle, did)
        account = await self._row(wanted, did, handle, "deactivated")
        recovery_key = _check_recovery_key(wanted.recovery_key) if wanted.recovery_key is not None else ""
        await self._store_account(
            account,
            [CommitEvent(silent=True)],
            lambda txn: identity_store.put_plc(txn, PlcRow(recovery_key=recovery_key)),
        )
        return account

    async def open_claim(self, code: str | None) -> None:
        """Lets the first account be made with this claim code; with None anyone may (development only).

        Raises BadInput on a box that has its account.
        """
        claim = OPEN_CLAIM if code is None else claim_digest(code)

        def change(txn: WriteTxn) -> None:
            if account_store.get_account(txn) is not None:
                raise _taken()
            account_store.put_claim(txn, claim)

        await self._store.write(change, "claim")

    @property
    def needs_code(self) -> bool:
        """False only on a box that lets anybody make its account (development)."""
        with self._store.read() as txn:
            return account_store.get_claim(txn) != OPEN_CLAIM

    def check_request(self, invite_code: str | None) -> None:
        """Whether anyone may sign up now: before any work is done for a stranger.

        Raises BadInput: AlreadyExists on a box with its account, InvalidInviteCode unless this is the claim code.
        """
        if self._accounts.account is not None:
            raise _taken()
        with self._store.read() as txn:
            claim = account_store.get_claim(txn)
        if claim is None:
            raise BadInput("this box takes no new account", error="InvalidInviteCode")
        if claim == OPEN_CLAIM:
            return
        if invite_code is None or not hmac.compare_digest(claim, claim_digest(invite_code)):
            raise BadInput("Provided invite code not available", error="InvalidInviteCode")

    def _check_handle(self, text: str) -> str:
        try:
            handle = parse_handle(text)
        except BadSyntax as problem:
            raise BadInput(problem.message, error="InvalidHandle") from None
        if is_reserved_handle(handle, self._config.dev):
            raise BadInput(f"handles under .{handle.rpartition('.')[2]} cannot be used", error="InvalidHandle")
        return handle

    async def _check_handle_belongs(self, handle: str, did: str) -> None:
        """A handle is proved by the DID document that claims it, or by its own resolution; test names are free, and the
        box's own name, which proves the handle only once there is an account.
        """
        if handle == self._config.hostname or (self._config.dev and handle.endswith(".test")):
            return
        try:
            doc = await self._identity.did_doc(did, refresh=True)
        except PdsError as problem:
            raise BadInput(f"the DID does not resolve: {problem.message}", error="UnresolvableDid") from None
        if handle in doc.handles:
            return
        try:
            found = await self._identity.resolve_handle(handle)
        except PdsError as problem:
            raise BadInput(f"External handle did not resolve to DID: {problem.message}") from None
        if found != did:
            raise BadInput(f"External handle did not resolve to DID: {handle} leads to {found}")

    def _genesis(self, handle: str, recovery_key: str | None) -> dict[str, Any]:
        rotation_keys = [self._keys.rotation.did_key]
        if recovery_key is not None and _check_recovery_key(recovery_key) not in rotation_keys:
            rotation_keys.insert(0, recovery_key)
        operation = plc.genesis(rotation_keys, self._keys.signing.did_key, handle, self._config.public_url)
        return plc.sign_op(operation, self._keys.rotation)

    async def _row(self, wanted: NewAccount, did: str, handle: str, status: str) -> Account:
        if wanted.email:
            check_email(wanted.email)
        now = self._clock.now_us()
        return Account(
            did=did,
            handle=handle,
            email=wanted.email.lower(),
            email_confirmed=False,
            password_hash=await hash_new_password(wanted.password),
            status=status,
            created_us=now,
            deactivated_us=now if status == "deactivated" else 0,
        )

    async def _store_account(
        self, account: Account, announce: list[Announcement], also: Callable[[WriteTxn], None]
    ) -> None:
        def change(txn: WriteTxn) -> None:
            if account_store.get_account(txn) is not None:
                raise _taken()
            account_store.put_account(txn, account)
            account_store.delete_claim(txn)
            also(txn)

        await self._repo.transact(change, announce)
        self._accounts.adopt(account)
        failpoints.hit("account.stored")


def _check_recovery_key(recovery_key: str) -> str:
    """The did:key as it is. Raises BadInput."""
    try:
        parse_did_key(recovery_key)
    except BadKey as problem:
        raise BadInput(f"recoveryKey: {problem.message}") from None
    return recovery_key


def _taken() -> BadInput:
    return BadInput("this server has its one account already", error="AlreadyExists", hint="pds-lite account show")


OPEN_CLAIM = b"open"
"""Kept in place of a digest by `init --no-claim-code`."""


def claim_digest(code: str) -> bytes:
    """How a claim code is kept: clients may type it in small letters or with spaces around."""
    return sha256(b"pds-lite claim code " + code.strip().upper().encode()).digest()
