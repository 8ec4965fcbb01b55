"""Authorization requests: what an app asks for, judged before the owner sees it, and kept meanwhile.

An app pushes its request (PAR, RFC 9126), as the profile demands. As the reference, we also take one that its user's
browser brings to the authorization page, and parameters in a signed request object (JAR, RFC 9101).

Rules that hold here
- Everything a request may say is checked here, once; what follows trusts it.
- Requests lie in memory, for five minutes since somebody last did something with them and an hour at most. When the
  room is full a stranger's makes way, unopened ones first: those of the browser the owner is signed in to stay.
- They hold texts of bounded length and nothing parsed, so that all of them together are a few megabytes.
- The redirect URI has been compared with the client's document before it is ever redirected to.
- Who brings a request by browser has not shown to be its client: such a request carries no client key, so the owner is
  always asked.
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
from pds_lite.services.oauth.clients import Asker

if TYPE_CHECKING:
    from pds_lite.atproto.client_metadata import ClientMetadata
    from pds_lite.clock import Clock
    from pds_lite.services.oauth.clients import Clients
    from pds_lite.services.oauth.permission_sets import PermissionSets

PREFIX = "urn:ietf:params:oauth:request_uri:req-"
LIFE_S = 300
LONGEST_S = 3600
MAX_REQUESTS = 256
MAX_SCOPE = 8192
MAX_SCOPES = 400
"""The owner gets a box for each, and the form has to come back whole."""
MAX_STATE = 2048
MAX_HINT = 2048
RESPONSE_MODES = ("query", "fragment", "form_post")
PROMPTS = ("none", "login", "consent", "select_account", "create")
_UNSUPPORTED = ("claims", "id_token_hint", "nonce", "authorization_details")


@dataclass(slots=True)
class Request:
    """What an app asked for, and how far the owner has got with it. Times are monotonic seconds."""

    id: str
    client_id: str
    is_local: bool
    """The client is a program on the user's own machine, for which nobody vouches."""
    client_key: str
    redirect_uri: str
    scope: str
    state: str | None
    code_challenge: str
    response_mode: str
    prompt: str | None
    login_hint: str | None
    dpop_jkt: str | None
    expires: float
    ends: float
    problem: tuple[str, str] | None = None
    """(OAuth's name for it, the reason) why it cannot go on; the owner sees that before the app does."""
    browser: str | None = None
    """The browser that opened it: no other may go on."""
    is_owners: bool = False
    """The owner is signed in to that browser."""
    signed_in: bool = False
    """The owner gave the password for this very request."""
    typed: tuple[str, str, bool] | None = field(default=None, repr=False)
    """Name, password and "remember me" that are right and only wait for the code of the second factor."""

    @property
    def uri(self) -> str:
        """The request_uri."""
        return PREFIX + self.id

    @property
    def scopes(self) -> ScopeSet:
        """What is asked for."""
        return ScopeSet.parse(self.scope)


@dataclass(slots=True)
class Requests:
    """The requests that wait for the owner."""

    clock: Clock
    _rows: dict[str, Request] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        """Keeps a new one. Raises Unavailable when all the room is taken by the owner's."""
        now = self.clock.monotonic()
        self._rows = {key: row for key, row in self._rows.items() if row.expires > now}
        if len(self._rows) >= MAX_REQUESTS:
            strangers = [row for row in self._rows.values() if not row.is_owners]  # the oldest first
            if not strangers:
                raise Unavailable("Too many sign-ins are under way; try again in a few minutes")
            del self._rows[min(strangers, key=lambda row: row.browser is not None).id]
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
        parameters = await self._unwrap(parameters, asker.client)
        request = self._begin(parameters, asker)
        await self._judge(request, parameters, asker, proof_jkt)
        self._requests.add(request)
        return request

    async def bring(self, parameters: Mapping[str, str], browser: str) -> Request:
        """The request that the browser `browser` brought along, kept for that browser.

        Raises OAuthError if it is not certain that the redirect URI is the client's. Whatever else is wrong with it
        becomes its `problem`.
        """
        client_id = parameters.get("client_id", "")
        asker = Asker(await self._clients.get(client_id))
        parameters = await self._unwrap(parameters, asker.client)
        request = self._begin(parameters, asker)
        request.browser = browser
        try:
            await self._judge(request, parameters, asker, None)
        except OAuthError as problem:
            request.problem = problem.error, problem.message
        self._requests.add(request)
        return request

    async def _unwrap(self, parameters: Mapping[str, str], client: ClientMetadata) -> Mapping[str, str]:
        """What a signed request object says, instead of what stands beside it; other parameters as they are."""
        if "request" not in parameters:
            return parameters
        return await self._clients.check_request_object(client, parameters["request"])

    def _begin(self, parameters: Mapping[str, str], asker: Asker) -> Request:
        """What is needed to answer the app at all."""
        now = self._clock.monotonic()
        return Request(
            id=secrets.token_urlsafe(24),
            client_id=asker.client.client_id,
            is_local=asker.client.is_local,
            client_key=asker.key,
            redirect_uri=_redirect_uri(parameters, asker.client),
            scope=ATPROTO,
            state=_bounded(parameters, "state", MAX_STATE),
            code_challenge="",
            response_mode=_one_of(parameters, "response_mode", RESPONSE_MODES) or "query",
            prompt=None,
            login_hint=None,
            dpop_jkt=None,
            expires=now + LIFE_S,
            ends=now + LONGEST_S,
        )

    async def _judge(
        self, request: Request, parameters: Mapping[str, str], asker: Asker, proof_jkt: str | None
    ) -> None:
        """Puts into `request` what it asks for. Raises OAuthError."""
        _check_supported(parameters)
        scopes = _scopes(parameters, asker.client)
        request.code_challenge = _code_challenge(parameters)
        request.prompt = _prompt(parameters, asker)
        request.login_hint = _login_hint(parameters)
        request.dpop_jkt = _dpop_jkt(parameters, proof_jkt)
        await self._permission_sets.expand(scopes)  # an app is told now, not after the owner has signed in
        request.scope = str(scopes)


def _check_supported(parameters: Mapping[str, str]) -> None:
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
    if len(asked.texts) > MAX_SCOPES:
        raise OAuthError(f"More than {MAX_SCOPES} scopes at once", error="invalid_scope")
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
