"""Access: from an Authorization header to a Principal, or a refusal by name.

Rules that hold here
- Every XRPC method states one Access; nothing else decides who may call it. The comment of each member is the whole
  rule for app passwords: they never get OWNER methods.
- No credential is 401 AuthMissing. A credential of the wrong kind is 400 InvalidToken, an expired or revoked one
  400 ExpiredToken: clients refresh on that name and give up on any other (protocol digest 12).
- An OAuth session is let in wherever a session is, OWNER methods too: what it may do there says its scopes, which are
  asked by the router (the scope in the method's row) and by handlers (`Principal.require_*`). Sessions by password
  have no scopes and pass all of those.
- This runs before every authenticated request, so it only looks at memory: sessions are held there by `sessions`.
- The administrator's password is guessed no faster than the owner's (throttle).
- It must not know about HTTP beyond the header's text, nor about the records it protects.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pds_lite.atproto.service_auth import names_method
from pds_lite.errors import Forbidden, OAuthError, RateLimited, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable

    from pds_lite.atproto.oauth_scope import ScopeSet
    from pds_lite.config import Config
    from pds_lite.services.oauth.provider import OAuth
    from pds_lite.services.service_auth import ServiceAuth
    from pds_lite.services.sessions import Sessions
    from pds_lite.services.throttle import Throttle

MAX_HEADER = 8192
"""Bytes of an Authorization header; our own tokens are near 400."""


class Access(Enum):
    """Who may call a method."""

    PUBLIC = "public"
    """Anyone; the Authorization header is not looked at."""
    OPTIONAL = "optional"
    """Anyone; a session or the administrator's credential, if shown, must be good and is given to the handler."""
    LENIENT = "lenient"
    """Anyone; a session, if shown and good, is given to the handler. Any other credential counts for nothing: clients
    show what they have to whatever host they read from, and what is public stays so.
    """
    SESSION = "session"
    """Any session of the account, app passwords too."""
    OWNER = "owner"
    """A session opened with the account's own password."""
    REFRESH = "refresh"
    """A refresh token."""
    REFRESH_EXPIRED = "refresh-expired"
    """A refresh token, expired ones too: ending a session must always work."""
    ADMIN = "admin"
    """Basic admin:PDS_LITE_ADMIN_PASSWORD."""
    SERVICE = "service"
    """A service JWT made for this method and this server."""
    SESSION_OR_SERVICE = "session-or-service"
    """Any session, or a service JWT made by the account itself for this method."""
    OPTIONAL_SERVICE = "optional-service"
    """Anyone; a service JWT, if shown, must be good and is given to the handler."""


class Kind(Enum):
    """What a principal showed."""

    NOBODY = "nobody"
    OWNER = "owner"
    APP = "app-password"
    REFRESH = "refresh"
    SERVICE = "service"
    ADMIN = "admin"
    OAUTH = "oauth"


ANY_SCOPE = "atproto"
"""In a method's row: any OAuth session may call it."""
HANDLER_ASKS = "in the handler"
"""In a method's row: the scope depends on what is asked, and the handler requires it."""


