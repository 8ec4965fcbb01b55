"""OAuth: the authorization server, joined from its parts, and the check of requests that carry its tokens.

Made on the first OAuth request, not at start: a box that no app signs in to this way pays nothing.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from pds_lite.atproto.client_metadata import SIGNING_ALGS
from pds_lite.atproto.dpop import check_proof
from pds_lite.errors import OAuthError
from pds_lite.services.oauth.authorize import Authorization, Codes
from pds_lite.services.oauth.clients import Clients
from pds_lite.services.oauth.grants import Grants, Live
from pds_lite.services.oauth.nonces import Nonces, Replays
from pds_lite.services.oauth.par import PROMPTS, RESPONSE_MODES, PushedRequests, Requests
from pds_lite.services.oauth.permission_sets import PermissionSets
from pds_lite.services.oauth.revoke import Revocation
from pds_lite.services.oauth.token import TokenEndpoint

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.identity import Identity
    from pds_lite.services.key_store import Keys
    from pds_lite.storage.store import Store

PROOF_MEMORY_S = 180.0
"""As long as the nonce in a proof can be good."""
MAX_PROOFS = 32_768


class OAuth:
    """The authorization server of this box."""

    def __init__(
        self, config: Config, clock: Clock, store: Store, keys: Keys, *, http: HttpClient, identity: Identity
    ) -> None:
        self._public_url = config.public_url
        self._clock = clock
        self._box_secret = keys.jwt_secret
        self.nonces = Nonces(clock, self.secret("dpop nonce"))
        self._strangers_proofs = Replays(clock, PROOF_MEMORY_S, MAX_PROOFS // 8, forget=True)
        self._proofs = Replays(clock, PROOF_MEMORY_S, MAX_PROOFS, forget=False)
        self.grants = Grants(config, clock, store, self.secret)
        self.clients = Clients(config, clock, http, store)
        self.permission_sets = PermissionSets(config, clock, http, identity, store)
        requests, codes = Requests(clock), Codes(clock)
        self.par = PushedRequests(clock, self.clients, self.permission_sets, requests)
        self.authorization = Authorization(config.public_url, requests, codes, self.grants)
        self.tokens = TokenEndpoint(clock, self.clients, self.permission_sets, codes, self.grants)
        self.revocation = Revocation(self.clients, self.grants)

    def secret(self, purpose: str) -> bytes:
        """A key of this box for one purpose."""
        return hmac.digest(self._box_secret, b"pds-lite " + purpose.encode(), "sha256")

    def check_client_proof(self, proof: str | None, path: str) -> str | None:
        """The key of the DPoP proof of a POST to one of our own endpoints; None without one. Raises OAuthError."""
        if proof is None:
            return None
        checked = check_proof(proof, "POST", self._public_url + path, self._clock.now(), self.nonces.is_current)
        if not self._strangers_proofs.first_use(checked.jkt, checked.jti):
            raise OAuthError("The DPoP proof was used before (jti)", error="invalid_dpop_proof")
        return checked.jkt

    def check_request(self, token: str, proof: str | None, method: str, path: str) -> Live:
        """What an access token allows, shown with a proof for this request. `path` without query.

        Raises OAuthError: invalid_token, invalid_dpop_proof or use_dpop_nonce, all with status 401.
        """
        try:
            live = self.grants.check_access(token)  # first: its MAC is cheap, a proof's signature is not
            if proof is None:
                raise OAuthError("A DPoP proof is required", error="invalid_dpop_proof")
            url = self._public_url + path
            checked = check_proof(proof, method, url, self._clock.now(), self.nonces.is_current, token)
            if checked.jkt != live.grant.dpop_jkt:
                raise OAuthError("The DPoP proof is of another key than the token's", error="invalid_token")
            if not self._proofs.first_use(checked.jkt, checked.jti):
                raise OAuthError("The DPoP proof was used before (jti)", error="invalid_dpop_proof")
        except OAuthError as problem:
            raise OAuthError(problem.message, error=problem.error, status=401) from None
        self.grants.used(live)
        return live

    def challenge(self, problem: OAuthError) -> str:
        """The WWW-Authenticate header that goes with a refusal of `check_request`."""
        description = problem.message.replace('"', "'").encode("ascii", "replace").decode()
        return f'DPoP algs="{" ".join(SIGNING_ALGS)}", error="{problem.error}", error_description="{description}"'

    def metadata(self) -> dict[str, object]:
        """The authorization server's metadata (RFC 8414, specs/oauth)."""
        url = self._public_url
        return {
            "issuer": url,
            "authorization_endpoint": f"{url}/oauth/authorize",
            "token_endpoint": f"{url}/oauth/token",
            "pushed_authorization_request_endpoint": f"{url}/oauth/par",
            "revocation_endpoint": f"{url}/oauth/revoke",
            "jwks_uri": f"{url}/oauth/jwks",
            "require_pushed_authorization_requests": True,
            "scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
            "subject_types_supported": ["public"],
            "response_types_supported": ["code"],
            "response_modes_supported": list(RESPONSE_MODES),
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "ui_locales_supported": ["en-US"],
            "display_values_supported": ["page", "popup", "touch"],
            "prompt_values_supported": [prompt for prompt in PROMPTS if prompt != "create"],
            "authorization_response_iss_parameter_supported": True,
            "request_parameter_supported": True,
            "request_object_signing_alg_values_supported": list(SIGNING_ALGS),
            "request_uri_parameter_supported": True,
            "require_request_uri_registration": True,
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGS),
            "dpop_signing_alg_values_supported": list(SIGNING_ALGS),
            "protected_resources": [url],
            "client_id_metadata_document_supported": True,
        }
