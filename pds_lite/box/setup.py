"""First run: from an empty data directory to a box with its account, or one that waits for it with a claim code.

Rules that hold here
- What is shown once (password, recovery key) is handed to the caller for showing and kept nowhere; the account is
  stored only after that, so that no power cut leaves one whose recovery key nobody has seen. Of the recovery key only
  the public half ever reaches the DID document. A claim code that nobody has seen can be made anew.
- A genesis made without a network waits in the account's row; nothing here needs the internet unless asked to publish.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.multibase import encode_base58
from pds_lite.config import FILE_NAME
from pds_lite.services import passwords
from pds_lite.services.sign_up import NewAccount
from pds_lite.storage import account_store
from pds_lite.storage.store import DATA_FILE, STORE_FOLDER, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pds_lite.config import Config
    from pds_lite.services.bundle import Services
    from pds_lite.storage.account_store import Account

K256_PRIVATE = b"\x81\x26"
"""Multicodec of a secp256k1 private key, as a varint: the form other atproto tools take a rotation key in."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What init has to say. None where there is nothing to show."""

    did: str | None = None
    handle: str | None = None
    password: str | None = None
    """Only one made here; a password that was given is not repeated."""
    recovery_key: str | None = None
    """The private key as a multibase multikey."""
    claim_code: str | None = None


def is_prepared(data_dir: Path) -> bool:
    """Whether an earlier preparation came to its end. One that a power cut ended left no account and no claim, and may
    begin again. Raises StoreBroken.
    """
    if not (data_dir / FILE_NAME).exists() or not (data_dir / STORE_FOLDER / DATA_FILE).exists():
        return False
    store = Store.open_readonly(data_dir / STORE_FOLDER)
    try:
        with store.read() as txn:
            return account_store.get_account(txn) is not None or account_store.get_claim(txn) is not None
    finally:
        store.close()


def default_handle(config: Config) -> str:
    """The host name itself, since it resolves without DNS records of its own; a local test name in development."""
    return "me.test" if config.dev else config.hostname


async def make_account(
    services: Services,
    *,
    handle: str | None,
    email: str,
    password: str | None,
    did_method: str,
    publish: bool,
    show: Callable[[Prepared], None] = lambda _: None,
) -> Prepared:
    """The account with a new DID: `plc` (with a new recovery key), or `web` for the host name itself.

    When `show` returns, a person has been shown what it was given. Raises BadInput, or UpstreamFailure when the DID was
    to be published and could not be; then nothing was stored.
    """
    chosen = password or passwords.make_password()
    recovery_key = K256Key.generate(secrets.token_bytes(40)) if did_method == "plc" else None
    wanted = NewAccount(
        handle=handle or default_handle(services.config),
        password=chosen,
        email=email,
        did=services.config.service_did if did_method == "web" else None,
        recovery_key=recovery_key.did_key if recovery_key else None,
    )

    def prepared(account: Account) -> Prepared:
        return Prepared(
            did=account.did,
            handle=account.handle,
            password=None if password else chosen,
            recovery_key=encode_base58(K256_PRIVATE + recovery_key.export()) if recovery_key else None,
        )

    account = await services.sign_up.create(
        wanted,
        publish=publish and did_method == "plc",
        before_it_is_stored=lambda account: show(prepared(account)),
    )
    return prepared(account)


async def wait_for_claim(services: Services, *, with_code: bool) -> Prepared:
    """Leaves the box empty; the claim code is the inviteCode of the one createAccount it will take."""
    code = passwords.make_code() if with_code else None
    await services.sign_up.open_claim(code)
    return Prepared(claim_code=code)