@dataclass(frozen=True, slots=True)
class DpopRequest:
    """What a DPoP proof is made for: the method and the path of a request, and the proof shown with it."""

    proof: str | None
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the outcome of AccessControl.authenticate."""

    kind: Kind
    did: str | None = None
    """The account (sessions) or the issuer (service JWT)."""
    session_id: str | None = None
    privileged: bool = False
    """May reach chat and make tokens for createAccount: the owner's password, or a privileged app password."""
    token_id: str | None = None
    """The jti of a refresh token."""
    lxm: str | None = None
    scopes: ScopeSet | None = None
    """Of an OAuth session; None for everybody else."""
    client_id: str | None = None
    taken_down: bool = False
    """Of a session that was opened while the account was taken down."""

    @property
    def is_account(self) -> bool:
        """Speaks for the account: a session of any kind."""
        return self.kind is Kind.OWNER or self.kind is Kind.APP or self.kind is Kind.OAUTH

    def allows_rpc(self, lxm: str, aud: str) -> bool:
        """May have `lxm` called in the account's name at a service, named as `did#service`."""
        if self.scopes is not None:
            return self.scopes.allows_rpc(lxm, aud)
        return self.privileged or not is_privileged(lxm)

    def allows_account(self, attr: str, action: str) -> bool:
        """May read or manage an attribute of the account: email, repo, status."""
        return self.scopes is None or self.scopes.allows_account(attr, action)

    def require(self, scope: str | None) -> None:
        """Raises Forbidden unless an OAuth session may call a method whose row names `scope`; None is closed to it."""
        if self.scopes is None or scope in (ANY_SCOPE, HANDLER_ASKS):
            return
        if scope is None:
            raise Forbidden("OAuth credentials are not supported for this endpoint")
        from pds_lite.atproto.oauth_scope import Account, Identity, parse_permission

        permission = parse_permission(scope)
        if isinstance(permission, Account):
            allowed = all(self.scopes.allows_account(permission.attr, action) for action in permission.actions)
        else:
            allowed = isinstance(permission, Identity) and self.scopes.allows_identity(permission.attr)
        if not allowed:
            raise _scope_missing(scope)

    def require_rpc(self, lxm: str, aud: str) -> None:
        """Raises Forbidden (ScopeMissingError) for an OAuth session that may not call `lxm` of the service `aud`."""
        if self.scopes is not None and not self.scopes.allows_rpc(lxm, aud):
            from pds_lite.atproto.oauth_scope import needed_rpc

            raise _scope_missing(needed_rpc(lxm, aud))

    def require_repo(self, collection: str, action: str) -> None:
        """The same for a write: `action` is create, update or delete."""
        if self.scopes is not None and not self.scopes.allows_repo(collection, action):
            from pds_lite.atproto.oauth_scope import needed_repo

            raise _scope_missing(needed_repo(collection, action))

    def require_blob(self, mime_type: str) -> None:
        """The same for an upload."""
        if self.scopes is not None and not self.scopes.allows_blob(mime_type):
            from pds_lite.atproto.oauth_scope import needed_blob

            raise _scope_missing(needed_blob(mime_type))


def _scope_missing(scope: str) -> Forbidden:
    return Forbidden(f'Missing required scope "{scope}"', error="ScopeMissingError")


NOBODY = Principal(Kind.NOBODY)


def is_privileged(nsid: str) -> bool:
    """Methods that a plain app password may neither proxy nor get a token for: direct messages, moving away.

    The domain part of an NSID reads the same in any case, so `Chat.Bsky` is no way around.
    """
    nsid = nsid.lower()
    return nsid.startswith("chat.bsky.") or nsid == "com.atproto.server.createaccount"


MOVING_OUT = frozenset(
    {
        "app.bsky.actor.getPreferences",
        "com.atproto.identity.requestPlcOperationSignature",
        "com.atproto.identity.signPlcOperation",
        "com.atproto.moderation.createReport",
        "com.atproto.server.deactivateAccount",
        "com.atproto.server.getServiceAuth",
        "com.atproto.sync.getBlob",
        "com.atproto.sync.getRepo",
        "com.atproto.sync.listBlobs",
    }
)
"""What a session of an account that is taken down may call: the reference's methods with the scope takendown."""

_NEEDS_NOTHING = frozenset({Access.OPTIONAL, Access.LENIENT, Access.OPTIONAL_SERVICE})
_TAKES_SESSION = frozenset({Access.OPTIONAL, Access.SESSION, Access.OWNER, Access.SESSION_OR_SERVICE})
_TAKES_SERVICE = frozenset({Access.SERVICE, Access.SESSION_OR_SERVICE, Access.OPTIONAL_SERVICE})
_TAKES_ADMIN = frozenset({Access.ADMIN, Access.OPTIONAL})
_TAKES_REFRESH = frozenset({Access.REFRESH, Access.REFRESH_EXPIRED})


