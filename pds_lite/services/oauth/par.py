"""Pushed authorization requests (RFC 9126): what an app asks for, judged before the owner sees it, and kept meanwhile.

Rules that hold here
- Everything a request may say is checked here, once; what follows trusts it.
- Requests lie in memory, for five minutes since somebody last did something with them and an hour at most. When the
  room is full the oldest that no browser has opened makes way, so strangers cannot push out the one in use.
- The redirect URI has been compared with the client's document before it is ever redirected to.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pds_lite.atproto import pkce
from pds_lite.atproto.base64url import decode_base64url
from pds_lite.atproto.oauth_scope import ATPROTO, ScopeSet
from pds_lite.atproto.syntax import is_account_did, is_handle
from pds_lite.errors import BadData, OAuthError, Unavailable

if TYPE_CHECKING:
    from pds_lite.atproto.client_metadata import ClientMetadata
    from pds_lite.clock import Clock
    from pds_lite.services.oauth.clients import Asker, Clients
    from pds_lite.services.oauth.permission_sets import PermissionSets

PREFIX = "urn:ietf:params:oauth:request_uri:req-"
LIFE_S = 300
LONGEST_S = 3600
MAX_REQUESTS = 256
MAX_SCOPE = 8192
MAX_STATE = 2048
MAX_HINT = 2048
RESPONSE_MODES = ("query", "fragment", "form_post")
PROMPTS = ("none", "login", "consent", "select_account", "create")
_UNSUPPORTED = ("claims", "id_token_hint", "nonce", "authorization_details")


@dataclass(slots=True)
class Request:
    """What an app asked for, and how far the owner has got with it. Times are monotonic seconds."""

    id: str
    client: ClientMetadata
    client_key: str
    redirect_uri: str
    scopes: ScopeSet
    state: str | None
    code_challenge: str
    response_mode: str
    prompt: str | None
    login_hint: str | None
    dpop_jkt: str | None
    expires: float
    ends: float
    browser: str | None = None
    """The browser that opened it: no other may go on."""
    signed_in: bool = False
    """The owner gave the password for this very request."""
    typed: tuple[str, str, bool] | None = field(default=None, repr=False)
    """Name, password and "remember me" that are right and only wait for the code of the second factor."""

    @property
    def uri(self) -> str:
        """The request_uri."""
        return PREFIX + self.id


@dataclass(slots=True)
class Requests:
    """The requests that wait for the owner."""

    clock: Clock
    _rows: dict[str, Request] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        """Keeps a new one. Raises Unavailable when all the room is taken by requests in use."""
        now = self.clock.monotonic()
        self._rows = {key: row for key, row in self._rows.items() if row.expires > now}
        if len(self._rows) >= MAX_REQUESTS:
            unopened = next((key for key, row in self._rows.items() if row.browser is None), None)
            if unopened is None:
                raise Unavailable("Too many sign-ins are under way; try again in a few minutes")
            del self._rows[unopened]
        self._rows[request.id] = request

    def find(self, request_uri: str) -> Request | None:
        """The request, if it is still good; looking at it keeps it so for another while."""
        request = self._rows.get(request_uri.removeprefix(PREFIX)) if request_uri.startswith(PREFIX) else None
        now = self.clock.monotonic()
        if request is None or request.expires <= now:
            return None
        request.expires = min(now + LIFE_S, request.ends)
        return request

    def close(self, request: Request) -> bool:
        """Ends a request; False if somebody else did."""
        return self._rows.pop(request.id, None) is not None


class PushedRequests:
    """Judges what apps push."""

    def __init__(self, clock: Clock, clients: Clients, permission_sets: PermissionSets, requests: Requests) -> None:
        self._clock = clock
        self._clients = clients
        self._permission_sets = permission_sets
        self._requests = requests

    async def push(self, parameters: Mapping[str, str], proof_jkt: str | None) -> Request:
        """The request that `parameters` describe, kept. `proof_jkt` is the key of the DPoP proof, if one was shown.

        Raises OAuthError.
        """
        asker = await self._clients.authenticate(parameters, proof_jkt)
        _check_supported(parameters)
        redirect_uri = _redirect_uri(parameters, asker.client)
        scopes = _scopes(parameters, asker.client)
        await self._permission_sets.all_of(scopes)  # an app is told now, not after the owner has signed in
        now = self._clock.monotonic()
        request = Request(
            id=secrets.token_urlsafe(24),
            client=asker.client,
            client_key=asker.key,
            redirect_uri=redirect_uri,
            scopes=scopes,
            state=_bounded(parameters, "state", MAX_STATE),
            code_challenge=_code_challenge(parameters),
            response_mode=_one_of(parameters, "response_mode", RESPONSE_MODES) or "query",
            prompt=_prompt(parameters, asker),
            login_hint=_login_hint(parameters),
            dpop_jkt=_dpop_jkt(parameters, proof_jkt),
            expires=now + LIFE_S,
            ends=now + LONGEST_S,
        )
        self._requests.add(request)
        return request


def _check_supported(parameters: Mapping[str, str]) -> None:
    if "request" in parameters:
        raise OAuthError("Request objects are not supported", error="request_not_supported")
    if "request_uri" in parameters:
        raise OAuthError("request_uri has no place in a pushed request")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise OAuthError(f'Unsupported "{name}" parameter')
    response_type = parameters.get("response_type")
    if response_type is None:
        raise OAuthError("response_type is missing")
    if response_type != "code":
        raise OAuthError('response_type must be "code"', error="unsupported_response_type")


def _redirect_uri(parameters: Mapping[str, str], client: ClientMetadata) -> str:
    given = parameters.get("redirect_uri")
    if given is None:
        if len(client.redirect_uris) != 1:
            raise OAuthError("redirect_uri is missing")
        return client.redirect_uris[0]
    if not client.takes_redirect(given):
        raise OAuthError("redirect_uri is not one of the client's metadata")
    return given


def _scopes(parameters: Mapping[str, str], client: ClientMetadata) -> ScopeSet:
    text = _bounded(parameters, "scope", MAX_SCOPE, error="invalid_scope") or ""
    asked = ScopeSet.parse(text)
    for scope in asked.texts:
        if scope not in client.scopes:
            raise OAuthError(f'Scope "{scope[:200]}" is not in the client\'s metadata', error="invalid_scope")
    if ATPROTO not in asked:
        raise OAuthError('The "atproto" scope is required', error="invalid_scope")
    if "openid" in asked:
        raise OAuthError("OpenID Connect is not supported", error="invalid_scope")
    return asked.known()


def _code_challenge(parameters: Mapping[str, str]) -> str:
    challenge = parameters.get("code_challenge")
    if not challenge:
        raise OAuthError("code_challenge is missing: PKCE is required")
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError("code_challenge_method must be S256")
    if not pkce.is_challenge(challenge):
        raise OAuthError("code_challenge is not a SHA-256 digest in base64url")
    return challenge


def _prompt(parameters: Mapping[str, str], asker: Asker) -> str | None:
    prompt = _one_of(parameters, "prompt", PROMPTS)
    if prompt == "none" and not asker.client.is_confidential:
        raise OAuthError("A public client cannot sign in silently (prompt=none)")
    return prompt


def _login_hint(parameters: Mapping[str, str]) -> str | None:
    hint = (_bounded(parameters, "login_hint", MAX_HINT) or "").lower().removeprefix("@")
    if hint and not is_handle(hint) and not is_account_did(hint, dev=True):
        raise OAuthError("login_hint is neither a handle nor a DID")
    return hint or None


def _dpop_jkt(parameters: Mapping[str, str], proof_jkt: str | None) -> str | None:
    given = parameters.get("dpop_jkt")
    if given is None:
        return proof_jkt
    try:
        well_formed = len(decode_base64url(given)) == 32
    except BadData:
        well_formed = False
    if not well_formed:
        raise OAuthError("dpop_jkt is not the thumbprint of a key")
    if proof_jkt not in (None, given):
        raise OAuthError("dpop_jkt is not the key of the DPoP proof", error="invalid_dpop_proof")
    return given


def _one_of(parameters: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = parameters.get(name)
    if value is not None and value not in allowed:
        raise OAuthError(f"{name} must be one of {', '.join(allowed)}")
    return value


def _bounded(parameters: Mapping[str, str], name: str, limit: int, error: str = "invalid_request") -> str | None:
    value = parameters.get(name)
    if value is not None and len(value) > limit:
        raise OAuthError(f"{name} is longer than {limit} characters", error=error)
    return value
