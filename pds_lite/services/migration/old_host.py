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
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
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
TOLD_LIMIT_S = 5.0
"""A longer one is worth a line."""
ANSWER_S = 60.0
IDLE_S = 60.0
MAX_JSON = 4 << 20
MAX_BODY = 1 << 40
REDIRECTS = 3
"""To where a host keeps its blobs; the session's token does not go along."""

KeepTokens = Callable[[str, str], Awaitable[None]]


async def _keep_nowhere(_access: str, _refresh: str) -> None:
    """For a session that ends with whoever opened it."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One call, as often as it takes."""

    verb: str
    nsid: str
    params: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    is_large: bool = False
    """The answer is a file: of any size, and perhaps kept elsewhere."""


class OldHost:
    """One host and one session there. `keep(access, refresh)` stores a renewed pair; `say` takes the owner's lines."""

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        url: str,
        keep: KeepTokens = _keep_nowhere,
        *,
        access: str = "",
        refresh: str = "",
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.url = url
        self._say = say
        self._http = http
        self._clock = clock
        self._keep = keep
        self._access = access
        self._refresh = refresh
        self._not_before = 0.0
        self._renewing = asyncio.Lock()

    @property
    def tokens(self) -> tuple[str, str]:
        """(access, refresh) of the session, empty without one."""
        return self._access, self._refresh

    async def sign_in(self, identifier: str, password: str, code: str | None) -> dict[str, Any]:
        """Opens a session. Raises UpstreamFailure (AuthFactorTokenRequired, AuthenticationRequired)."""
        given = {"identifier": identifier, "password": password}
        if code:
            given["authFactorToken"] = code
        session = await self.post("com.atproto.server.createSession", given, signed_in=False)
        await self._take(session)
        return session

    async def sign_out(self) -> None:
        """Ends the session there."""
        if self._refresh:
            await self.post("com.atproto.server.deleteSession", token=self._refresh)

    async def get(self, nsid: str, *, signed_in: bool = True, **params: Any) -> dict[str, Any]:
        """The answer of a query. Raises UpstreamFailure, also when it is not a JSON object."""
        return await self._object(_Request("GET", nsid, params), self._access if signed_in else "")

    async def post(
        self, nsid: str, body: Mapping[str, Any] | None = None, *, signed_in: bool = True, token: str | None = None
    ) -> dict[str, Any]:
        """The answer of a procedure, empty if it has none. Raises UpstreamFailure."""
        used = token or (self._access if signed_in else "")
        return await self._object(_Request("POST", nsid, {}, body), used, renew=token is None)

    @asynccontextmanager
    async def stream(self, nsid: str, **params: Any) -> AsyncIterator[HttpStream]:
        """The body of a query as it comes. Raises UpstreamFailure, also when it breaks off."""
        async with await self._answer(_Request("GET", nsid, params, is_large=True), self._access) as answer:
            yield answer

    async def _object(self, request: _Request, token: str, *, renew: bool = True) -> dict[str, Any]:
        async with await self._answer(request, token, renew=renew) as answer:
            content = await answer.read()
        if not content and request.verb == "POST":
            return {}
        try:
            value = ujson.loads(content)
        except BadData:
            value = None
        if not isinstance(value, dict):
            raise UpstreamFailure(f"{self.url} answered no JSON object to {request.nsid}")
        return value

    async def _answer(self, request: _Request, token: str, *, renew: bool = True) -> HttpStream:
        """An answer of status 200, after as many tries as it is worth."""
        pause = FIRST_PAUSE_S
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = await self._ask(request, token)
                if answer.status == 200:
                    return answer
                problem = await _refusal(answer, request.nsid)
            except UpstreamFailure as failure:
                problem = failure
            if problem.error == "ExpiredToken" and token and renew:
                renew = False
                token = await self._renew(token)
                continue
            if not left or not is_passing(problem):
                raise problem
            if problem.error != "RateLimitExceeded":
                if not request.is_large:
                    self._say(f"{problem.message}; trying again")
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads the load
                pause = min(pause * 3, LONGEST_PAUSE_S)
        raise AssertionError("unreachable")

    async def _ask(self, request: _Request, token: str) -> HttpStream:
        await asyncio.sleep(max(0.0, self._not_before - self._clock.monotonic()))
        headers = {"accept": "*/*"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        content = b""
        if request.body is not None:
            headers["content-type"] = "application/json"
            content = ujson.dumpb(dict(request.body))
        query = f"?{urlencode(request.params)}" if request.params else ""
        answer = await self._http.stream(
            request.verb,
            f"{self.url}/xrpc/{request.nsid}{query}",
            headers,
            content,
            timeout=ANSWER_S,
            idle=IDLE_S,
            max_bytes=MAX_BODY if request.is_large else MAX_JSON,
            follow=REDIRECTS if request.is_large else 0,
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
        until = self._clock.monotonic() + min(wait, LONGEST_LIMIT_S)
        if wait > 0 and until > self._not_before:
            if until - self._not_before > TOLD_LIMIT_S and wait > TOLD_LIMIT_S:
                self._say(f"{self.url} wants to be asked nothing for {min(wait, LONGEST_LIMIT_S):.0f} s (rate limit)")
            self._not_before = until

    async def _renew(self, expired: str) -> str:
        async with self._renewing:
            if self._access != expired:
                return self._access  # somebody else has just done it
            try:
                session = await self.post("com.atproto.server.refreshSession", token=self._refresh)
            except UpstreamFailure as problem:
                if is_passing(problem):
                    raise
                raise session_ended(self.url) from None
            await self._take(session)
            return self._access

    async def _take(self, session: dict[str, Any]) -> None:
        if not isinstance(session.get("accessJwt"), str):
            raise UpstreamFailure(f"{self.url} opened no session")
        access, refresh = session["accessJwt"], str(session.get("refreshJwt", ""))
        await self._keep(access, refresh)
        self._access, self._refresh = access, refresh


def session_ended(url: str) -> UpstreamFailure:
    """The session at the old host is over; only the password opens another."""
    return UpstreamFailure(f"the session at {url} has ended", error="SessionEnded")


async def _refusal(answer: HttpStream, nsid: str) -> UpstreamFailure:
    """What an answer other than 200 says."""
    said: Any = None
    async with answer:
        if answer.headers.get("content-type", "").startswith("application/json"):
            with suppress(BadData):
                said = ujson.loads(await answer.read())
    said = said if isinstance(said, dict) else {}
    error = "RateLimitExceeded" if answer.status == 429 else _text(said.get("error")) or f"Status{answer.status}"
    method, words = nsid.rpartition(".")[2], _text(said.get("message"))
    return UpstreamFailure(
        f"{method}: {answer.status} {error}{': ' if words else ''}{words}", error=error, status=answer.status
    )


def _text(value: Any) -> str:
    """Words of another server as one line for a terminal, empty if it is none."""
    return "".join(filter(str.isprintable, value[:300])) if isinstance(value, str) else ""


def is_passing(problem: UpstreamFailure) -> bool:
    """True for what may be better in a minute."""
    return (problem.status >= 500 and problem.status != 501) or problem.error == "RateLimitExceeded"


def is_silence(problem: UpstreamFailure) -> bool:
    """True if there was no answer at all: nothing is known of what was asked for."""
    return problem.error in ("UpstreamFailure", "UpstreamTimeout")
