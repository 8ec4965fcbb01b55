"""OldHost: the XRPC calls of a move to the host that the account leaves.

Rules that hold here
- Its rate limits are obeyed: after an answer that leaves nothing, and after a 429, nothing is asked before the moment
  that it names. Server errors and silence are tried again, with longer and longer pauses.
- An expired access token is renewed once and the new pair is kept before it is used; the password is never kept.
- Whatever it refuses is UpstreamFailure with its own error name and words, to be shown to a person.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pds_lite import ujson
from pds_lite.errors import BadData, UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pds_lite.clock import Clock
    from pds_lite.net.http_client import HttpClient, HttpStream

TRIES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LONGEST_LIMIT_S = 3600.0
"""How long a host's rate limit is waited for at one time."""
ANSWER_S = 60.0
IDLE_S = 60.0
MAX_JSON = 4 << 20
MAX_BODY = 1 << 40

KeepTokens = Callable[[str, str], Awaitable[None]]


class OldHost:
    """One host and one session there. `keep(access, refresh)` stores a renewed pair."""

    def __init__(
        self, http: HttpClient, clock: Clock, url: str, keep: KeepTokens, *, access: str = "", refresh: str = ""
    ) -> None:
        self.url = url
        self._http = http
        self._clock = clock
        self._keep = keep
        self._access = access
        self._refresh = refresh
        self._not_before = 0.0
        self._renewing = asyncio.Lock()

    async def sign_in(self, identifier: str, password: str, code: str | None) -> dict[str, Any]:
        """Opens a session. Raises UpstreamFailure (AuthFactorTokenRequired, AuthenticationRequired)."""
        given = {"identifier": identifier, "password": password}
        if code:
            given["authFactorToken"] = code
        session: dict[str, Any] = await self.post("com.atproto.server.createSession", given, signed_in=False)
        await self._take(session)
        return session

    async def sign_out(self) -> None:
        """Ends the session there."""
        if self._refresh:
            await self.post("com.atproto.server.deleteSession", None, token=self._refresh)

    async def get(self, nsid: str, *, signed_in: bool = True, **params: Any) -> Any:
        """The JSON answer of a query. Raises UpstreamFailure."""
        return await self._json("GET", nsid, params, None, signed_in=signed_in)

    async def post(
        self, nsid: str, body: Mapping[str, Any] | None = None, *, signed_in: bool = True, token: str | None = None
    ) -> Any:
        """The JSON answer of a procedure, None if it has none. Raises UpstreamFailure."""
        return await self._json("POST", nsid, {}, body, signed_in=signed_in, token=token)

    @asynccontextmanager
    async def stream(self, nsid: str, **params: Any) -> AsyncIterator[HttpStream]:
        """The body of a query as it comes. Raises UpstreamFailure, also when it breaks off."""
        answer = await self._answer("GET", nsid, params, None, self._access, MAX_BODY)
        async with answer:
            yield answer

    async def _json(
        self,
        verb: str,
        nsid: str,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        *,
        signed_in: bool,
        token: str | None = None,
    ) -> Any:
        used = token or (self._access if signed_in else "")
        answer = await self._answer(verb, nsid, params, body, used, MAX_JSON, renew=token is None)
        async with answer:
            content = await answer.read()
        if not content:
            return None
        try:
            return ujson.loads(content)
        except BadData:
            raise UpstreamFailure(f"{self.url} answered no JSON to {nsid}") from None

    async def _answer(
        self,
        verb: str,
        nsid: str,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        token: str,
        max_bytes: int,
        *,
        renew: bool = True,
    ) -> HttpStream:
        """An answer of status 200, after as many tries as it is worth."""
        pause = FIRST_PAUSE_S
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = await self._ask(verb, nsid, params, body, token, max_bytes)
                if answer.status == 200:
                    return answer
                problem = await _refusal(answer, nsid)
            except UpstreamFailure as failure:
                problem = failure
            if problem.error == "ExpiredToken" and token and renew:
                renew = False
                token = await self._renew(token)
                continue
            if not left or not _is_passing(problem):
                raise problem
            if problem.error != "RateLimitExceeded":
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads the load
                pause = min(pause * 3, LONGEST_PAUSE_S)
        raise AssertionError("unreachable")

    async def _ask(
        self,
        verb: str,
        nsid: str,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        token: str,
        max_bytes: int,
    ) -> HttpStream:
        await asyncio.sleep(max(0.0, self._not_before - self._clock.monotonic()))
        headers = {"accept": "*/*"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if body is not None:
            headers["content-type"] = "application/json"
        url = f"{self.url}/xrpc/{nsid}" + (f"?{urlencode(params)}" if params else "")
        content = ujson.dumpb(dict(body)) if body is not None else b""
        answer = await self._http.stream(
            verb, url, headers, content, timeout=ANSWER_S, idle=IDLE_S, max_bytes=max_bytes
        )
        self._note_limits(answer)
        return answer

    def _note_limits(self, answer: HttpStream) -> None:
        """Learns when the host wants to be asked again."""
        wait = 0.0
        if answer.status == 429 or answer.headers.get("ratelimit-remaining") == "0":
            reset, after = answer.headers.get("ratelimit-reset", ""), answer.headers.get("retry-after", "")
            if after.isdigit():
                wait = float(after)
            elif reset.isdigit():
                wait = float(reset) - self._clock.now()
            elif answer.status == 429:
                wait = LONGEST_PAUSE_S
        if wait > 0:
            self._not_before = max(self._not_before, self._clock.monotonic() + min(wait, LONGEST_LIMIT_S))

    async def _renew(self, expired: str) -> str:
        async with self._renewing:
            if self._access != expired:
                return self._access  # somebody else has just done it
            try:
                session = await self.post("com.atproto.server.refreshSession", None, token=self._refresh)
            except UpstreamFailure as problem:
                if _is_passing(problem):
                    raise
                raise session_ended(self.url) from None
            await self._take(session)
            return self._access

    async def _take(self, session: Any) -> None:
        if not isinstance(session, dict) or not isinstance(session.get("accessJwt"), str):
            raise UpstreamFailure(f"{self.url} opened no session")
        access, refresh = session["accessJwt"], str(session.get("refreshJwt", ""))
        await self._keep(access, refresh)
        self._access, self._refresh = access, refresh


def session_ended(url: str) -> UpstreamFailure:
    """The session at the old host is over; only the password opens another."""
    return UpstreamFailure(f"the session at {url} has ended", error="SessionEnded")


async def _refusal(answer: HttpStream, nsid: str) -> UpstreamFailure:
    """What an answer other than 200 says."""
    async with answer:
        content = await answer.read() if answer.headers.get("content-type", "").startswith("application/json") else b""
    try:
        told = ujson.loads(content) if content else {}
    except BadData:
        told = {}
    name = told.get("error") if isinstance(told, dict) else None
    words = told.get("message") if isinstance(told, dict) else None
    error = name if isinstance(name, str) and name else f"Status{answer.status}"
    if answer.status == 429:
        error = "RateLimitExceeded"
    method = nsid.rpartition(".")[2]
    text = f"{method}: {answer.status} {error}" + (f": {words[:300]}" if isinstance(words, str) else "")
    return UpstreamFailure(text, error=error, status=answer.status)


def _is_passing(problem: UpstreamFailure) -> bool:
    """True for what may be better in a minute."""
    return problem.status >= 500 or problem.error == "RateLimitExceeded"
