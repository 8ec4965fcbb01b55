"""The token endpoint: codes and refresh tokens into tokens bound to the app's key (RFC 6749, RFC 9449).

Rules that hold here
- No token without a DPoP proof of the key the request or the grant is bound to.
- A code is spent by showing it, whatever comes of it. Shown twice, the session it began ends.
- A refresh token shown by another client, or with another key than its session's, is stolen: the session ends.
- A confidential client's session is held to the key that began it; when that key has left the client's published set,
  the session ends. Not being able to ask is no reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import pkce
from pds_lite.atproto.client_assertion import publishes
from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.errors import OAuthError, PdsError
from pds_lite.services.oauth.authorize import Agreement, Codes, Spent, code_hash
from pds_lite.services.oauth.grants import Beginning, Grants
from pds_lite.services.oauth.nonces import Replays

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.services.oauth.clients import Asker, Clients
    from pds_lite.services.oauth.permission_sets import PermissionSets
    from pds_lite.storage.oauth_store import Grant

CHALLENGE_MEMORY_S = 86400.0
MAX_CHALLENGES = 4096
MAX_TOKEN = 4096

Tokens = dict[str, Any]
"""A token response."""


class TokenEndpoint:
    """Hands tokens out."""

    def __init__(
        self, clock: Clock, clients: Clients, permission_sets: PermissionSets, codes: Codes, grants: Grants
    ) -> None:
        self._clients = clients
        self._permission_sets = permission_sets
        self._codes = codes
        self._grants = grants
        self._challenges = Replays(clock, CHALLENGE_MEMORY_S, MAX_CHALLENGES, forget=True)

    async def answer(self, parameters: Mapping[str, str], proof_jkt: str | None) -> Tokens:
        """The tokens for a token request. `proof_jkt` is the key of its DPoP proof. Raises OAuthError."""
        grant_type = parameters.get("grant_type")
        if grant_type not in ("authorization_code", "refresh_token"):
            error = "invalid_request" if grant_type is None else "unsupported_grant_type"
            raise OAuthError("grant_type must be authorization_code or refresh_token", error=error)
        if proof_jkt is None:
            raise OAuthError("A DPoP proof is required", error="invalid_dpop_proof")
        try:
            asker = await self._clients.authenticate(parameters, proof_jkt)
        except OAuthError:
            await self._end_if_its_key_left(parameters.get("refresh_token", ""))
            raise
        if grant_type not in asker.client.grant_types:
            raise OAuthError(f"The client's metadata does not list {grant_type}", error="unauthorized_client")
        if grant_type == "authorization_code":
            return await self._exchange(parameters, asker, proof_jkt)
        return await self._refresh(parameters, asker, proof_jkt)

    async def _exchange(self, parameters: Mapping[str, str], asker: Asker, proof_jkt: str) -> Tokens:
        code = _needed(parameters, "code")
        agreement = await self._take(code)
        request = agreement.request
        _check_same_client(request.client_id, request.client_key, asker)
        if request.dpop_jkt not in (None, proof_jkt):
            raise _invalid_grant("The DPoP proof is of another key than the request's")
        if parameters.get("redirect_uri") != request.redirect_uri:
            raise _invalid_grant("redirect_uri is not the request's")
        if not pkce.matches(request.code_challenge, parameters.get("code_verifier", "")):
            raise _invalid_grant("code_verifier does not fit the code_challenge")
        if self._grants.knows_challenge(request.code_challenge) or not self._challenges.first_use(
            request.code_challenge
        ):
            raise _invalid_grant("The code_challenge was used before")
        beginning = Beginning(
            client_id=asker.client.client_id,
            client_name=asker.client.name,
            sub=agreement.sub,
            agreed=agreement.scopes,
            scope=await self._permission_sets.expand(agreement.scopes),
            dpop_jkt=proof_jkt,
            client_key=asker.key,
            code_hash=code_hash(code),
            code_challenge=request.code_challenge,
        )
        documents = [*self._clients.copies(asker.client), *self._permission_sets.copies(agreement.scopes)]
        grant = await self._grants.begin(beginning, documents)
        if not self._codes.began(code, grant.id):
            await self._grants.revoke(grant.id)
            raise _invalid_grant("The code was used before")
        return self._tokens(grant, asker)

    async def _take(self, code: str) -> Agreement:
        taken = self._codes.take(code)
        if isinstance(taken, Agreement):
            return taken
        began = self._grants.of_code(code_hash(code))
        grant_id = taken.grant_id if isinstance(taken, Spent) else began.id if began is not None else None
        if grant_id is not None:
            await self._grants.revoke(grant_id)
        raise _invalid_grant("The code is not valid, was used before, or is too old")

    async def _refresh(self, parameters: Mapping[str, str], asker: Asker, proof_jkt: str) -> Tokens:
        shown = _needed(parameters, "refresh_token")
        grant = await self._grants.grant_of_refresh(shown)
        try:
            _check_same_client(grant.client_id, grant.client_key, asker)
            if grant.dpop_jkt != proof_jkt:
                raise _invalid_grant("The DPoP proof is of another key than the session's")
        except OAuthError:
            await self._grants.revoke(grant.id)
            raise
        agreed = ScopeSet.parse(grant.agreed)
        expanded = await self._expand_again(agreed)
        documents = [*self._clients.copies(asker.client), *self._permission_sets.copies(agreed)]
        renewed = await self._grants.renew(
            shown, lambda held: expanded or ScopeSet.parse(held.scope), asker.key, documents
        )
        return self._tokens(renewed, asker)

    async def _expand_again(self, agreed: ScopeSet) -> ScopeSet | None:
        """What the agreed scopes amount to today; None if their sets cannot be had, so that what was known stays."""
        try:
            return await self._permission_sets.expand(agreed)
        except PdsError:
            return None

    async def _end_if_its_key_left(self, refresh_token: str) -> None:
        """Ends the session of a refresh token whose key its client publishes no more. Nothing, if we cannot ask."""
        grant, _ = self._grants.find_refresh(refresh_token)
        if grant is None or not grant.client_key:
            return
        try:
            keys = await self._clients.keys(await self._clients.get(grant.client_id))
        except PdsError:
            return
        if not publishes(keys, grant.client_key.rpartition(" ")[2]):
            await self._grants.revoke(grant.id)

    def _tokens(self, grant: Grant, asker: Asker) -> Tokens:
        access_token, life = self._grants.access_token(grant)
        tokens: Tokens = {
            "access_token": access_token,
            "token_type": "DPoP",
            "expires_in": life,
            "scope": grant.scope,
            "sub": grant.sub,
        }
        if "refresh_token" in asker.client.grant_types:
            tokens["refresh_token"] = self._grants.refresh_token(grant)
        return tokens


def _check_same_client(client_id: str, client_key: str, asker: Asker) -> None:
    """The client is the one it was, held to its key. A public client may become a confidential one, not the reverse."""
    if asker.client.client_id != client_id:
        raise _invalid_grant("This was not issued to this client")
    if client_key and asker.key != client_key:
        raise _invalid_grant("The client authenticates with another key than it began with")


def _needed(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name, "")
    if not value:
        raise OAuthError(f"{name} is missing")
    if len(value) > MAX_TOKEN:
        raise _invalid_grant(f"{name} is not one of this server")
    return value


def _invalid_grant(message: str) -> OAuthError:
    return OAuthError(message, error="invalid_grant")