class AccessControl:
    """Judges Authorization headers."""

    def __init__(
        self,
        config: Config,
        sessions: Sessions,
        service_auth: ServiceAuth,
        oauth: Callable[[], OAuth],
        throttle: Throttle,
    ) -> None:
        self._oauth = oauth
        self._throttle = throttle
        self._admin_password = config.admin_password
        self._sessions = sessions
        self._service_auth = service_auth

    async def authenticate(
        self,
        authorization: str | None,
        access: Access,
        nsid: str,
        dpop: DpopRequest | None = None,
        address: str = "",
    ) -> Principal:
        """The principal that calls `nsid` from `address`. Raises Unauthorized with the status and name its docstring
        above tells, RateLimited where the administrator's password was guessed too often.

        `dpop` is the request around the header, without which an OAuth token is nothing. Raises OAuthError (401) for
        one that is not good.
        """
        if access is Access.PUBLIC:
            return NOBODY
        if not authorization:
            if access in _NEEDS_NOTHING:
                return NOBODY
            raise _not_the_admin() if access is Access.ADMIN else _no_token()
        if access is not Access.LENIENT:
            return await self._judge(authorization, access, nsid, dpop, address)
        try:
            return await self._judge(authorization, Access.OPTIONAL, nsid, dpop, address)
        except (Unauthorized, OAuthError, RateLimited) as problem:
            if problem.error == "use_dpop_nonce":
                raise  # the token may be good, and the client tries again by itself
            return NOBODY

    async def _judge(
        self, authorization: str, access: Access, nsid: str, dpop: DpopRequest | None, address: str
    ) -> Principal:
        """Whose the credential is. Raises as `authenticate` does."""
        scheme, _, credential = authorization.partition(" ")
        if len(authorization) > MAX_HEADER:
            raise _wrong("The Authorization header is too long")
        match scheme.lower():
            case "bearer":
                return await self._bearer(credential.strip(), access, nsid)
            case "dpop" if access in _TAKES_SESSION and dpop is not None:
                return self._dpop(credential.strip(), dpop)
            case "dpop" | "basic" if access in _TAKES_REFRESH:  # as the reference: no token of the kind was shown
                raise _no_token()
            case "basic":
                return self._basic(credential.strip(), access, address)
        if access is Access.ADMIN:
            raise _not_the_admin()
        raise _wrong("Unexpected authorization type, expected Bearer")

    async def _bearer(self, token: str, access: Access, nsid: str) -> Principal:
        if access in _TAKES_SESSION and self._sessions.looks_like_ours(token):
            principal = self._sessions.check_access(token)
            if principal.taken_down and nsid not in MOVING_OUT:
                raise _wrong("Bad token scope: the account has been taken down")
            if access is Access.OWNER and principal.kind is not Kind.OWNER:
                raise _wrong("Bad token scope: an app password may not do this")
            return principal
        if access in _TAKES_REFRESH:
            return self._sessions.check_refresh(token, allow_expired=access is Access.REFRESH_EXPIRED)
        if access in _TAKES_SERVICE:
            own_account = access is Access.SESSION_OR_SERVICE
            if own_account and not names_method(token):
                raise _wrong("Token could not be verified")
            return await self._service_auth.accept(token, nsid, only_own_account=own_account)
        if access is Access.ADMIN:
            raise _not_the_admin()
        raise _wrong("This token is not for this method")

    def _dpop(self, token: str, dpop: DpopRequest) -> Principal:
        live = self._oauth().check_request(token, dpop.proof, dpop.method, dpop.path)
        grant = live.grant
        return Principal(Kind.OAUTH, grant.sub, grant.id, scopes=live.scopes, client_id=grant.client_id)

    def _basic(self, credential: str, access: Access, address: str) -> Principal:
        if access not in _TAKES_ADMIN:
            raise _wrong("Unexpected authorization type, expected Bearer")
        try:
            user, _, password = b64decode(credential, validate=True).decode().partition(":")
        except ValueError:
            raise _wrong("The Authorization header is malformed") from None
        if not self._admin_password:
            raise _not_the_admin()
        self._throttle.take_admin(address)
        if not hmac.compare_digest(password.encode(), self._admin_password.encode()) or user != "admin":
            raise _not_the_admin()
        self._throttle.give_back_admin(address)
        return Principal(Kind.ADMIN, privileged=True)


def _no_token() -> Unauthorized:
    return Unauthorized("Authentication Required", error="AuthMissing")


def _not_the_admin() -> Unauthorized:
    """The reference's answer to any other credential, and to none."""
    return Unauthorized("Authentication Required", error="AuthenticationRequired")


def _wrong(message: str) -> Unauthorized:
    """A credential of the wrong kind: 400, so that clients do not take it for a missing one."""
    return Unauthorized(message, error="InvalidToken", status=400)
