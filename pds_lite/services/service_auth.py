"""Service auth: the short JWTs one atproto service shows another (protocol digest 9, specs/xrpc).

`ServiceAuth.mint` makes them for the account's own use of other services; `ServiceAuth.accept` judges those shown to
this server (a video service that uploads for us, a move of an account to this box). The pure part, signature and
claims, is atproto/service_auth. What must not be minted stands in the tables here.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

from pds_lite.atproto import service_auth
from pds_lite.atproto.service_auth import ServiceToken
from pds_lite.atproto.syntax import is_account_did, is_nsid
from pds_lite.errors import BadInput, PdsError, Unauthorized
from pds_lite.services.access import Kind, Principal, is_privileged

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.services.account import Accounts
    from pds_lite.services.identity import Identity
    from pds_lite.services.key_store import Keys

DEFAULT_TTL_S = 60
MAX_TTL_S = 3600
MAX_TTL_WITHOUT_METHOD_S = 60
REUSE_S = 30
"""A token is used again while this much of its life is left, so that it never expires on its way."""
MAX_REMEMBERED = 256

PROTECTED = frozenset(
    {
        "com.atproto.admin.sendEmail",
        "com.atproto.identity.requestPlcOperationSignature",
        "com.atproto.identity.signPlcOperation",
        "com.atproto.identity.updateHandle",
        "com.atproto.server.activateAccount",
        "com.atproto.server.confirmEmail",
        "com.atproto.server.createAppPassword",
        "com.atproto.server.deactivateAccount",
        "com.atproto.server.deleteAccount",
        "com.atproto.server.getAccountInviteCodes",
        "com.atproto.server.getSession",
        "com.atproto.server.listAppPasswords",
        "com.atproto.server.requestAccountDelete",
        "com.atproto.server.requestEmailConfirmation",
        "com.atproto.server.requestEmailUpdate",
        "com.atproto.server.revokeAppPassword",
        "com.atproto.server.updateEmail",
    }
)
"""Account management: no service may hold a token for it."""
_FRAGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]+", re.ASCII)
"""RFC 3986 3.5, but not empty."""
_PROTECTED_LOWER = frozenset(nsid.lower() for nsid in PROTECTED)


def is_protected(nsid: str) -> bool:
    """True for account management, however its NSID is written."""
    return nsid.lower() in _PROTECTED_LOWER


class ServiceAuth:
    """Makes and judges service JWTs."""

    def __init__(self, config: Config, clock: Clock, keys: Keys, identity: Identity, accounts: Accounts) -> None:
        self._audiences = (config.service_did, f"{config.service_did}#atproto_pds")
        self._clock = clock
        self._keys = keys
        self._identity = identity
        self._accounts = accounts
        self._remembered: OrderedDict[tuple[str, str, str], tuple[int, str]] = OrderedDict()

    def mint_for_client(self, principal: Principal, aud: str, lxm: str | None, exp: int | None) -> str:
        """getServiceAuth: a token in the account's name, within what its session may do.

        `aud` is a DID or `did#service`, `exp` seconds since the epoch. Raises BadInput (BadExpiration).
        """
        if not is_audience(aud):
            raise BadInput("aud must be a DID or did#service reference")
        if lxm is not None and not is_nsid(lxm):
            raise BadInput("lxm must be an NSID")
        if lxm is not None and is_protected(lxm):
            raise BadInput(f"cannot request a service auth token for the following protected method: {lxm}")
        if principal.taken_down and lxm != "com.atproto.server.createAccount":
            raise BadInput("Bad token scope", error="InvalidToken")
        principal.require_rpc(lxm or "*", aud)
        if lxm is not None and principal.scopes is None and is_privileged(lxm) and not principal.privileged:
            raise BadInput(f"insufficient access to request a service auth token for the following method: {lxm}")
        return self.mint(aud, lxm, self._check_expiry(exp, lxm))

    def mint(self, aud: str, lxm: str | None, exp: int | None = None) -> str:
        """A token in the account's name, good for a minute unless `exp` (seconds since the epoch) says otherwise."""
        now = self._clock.now()
        did = self._accounts.require().did
        jti = secrets.token_hex(16)
        return service_auth.mint(self._keys.signing, did, aud, lxm, now, exp or now + DEFAULT_TTL_S, jti)

    def token_for_read(self, aud: str, lxm: str) -> str:
        """Like `mint`, for a query: a token not half-way through its life is used again. Signing is the dearest part
        of passing a call on. A procedure gets a token of its own, since its service may take each token only once.
        """
        key = (self._accounts.require().did, aud, lxm)
        now = self._clock.now()
        expires, token = self._remembered.get(key, (0, ""))
        if not REUSE_S < expires - now <= DEFAULT_TTL_S:
            expires, token = now + DEFAULT_TTL_S, self.mint(aud, lxm)
            self._remembered[key] = (expires, token)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return token

    async def accept(self, token: str, nsid: str, *, only_own_account: bool = False) -> Principal:
        """The issuer of a token made for this server and for `nsid`. Raises Unauthorized.

        `only_own_account` refuses any issuer but the account that lives here.
        """
        shown = service_auth.read(token, self._audiences, nsid, self._clock.now())
        account = self._accounts.account
        is_own = account is not None and shown.iss == account.did
        if only_own_account and not is_own:
            raise Unauthorized("the token is not the account's own", error="BadJwtIss")
        if is_own and shown.verify(self._keys.signing.did_key):
            return Principal(Kind.SERVICE, shown.iss, lxm=shown.lxm)
        # An account in mid-move is ours already, while its document still names the old host's key.
        if only_own_account or not await self._verified_by_document(shown):
            raise service_auth.bad_signature()
        return Principal(Kind.SERVICE, shown.iss, lxm=shown.lxm)

    async def _verified_by_document(self, shown: ServiceToken) -> bool:
        """Asks the issuer's DID document, and once more freshly: a key may have been changed since it was cached."""
        for refresh in (False, True):
            try:
                document = await self._identity.did_doc(shown.iss, refresh=refresh)
            except PdsError as problem:
                raise Unauthorized(f"could not resolve {shown.iss}: {problem.message}", error="BadJwtIss") from None
            if document.signing_key is not None and shown.verify(document.signing_key):
                return True
        return False

    def _check_expiry(self, exp: int | None, lxm: str | None) -> int | None:
        if exp is None:
            return None
        left = exp - self._clock.now()
        if left < 0:
            raise BadInput("expiration is in past", error="BadExpiration")
        if left > MAX_TTL_S:
            raise BadInput(
                "cannot request a token with an expiration more than an hour in the future", error="BadExpiration"
            )
        if lxm is None and left > MAX_TTL_WITHOUT_METHOD_S:
            raise BadInput(
                "cannot request a method-less token with an expiration more than a minute in the future",
                error="BadExpiration",
            )
        return exp


def is_audience(aud: str) -> bool:
    """A did:plc or did:web, or one and a service fragment. Local hosts are fine: the owner may build a service."""
    did, mark, fragment = aud.partition("#")
    return is_account_did(did, dev=True) and (not mark or _FRAGMENT.fullmatch(fragment) is not None)
