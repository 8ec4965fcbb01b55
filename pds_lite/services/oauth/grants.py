"""Grants: the sessions of apps the owner let in, and the tokens that speak for them.

Rules that hold here
- A token is good only while its grant is live, so revoking is instant. Live grants are held in memory (bounded), and
  every change is durable before it counts.
- An access token is a JWT under a secret of its own: it cannot pass for a session of com.atproto.server and the other
  way round. What it may do stands in the grant, not in the token: narrowing a grant narrows its tokens.
- A refresh token is `ref-<grant>.<number>.<MAC>`. Only the latest number is good. An older one with a good MAC was
  issued here and used before: somebody has a copy, and the grant ends.
- When a grant was last used is in memory, and on the disk with each new access token, which is written anyway. Such a
  token lives a quarter of an hour at most, and so after a restart the last use is told at most that much too early.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pds_lite.atproto import jwt
from pds_lite.atproto.base64url import encode_base64url
from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.errors import BadKey, OAuthError
from pds_lite.storage import oauth_store
from pds_lite.storage.oauth_store import Document, Grant

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.storage.store import Store, WriteTxn

MAX_GRANTS = 200
"""The longest unused one makes room."""
ACCESS_TTL_S = 900
"""Longest life of an access token; specs/oauth ends at 30 minutes."""
MAX_READ = 32
_DAY_US = 86_400_000_000
PUBLIC_US = 14 * _DAY_US
"""Life of a public client's session, however much it is used."""
CONFIDENTIAL_US = 730 * _DAY_US
CONFIDENTIAL_REFRESH_US = 90 * _DAY_US
_TYP = "at+jwt"
_PREFIX = "ref-"


