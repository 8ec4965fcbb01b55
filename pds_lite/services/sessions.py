"""Sessions: access and refresh tokens of the account, bound to rows that can be taken away.

Terms: a *session* begins at createSession and lives until it is ended or not refreshed for 90 days. An *access token*
is a JWT (typ at+jwt, 2 h unless PDS_LITE_ACCESS_TTL_S says otherwise), a *refresh token* a JWT (typ refresh+jwt) whose
jti must be the session's current one.

Rules that hold here
- A token is good only while its session is live, so ending a session, revoking an app password or resetting the
  password revokes access tokens at once. Live sessions are held in memory for that (bounded) and every change is
  durable first.
- Refreshing spends the token. For the 2 h after that a spent token answers the same successor, because two tabs may
  race; later it can only be a stolen copy, and the session ends. The spent tokens lie in the session's row, so a
  restart changes nothing of it.
- When a session was last used is noted in memory and written once an hour (`save`).
- A session opened while the account is taken down is good for moving out alone (access.MOVING_OUT) and is not
  refreshed.
- A token's claims are those clients decode (protocol digest 12): scope, sub, aud, iat, exp, jti. A jti is
  `<session id>.<random>`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import jwt
from pds_lite.errors import BadKey, Unauthorized
from pds_lite.services.access import Kind, Principal
from pds_lite.storage import session_store
from pds_lite.storage.session_store import Session, Spent

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.services.key_store import Keys
    from pds_lite.storage.store import Store, WriteTxn

ACCESS_TYP = "at+jwt"
REFRESH_TYP = "refresh+jwt"
REFRESH_SCOPE = "com.atproto.refresh"
REFRESH_TTL_S = 90 * 86400
GRACE_US = 2 * 3600 * 1_000_000
_OUR_HEADERS = tuple(jwt.encode_hs256({}, b"", typ).partition(".")[0] + "." for typ in (ACCESS_TYP, REFRESH_TYP))
MAX_SESSIONS = 500
"""The longest unused session makes room for a new one."""
MAX_CLIENT = 200
"""Characters kept of a User-Agent."""
MAX_READ = 32
MAX_SPENT = 8
"""Spent tokens remembered per session within their grace."""
_SAVE_US = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What createSession and refreshSession hand out."""

    access_jwt: str
    refresh_jwt: str


