"""Passkeys (WebAuthn): signing in to the pages by the device's own lock, without password or code.

The device proves its owner (user verification is required), so a passkey stands for both factors. Apps do not use them:
they have app passwords and OAuth, whose page takes passkeys.

Rules that hold here
- A passkey is bound to the public host name, and only answers given on the public URL count.
- A challenge belongs to one browser, lives five minutes and is answered once. It is a MAC over its time, so strangers
  who open the page store nothing here.
- A signature counter that goes back is a copied key: it is refused.
- The library (fido2) is imported when the first passkey is made or shown.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pds_lite import ujson
from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.errors import BadInput, Unauthorized
from pds_lite.services.oauth.nonces import Replays
from pds_lite.storage import sign_in_store
from pds_lite.storage.sign_in_store import Passkey

if TYPE_CHECKING:
    from fido2.server import Fido2Server

    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.services.account import Accounts
    from pds_lite.services.key_store import Keys
    from pds_lite.storage.store import Store

CHALLENGE_S = 300
MAX_ANSWER = 32 << 10
MAX_NAME = 60
_RANDOM, _MAC = 16, 24


class Passkeys:
    """The account's passkeys."""

    def __init__(self, config: Config, clock: Clock, store: Store, keys: Keys, accounts: Accounts) -> None:
        self._origin = config.public_url
        self._host = urlsplit(config.public_url).hostname or ""
        self._clock = clock
        self._store = store
        self._secret = hmac.digest(keys.jwt_secret, b"pds-lite passkey challenge", "sha256")
        self._accounts = accounts
        self._answered = Replays(clock, 2.0 * CHALLENGE_S, 4096, forget=True)

    def list(self) -> list[Passkey]:
        """All passkeys, oldest first."""
        with self._store.read() as txn:
            return sign_in_store.list_passkeys(txn)

    def creation_options(self, browser: str) -> dict[str, Any]:
        """What navigator.credentials.create() is called with, binary values in base64url."""
        from fido2.webauthn import PublicKeyCredentialUserEntity, ResidentKeyRequirement, UserVerificationRequirement

        account = self._accounts.require()
        user = PublicKeyCredentialUserEntity(
            id=account.did.encode()[:64], name=account.handle, display_name=f"@{account.handle}"
        )
        options, _state = self._server.register_begin(
            user,
            [_credential(row) for row in self.list()],
            ResidentKeyRequirement.REQUIRED,
            UserVerificationRequirement.REQUIRED,
            challenge=self._challenge(browser),
        )
        return dict(options)

    def request_options(self, browser: str) -> dict[str, Any]:
        """What navigator.credentials.get() is called with. It names no key: the device knows which it has."""
        from fido2.webauthn import UserVerificationRequirement

        options, _state = self._server.authenticate_begin(
            None, UserVerificationRequirement.REQUIRED, self._challenge(browser)
        )
        return dict(options)

    async def add(self, browser: str, name: str, answer: str) -> Passkey:
        """Stores the passkey that `answer` (the credential as JSON) brings. Raises BadInput."""
        name = name.strip()[:MAX_NAME] or "Passkey"
        response, state = self._open(browser, answer)
        from fido2.cose import UnsupportedKey

        try:
            data = self._server.register_complete(state, response)
        except Exception as problem:  # noqa: BLE001 - the library raises whatever its parsing of strange bytes meets
            raise BadInput(f"The passkey was not taken: {problem}") from None
        if data.credential_data is None or isinstance(data.credential_data.public_key, UnsupportedKey):
            raise BadInput("The passkey was not taken: it has a key that cannot be checked here")
        row = Passkey(
            id=bytes(data.credential_data.credential_id),
            credential=bytes(data.credential_data),
            name=name,
            created_us=self._clock.now_us(),
            counter=data.counter,
        )
        await self._store.write(lambda txn: sign_in_store.put_passkey(txn, row), "passkey")
        return row

    async def check(self, browser: str, answer: str) -> Passkey:
        """The passkey that signed this browser's challenge. Raises Unauthorized; the hint says what was wrong."""
        from fido2.webauthn import AuthenticationResponse

        rows = self.list()
        try:
            response, state = self._open(browser, answer)
            used = self._server.authenticate_complete(state, [_credential(row) for row in rows], response)
            shown = AuthenticationResponse.from_dict(response).response.authenticator_data
        except Exception as problem:  # noqa: BLE001 - as above; and strangers can send this
            raise Unauthorized("The passkey was not accepted", hint=f"Passkey: {problem}") from None
        row = next(row for row in rows if row.id == used.credential_id)
        if shown.counter <= row.counter and (shown.counter or row.counter):
            raise Unauthorized(
                "The passkey was not accepted", hint=f"The counter of “{row.name}” went back: it may have been copied"
            )
        row = replace(row, used_us=self._clock.now_us(), counter=shown.counter)
        await self._store.write(lambda txn: sign_in_store.put_passkey(txn, row), "passkey used", use_reserve=True)
        return row

    async def remove(self, passkey_id: str) -> None:
        """Takes a passkey away, by its id in base64url; one that is not there is no error. Raises BadInput."""
        raw = decode_base64url(passkey_id)
        await self._store.write(lambda txn: sign_in_store.delete_passkey(txn, raw), "passkey gone")

    @cached_property
    def _server(self) -> Fido2Server:
        from fido2.server import Fido2Server
        from fido2.webauthn import PublicKeyCredentialRpEntity

        rp = PublicKeyCredentialRpEntity(id=self._host, name=f"pds-lite at {self._host}")
        return Fido2Server(rp, verify_origin=lambda origin: origin == self._origin)

    def _challenge(self, browser: str) -> bytes:
        part = self._clock.now().to_bytes(8, "big") + secrets.token_bytes(_RANDOM)
        return part + self._mac(browser, part)

    def _mac(self, browser: str, part: bytes) -> bytes:
        return hmac.digest(self._secret, part + browser.encode(), "sha256")[:_MAC]

    def _open(self, browser: str, answer: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The answer's JSON and the library's state for its challenge. Raises BadInput unless it is one of ours."""
        if len(answer) > MAX_ANSWER:
            raise BadInput("The answer is too long")
        response = ujson.loads(answer.encode("utf-8", "replace"))
        try:
            client_data = ujson.loads(decode_base64url(response["response"]["clientDataJSON"]))
            text = client_data["challenge"]
            challenge = decode_base64url(text)
        except (TypeError, KeyError, AttributeError):
            raise BadInput("The answer is not that of a passkey") from None
        part, mac = challenge[: 8 + _RANDOM], challenge[8 + _RANDOM :]
        age = self._clock.now() - int.from_bytes(part[:8], "big")
        if not hmac.compare_digest(self._mac(browser, part), mac) or not 0 <= age <= CHALLENGE_S:
            raise BadInput("This took too long, or was begun elsewhere: try again")
        if not self._answered.first_use(text):
            raise BadInput("This was answered already: try again")
        return response, {"challenge": encode_base64url(challenge), "user_verification": "required"}


def _credential(row: Passkey) -> Any:
    from fido2.webauthn import AttestedCredentialData

    return AttestedCredentialData(row.credential)