@dataclass(frozen=True, slots=True)
class Live:
    """A grant that is good, with its scopes read."""

    grant: Grant
    scopes: ScopeSet


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a new grant is made of."""

    client_id: str
    client_name: str
    sub: str
    agreed: ScopeSet
    scope: ScopeSet
    dpop_jkt: str
    client_key: str
    code_hash: bytes
    code_challenge: str


class Grants:
    """All live grants; reads them from the store when made."""

    def __init__(self, config: Config, clock: Clock, store: Store, secret: Callable[[str], bytes]) -> None:
        """`secret` derives a key of the box for a purpose."""
        self._audience = config.service_did
        self._issuer = config.public_url
        self._access_ttl = min(config.access_ttl, ACCESS_TTL_S)
        self._clock = clock
        self._store = store
        self._access_secret = secret("oauth access token")
        # An app shows the same token with every request. Only tokens with our MAC are remembered; none is judged here.
        self._read_access = lru_cache(MAX_READ)(lambda token: jwt.decode_hs256(token, self._access_secret))
        self._refresh_secret = secret("oauth refresh token")
        self._changing = asyncio.Lock()
        with store.read() as txn:
            rows = list(oauth_store.list_grants(txn))
        now = clock.now_us()
        self._live = {row.id: Live(row, ScopeSet.parse(row.scope)) for row in rows if not _is_over(row, now)}
        self._stale = [row.id for row in rows if _is_over(row, now)]  # deleted with the next write

    def live(self) -> list[Grant]:
        """Live grants, newest first."""
        now = self._clock.now_us()
        found = [each.grant for each in self._live.values() if not _is_over(each.grant, now)]
        return sorted(found, key=lambda grant: grant.created_us, reverse=True)

    def get(self, grant_id: str) -> Grant | None:
        """The live grant of that id."""
        found = self._live.get(grant_id)
        return None if found is None or _is_over(found.grant, self._clock.now_us()) else found.grant

    def of_code(self, code_hash: bytes) -> Grant | None:
        """The grant that an authorization code began."""
        return next((each.grant for each in self._live.values() if each.grant.code_hash == code_hash), None)

    def knows_challenge(self, code_challenge: str) -> bool:
        """Whether a live grant began with this PKCE challenge."""
        return any(each.grant.code_challenge == code_challenge for each in self._live.values())

    def agreed_with(self, client_id: str, client_key: str) -> set[str]:
        """Scopes the owner has agreed to for this very client, in grants that are live."""
        grants = (grant for grant in self.live() if (grant.client_id, grant.client_key) == (client_id, client_key))
        return {text for grant in grants for text in grant.agreed.split(" ")}

    async def begin(self, beginning: Beginning, documents: list[Document]) -> Grant:
        """A new grant, durable, with the documents that stand behind it."""
        now = self._clock.now_us()
        grant = Grant(
            id=secrets.token_urlsafe(15),
            client_id=beginning.client_id,
            client_name=beginning.client_name,
            sub=beginning.sub,
            agreed=str(beginning.agreed),
            scope=str(beginning.scope),
            dpop_jkt=beginning.dpop_jkt,
            client_key=beginning.client_key,
            code_hash=beginning.code_hash,
            code_challenge=beginning.code_challenge,
            created_us=now,
            used_us=now,
            refreshed_us=now,
            expires_us=now + _refresh_life(beginning.client_key),
            ends_us=now + (CONFIDENTIAL_US if beginning.client_key else PUBLIC_US),
        )
        async with self._changing:
            await self._store_with(grant, documents, self._surplus(now))
        return grant

    async def renew(
        self, refresh_token: str, scope_of: Callable[[Grant], ScopeSet], client_key: str, documents: list[Document]
    ) -> Grant:
        """Spends a refresh token whose grant the caller has judged: the grant with the next number, durable.

        Raises OAuthError (invalid_grant), having ended the grant, if the token was spent meanwhile.
        """
        async with self._changing:
            grant = await self._grant_of_refresh(refresh_token)
            now = self._clock.now_us()
            renewed = replace(
                grant,
                scope=str(scope_of(grant)),
                client_key=client_key,
                used_us=now,
                refreshed_us=now,
                expires_us=now + _refresh_life(client_key),
                ends_us=max(grant.ends_us, grant.created_us + (CONFIDENTIAL_US if client_key else PUBLIC_US)),
                refresh_number=grant.refresh_number + 1,
            )
            await self._store_with(renewed, documents, [])
        return renewed

    async def grant_of_refresh(self, refresh_token: str) -> Grant:
        """The grant a refresh token is the latest of. A spent one ends its grant. Raises OAuthError (invalid_grant)."""
        async with self._changing:
            return await self._grant_of_refresh(refresh_token)

    async def revoke(self, grant_id: str) -> bool:
        """Ends a grant at once; False if there was none."""
        async with self._changing:
            return await self._end([grant_id]) > 0

    async def end_all(self) -> None:
        """Ends every grant: after a password reset."""
        async with self._changing:
            await self._end(list(self._live))

    def access_token(self, grant: Grant) -> tuple[str, int]:
        """A new access token and its life in seconds."""
        now = self._clock.now()
        life = max(1, min(self._access_ttl, grant.ends_us // 1_000_000 - now))
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": grant.sub,
            "iat": now,
            "exp": now + life,
            "jti": f"{grant.id}.{secrets.token_urlsafe(9)}",
            "cnf": {"jkt": grant.dpop_jkt},
        }
        return jwt.encode_hs256(claims, self._access_secret, _TYP), life

    def refresh_token(self, grant: Grant) -> str:
        """The one refresh token that is good."""
        return self._refresh_text(grant.id, grant.refresh_number)

    def check_access(self, token: str) -> Live:
        """What an access token stands for. Raises OAuthError (invalid_token) for a foreign, old or revoked one."""
        live = self.find_access(token, allow_expired=False)
        if live is None:
            raise OAuthError("The token has been revoked", error="invalid_token")
        return live

    def find_access(self, token: str, *, allow_expired: bool) -> Live | None:
        """The live grant of an access token of ours, None if it is over. Raises OAuthError (invalid_token)."""
        try:
            header, claims = self._read_access(token)
        except BadKey:
            raise OAuthError("The token is not one of this server", error="invalid_token") from None
        if header.get("typ") != _TYP or claims["aud"] != self._audience:
            raise OAuthError("The token is not for this server", error="invalid_token")
        if claims["exp"] <= self._clock.now() and not allow_expired:
            raise OAuthError("The token has expired", error="invalid_token")
        live = self._live.get(claims["jti"].partition(".")[0])
        if live is None or live.grant.sub != claims["sub"] or _is_over(live.grant, self._clock.now_us()):
            return None
        return live

    def used(self, live: Live) -> None:
        """Notes, by the minute, that the grant was used now."""
        now = self._clock.now_us()
        if now - live.grant.used_us > 60_000_000 and self._live.get(live.grant.id) is live:
            self._live[live.grant.id] = Live(replace(live.grant, used_us=now), live.scopes)

    def is_refresh_token(self, token: str) -> bool:
        """Whether it has the form of one."""
        return token.startswith(_PREFIX)

    def find_refresh(self, token: str) -> tuple[Grant | None, bool]:
        """(the live grant of a refresh token that was issued here, whether it is the latest)."""
        grant_id, _, rest = token.removeprefix(_PREFIX).partition(".")
        number = rest.partition(".")[0]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            return None, False
        if not hmac.compare_digest(
            self._refresh_text(grant_id, int(number)).encode(), token.encode("utf-8", "replace")
        ):
            return None, False
        grant = self.get(grant_id)
        return grant, grant is not None and grant.refresh_number == int(number)

    def _refresh_text(self, grant_id: str, number: int) -> str:
        mac = hmac.digest(self._refresh_secret, f"{grant_id}.{number}".encode("utf-8", "replace"), "sha256")
        return f"{_PREFIX}{grant_id}.{number}.{encode_base64url(mac[:24])}"

    async def _grant_of_refresh(self, token: str) -> Grant:
        grant, is_latest = self.find_refresh(token)
        if grant is None:
            raise OAuthError("The refresh token is not valid", error="invalid_grant")
        if not is_latest:
            await self._end([grant.id])
            raise OAuthError("The refresh token was used before: this session has ended", error="invalid_grant")
        return grant

    def _surplus(self, now_us: int) -> list[str]:
        """Grants that a new one pushes out: those that are over, then the longest unused."""
        gone = [*self._stale, *(each.grant.id for each in self._live.values() if _is_over(each.grant, now_us))]
        live = sorted(self.live(), key=lambda grant: grant.used_us)
        room_needed = len(live) + 1 - MAX_GRANTS
        return gone + [grant.id for grant in live[: max(0, room_needed)]]

    async def _store_with(self, grant: Grant, documents: list[Document], gone: list[str]) -> None:
        def change(txn: WriteTxn) -> None:
            for grant_id in gone:
                oauth_store.delete_grant(txn, grant_id)
            oauth_store.put_grant(txn, grant)
            for document in documents:
                oauth_store.put_document(txn, document)

        await self._store.write(change, "oauth grant", use_reserve=True)
        for grant_id in gone:
            self._live.pop(grant_id, None)
        self._stale = [grant_id for grant_id in self._stale if grant_id not in gone]
        self._live[grant.id] = Live(grant, ScopeSet.parse(grant.scope))

    async def _end(self, grant_ids: list[str]) -> int:
        ending = [grant_id for grant_id in grant_ids if grant_id in self._live]
        if not ending:
            return 0

        def change(txn: WriteTxn) -> None:
            for grant_id in ending:
                oauth_store.delete_grant(txn, grant_id)

        await self._store.write(change, "end oauth grants", use_reserve=True)
        for grant_id in ending:
            self._live.pop(grant_id, None)
        return len(ending)


def _is_over(grant: Grant, now_us: int) -> bool:
    return min(grant.expires_us, grant.ends_us) <= now_us


def _refresh_life(client_key: str) -> int:
    return CONFIDENTIAL_REFRESH_US if client_key else PUBLIC_US