class Sessions:
    """All live sessions. `start` reads them from the store."""

    def __init__(self, config: Config, clock: Clock, store: Store, keys: Keys) -> None:
        self._audience = config.service_did
        self._access_ttl = config.access_ttl
        self._clock = clock
        self._store = store
        self._secret = keys.jwt_secret
        # A client shows the same token with every request. Only tokens with our MAC are remembered; none is judged.
        self._read = lru_cache(MAX_READ)(lambda token: jwt.decode_hs256(token, self._secret))
        self._live: dict[str, Session] = {}
        self._seen: dict[str, int] = {}
        """Session -> second of its last use."""
        self._refreshing = asyncio.Lock()
        self.also_end: list[Callable[[], Awaitable[None]]] = []
        """Ends what is not a session here but ends with all of them, in memory: browsers, apps let in by OAuth.
        Their rows are gone before (erasure.erase_sign_ins).
        """

    def start(self) -> None:
        """Reads the live sessions; expired ones stay behind and are deleted with the next write."""
        now = self._clock.now_us()
        with self._store.read() as txn:
            sessions = list(session_store.list_sessions(txn))
        self._live = {session.id: session for session in sessions if session.expires_us > now}

    def live(self) -> list[Session]:
        """Live sessions with their last use, newest first."""
        sessions = [self._with_use(session) for session in self._live.values()]
        return sorted(sessions, key=lambda session: session.created_us, reverse=True)

    async def save(self) -> None:
        """Writes when sessions were last used, where what is written is an hour old."""
        late = [
            row
            for row in map(self._with_use, self._live.values())
            if row.used_us - self._live[row.id].used_us > _SAVE_US
        ]
        if not late:
            return

        def change(txn: WriteTxn) -> None:
            for session in late:
                stored = session_store.get_session(txn, session.id)
                if stored is not None:  # it may have ended or been refreshed since
                    session_store.put_session(txn, replace(stored, used_us=session.used_us))

        await self._store.write(change, "sessions used")
        for session in late:
            if session.id in self._live:
                self._live[session.id] = replace(self._live[session.id], used_us=session.used_us)

    async def open(
        self, did: str, app_password: str | None, privileged: bool, client: str = "", *, taken_down: bool = False
    ) -> TokenPair:
        """Begins a session. `app_password` is the name of the app password that opened it, None for the owner's own;
        `client` what the app calls itself; `taken_down` whether the account is.
        """
        now = self._clock.now_us()
        session_id = secrets.token_urlsafe(12)
        session = Session(
            id=session_id,
            app_password=app_password,
            privileged=privileged,
            created_us=now,
            used_us=now,
            expires_us=now + REFRESH_TTL_S * 1_000_000,
            refresh_jti=_make_jti(session_id),
            client=client[:MAX_CLIENT],
            taken_down=taken_down,
        )
        surplus = self._surplus(now)

        def change(txn: WriteTxn) -> None:
            for stale in surplus:
                session_store.delete_session(txn, stale)
            session_store.put_session(txn, session)

        await self._store.write(change, "open session", use_reserve=True)
        for stale in surplus:
            self._forget(stale)
        self._live[session_id] = session
        return self._tokens(did, session, session.refresh_jti)

    async def refresh(self, principal: Principal) -> TokenPair:
        """Spends the refresh token that `check_refresh` judged and gives its successor, durable before it is answered.

        Raises Unauthorized: AccountTakedown; ExpiredToken, and ends the session, when a token is used again after its
        grace.
        """
        assert principal.session_id is not None
        assert principal.token_id is not None
        assert principal.did is not None
        async with self._refreshing:  # racing requests must meet the token already spent, and durably so
            session = self._live.get(principal.session_id)
            if session is None:
                raise _revoked()
            if session.taken_down:
                raise Unauthorized("Account has been taken down", error="AccountTakedown")
            if principal.token_id != session.refresh_jti:
                return self._tokens(principal.did, session, await self._successor(session, principal.token_id))
            now = self._clock.now_us()
            within_grace = [spent for spent in session.spent if spent.until_us > now]
            renewed = replace(
                session,
                used_us=now,
                expires_us=now + REFRESH_TTL_S * 1_000_000,
                refresh_jti=_make_jti(session.id),
                spent=(*within_grace[1 - MAX_SPENT :], Spent(session.refresh_jti, now + GRACE_US)),
            )
            await self._store.write(
                lambda txn: session_store.put_session(txn, renewed), "refresh session", use_reserve=True
            )
            self._live[session.id] = renewed
            return self._tokens(principal.did, renewed, renewed.refresh_jti)

    async def end(self, session_id: str | None) -> None:
        """Ends one session; ending one that is gone is no error."""
        if session_id in self._live:
            await self._end_where(lambda session: session.id == session_id)

    async def end_of_app_password(self, name: str) -> None:
        """Ends the sessions an app password opened."""
        await self._end_where(lambda session: session.app_password == name)

    async def end_all(self) -> None:
        """Ends every session, and what else the password stood for: after it was changed or the account is gone."""
        await self._end_where(lambda _session: True)
        for end in self.also_end:
            await end()

    def looks_like_ours(self, token: str) -> bool:
        """True if the token's header says HS256: only this server makes those for itself."""
        if token.startswith(_OUR_HEADERS):  # spares parsing on the path of every request
            return True
        try:
            return jwt.peek_header(token).get("alg") == "HS256"
        except BadKey:
            return False

    def check_access(self, token: str) -> Principal:
        """The principal of an access token. Raises Unauthorized: 400 ExpiredToken or InvalidToken."""
        claims = self._claims(token, ACCESS_TYP)
        now = self._clock.now()
        if claims["exp"] <= now:
            raise Unauthorized("Token has expired", error="ExpiredToken", status=400)
        session_id = _session_of(claims)
        session = self._live.get(session_id)
        if session is None:
            raise _revoked()
        self._seen[session_id] = now
        kind = Kind.OWNER if session.app_password is None else Kind.APP
        return Principal(kind, claims["sub"], session_id, privileged=session.privileged, taken_down=session.taken_down)

    def check_refresh(self, token: str, *, allow_expired: bool = False) -> Principal:
        """The principal of a refresh token; whether it was spent is for `refresh` to say."""
        claims = self._claims(token, REFRESH_TYP)
        if claims["exp"] <= self._clock.now() and not allow_expired:
            raise Unauthorized("Token has expired", error="ExpiredToken", status=400)
        session_id = _session_of(claims)
        if session_id not in self._live and not allow_expired:
            raise _revoked()
        return Principal(Kind.REFRESH, claims["sub"], session_id, token_id=claims["jti"])

    def _claims(self, token: str, typ: str) -> dict[str, Any]:
        try:
            header, claims = self._read(token)
        except BadKey as problem:
            raise _invalid(problem.message) from None
        well_formed = (
            isinstance(claims.get("exp"), int)
            and isinstance(claims.get("sub"), str)
            and isinstance(claims.get("jti"), str)
        )
        if header.get("typ") != typ or claims.get("aud") != self._audience or not well_formed:
            raise _invalid("Bad token scope")
        return claims

    def _tokens(self, did: str, session: Session, refresh_jti: str) -> TokenPair:
        now = self._clock.now()
        common = {"sub": did, "aud": self._audience, "iat": now}
        access = {"scope": scope_of(session), **common, "exp": now + self._access_ttl, "jti": _make_jti(session.id)}
        refresh = {"scope": REFRESH_SCOPE, **common, "exp": now + REFRESH_TTL_S, "jti": refresh_jti}
        return TokenPair(
            jwt.encode_hs256(access, self._secret, ACCESS_TYP), jwt.encode_hs256(refresh, self._secret, REFRESH_TYP)
        )

    async def _successor(self, session: Session, jti: str) -> str:
        successors = [spent.jti for spent in session.spent[1:]] + [session.refresh_jti]
        for spent, successor in zip(session.spent, successors, strict=True):
            if spent.jti == jti and spent.until_us > self._clock.now_us():
                return successor
        await self.end(session.id)
        raise _revoked()

    def _with_use(self, session: Session) -> Session:
        seen_us = self._seen.get(session.id, 0) * 1_000_000
        return replace(session, used_us=seen_us) if seen_us > session.used_us else session

    def _surplus(self, now_us: int) -> list[str]:
        """Sessions that a new one pushes out: the expired ones, then the longest unused."""
        gone = [session.id for session in self._live.values() if session.expires_us <= now_us]
        room_needed = len(self._live) - len(gone) + 1 - MAX_SESSIONS
        if room_needed > 0:
            by_use = sorted((row for row in self.live() if row.expires_us > now_us), key=lambda row: row.used_us)
            gone += [session.id for session in by_use[:room_needed]]
        return gone

    async def _end_where(self, ends: Callable[[Session], bool]) -> None:
        ending = [session.id for session in self._live.values() if ends(session)]

        def change(txn: WriteTxn) -> None:
            for session_id in ending:
                session_store.delete_session(txn, session_id)

        await self._store.write(change, "end sessions", use_reserve=True)
        for session_id in ending:
            self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        self._live.pop(session_id, None)
        self._seen.pop(session_id, None)


def scope_of(session: Session) -> str:
    """The scope claim: com.atproto.access, appPass, appPassPrivileged or takendown."""
    if session.taken_down:
        return "com.atproto.takendown"
    if session.app_password is None:
        return "com.atproto.access"
    return "com.atproto.appPassPrivileged" if session.privileged else "com.atproto.appPass"


def _make_jti(session_id: str) -> str:
    return f"{session_id}.{secrets.token_urlsafe(12)}"


def _session_of(claims: dict[str, Any]) -> str:
    jti: str = claims["jti"]
    return jti.partition(".")[0]


def _invalid(message: str) -> Unauthorized:
    return Unauthorized(message, error="InvalidToken", status=400)


def _revoked() -> Unauthorized:
    """Named ExpiredToken like an expired one: it makes clients refresh, and then sign in again."""
    return Unauthorized("Token has been revoked", error="ExpiredToken", status=400)
