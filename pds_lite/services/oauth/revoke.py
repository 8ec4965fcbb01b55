"""Token revocation (RFC 7009): an app signs itself out with either of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pds_lite.errors import OAuthError

if TYPE_CHECKING:
    from pds_lite.services.oauth.clients import Clients
    from pds_lite.services.oauth.grants import Grants
    from pds_lite.storage.oauth_store import Grant


class Revocation:
    """Ends the grant of a token."""

    def __init__(self, clients: Clients, grants: Grants) -> None:
        self._clients = clients
        self._grants = grants

    async def revoke(self, parameters: Mapping[str, str], proof_jkt: str | None) -> None:
        """Ends the session of `token`, expired ones too. A token that is not the caller's is no error and ends nothing.

        Raises OAuthError (invalid_request, invalid_client) without a token or a client_id, since nothing would end
        where the app was told that it did.
        """
        if not parameters.get("client_id"):
            raise OAuthError("client_id is missing", error="invalid_client")
        token = parameters.get("token")
        if not token:
            raise OAuthError("token is missing")
        grant = self._find(token)
        if grant is None or grant.client_id != parameters.get("client_id"):
            return
        if proof_jkt not in (None, grant.dpop_jkt):
            return
        if grant.client_key:
            asker = await self._clients.authenticate(parameters, proof_jkt)
            if asker.key != grant.client_key:
                return
        await self._grants.revoke(grant.id)

    def _find(self, token: str) -> Grant | None:
        if self._grants.is_refresh_token(token):
            return self._grants.find_refresh(token)[0]
        try:
            live = self._grants.find_access(token, allow_expired=True)
        except OAuthError:
            return None
        return None if live is None else live.grant
