"""Proxy: calls of methods that are not ours, passed on to the service that has them, in the account's name.

Rules that hold here (protocol digest 10)
- The caller's own credentials never leave: the service gets a service token for its DID and this method, and of the
  other headers only those listed here. Of the answer's headers, too, only those listed come back.
- No token is made for account management, nor for what the principal may not call.
- Bodies stream both ways and are never wholly in memory beyond a bound; they stay compressed as they came. Only gzip is
  asked for, so that an error, or an answer to be completed with the owner's own records, can be read here.
- An error of the service keeps its status, name and message, but a 500 is a 502 here. A redirect is not followed: it is
  a fault of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pds_lite import ujson
from pds_lite.errors import BadData, BadInput, Unavailable, UpstreamFailure
from pds_lite.http.compression import accepts_gzip
from pds_lite.services.service_auth import is_protected
from pds_lite.services.upstream import Answer, error_answer, unpacked

if TYPE_CHECKING:
    from pds_lite.net.http_client import HttpClient, HttpStream
    from pds_lite.services.access import Principal
    from pds_lite.services.proxy_targets import ProxyTargets, Target
    from pds_lite.services.service_auth import ServiceAuth

HEAD_S = 10.0
"""Until the service begins to answer."""
IDLE_S = 30.0
"""Between two pieces of a body."""
MAX_ANSWER = 512 << 20
"""Bytes; answers stream through, so this only ends one that never would."""
WHOLE_ANSWER = 256 << 10
"""Bytes of an answer that are taken in before it is passed on, if they come at once or are all there is: a failure
until then can still be told.
"""
MAX_OWN_ANSWER = 2 << 20
"""Bytes of an answer to a question of our own, packed or not."""
OWN_S = 5.0
AT_ONCE = 40
"""Fewer than HttpClient has places, so that slow services do not keep this server from looking up identities."""
PUBLIC_AT_ONCE = 8
"""Calls of strangers, who have places of their own, so that they do not hold the owner up."""

_PASSED_ON = ("accept-language", "atproto-accept-labelers", "x-bsky-topics")
_PASSED_ON_PREFIX = "x-atproto-"
_BODY_HEADERS = ("content-type", "content-encoding")
_PASSED_BACK = ("content-type", "content-encoding", "content-language")
_PASSED_BACK_ALWAYS = ("atproto-repo-rev", "atproto-content-labelers", "retry-after")


@dataclass(frozen=True, slots=True)
class ProxiedCall:
    """What a client asked for."""

    nsid: str
    verb: str
    """GET, HEAD or POST."""
    query_string: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes | AsyncIterator[bytes] = b""
    """As it came, compressed or not."""
    body_length: int | None = None
    """Bytes of a body that streams, None if nobody said."""


class Pieces:
    """The body of an answer, passed through; whoever takes it must iterate it to the end or `aclose` it."""

    def __init__(self, begun: list[bytes], stream: HttpStream, places: asyncio.Semaphore) -> None:
        self._begun = begun
        self._stream = stream
        self._places: asyncio.Semaphore | None = places

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._begun:
            piece = b"".join(self._begun)
            self._begun = []
            return piece
        try:
            return await anext(self._stream)
        except BaseException:
            await self.aclose()
            raise

    async def whole(self, limit: int) -> bytes | None:
        """The rest of the body at once. None over `limit` bytes: it must be iterated then, and nothing is lost."""
        size = sum(map(len, self._begun))
        try:
            async for piece in self._stream:
                self._begun.append(piece)
                size += len(piece)
                if size > limit:
                    return None
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        return b"".join(self._begun)

    async def aclose(self) -> None:
        """Gives the answer up, if it has not ended."""
        await self._stream.aclose()
        if self._places is not None:
            self._places.release()
            self._places = None


class Proxy:
    """Passes calls on."""

    def __init__(self, http: HttpClient, targets: ProxyTargets, service_auth: ServiceAuth) -> None:
        self._http = http
        self.targets = targets
        self._service_auth = service_auth
        self._places = asyncio.Semaphore(AT_ONCE)
        self._public_places = asyncio.Semaphore(PUBLIC_AT_ONCE)

    async def call(
        self, principal: Principal, asked: ProxiedCall, *, aud: str | None = None, lxm: str | None = None
    ) -> Answer:
        """The answer of the service that has the method; an error of the service is an answer too.

        The token is made for the service and the method unless `aud` and `lxm` say otherwise. Raises BadInput for a
        call that cannot be passed on, Forbidden for one that the principal may not make, UpstreamFailure.
        """
        if is_protected(asked.nsid):
            raise _bad_method()
        target = await self.targets.find(asked.headers.get("atproto-proxy"), asked.nsid)
        for method in (asked.nsid, lxm or asked.nsid):
            check_allowed(principal, method, target)
        auth = self._service_auth
        token = (auth.mint if asked.verb == "POST" else auth.token_for_read)(aud or target.did, lxm or asked.nsid)
        return await self._send(target, asked, token, self._places)

    async def call_public(self, principal: Principal, asked: ProxiedCall) -> Answer:
        """The answer to a query that anybody may ask anybody: in nobody's name, and for strangers only the AppView's.

        Raises BadInput for a bad atproto-proxy header, Unavailable while too many are under way, UpstreamFailure.
        """
        header = asked.headers.get("atproto-proxy") if principal.is_account else None
        target = await self.targets.find(header, asked.nsid)
        if self._public_places.locked():
            raise Unavailable("Too many calls are waiting for other services")
        return await self._send(target, asked, None, self._public_places)

    async def ask_appview(self, nsid: str, params: Any, *, signed: bool = True) -> dict[str, Any]:
        """A question of our own to the configured AppView: its JSON answer. Raises UpstreamFailure if there is none."""
        target = self.targets.appview
        headers = {"accept-encoding": "gzip"}
        if signed:
            headers["authorization"] = f"Bearer {self._service_auth.token_for_read(target.did, nsid)}"
        url = f"{target.url}/xrpc/{nsid}?{urlencode(params, doseq=True)}"
        answer = await self._http.request(
            "GET", url, headers, timeout=OWN_S, max_bytes=MAX_OWN_ANSWER, configured=target.configured
        )
        if answer.status != 200:
            raise UpstreamFailure(f"{nsid}: the service answered {answer.status}")
        try:
            value = ujson.loads(unpacked(answer.body, answer.headers.get("content-encoding", ""), MAX_OWN_ANSWER))
        except BadData:
            value = None
        if not isinstance(value, dict):
            raise UpstreamFailure(f"{nsid}: the service answered no JSON object")
        return value

    async def _send(self, target: Target, asked: ProxiedCall, token: str | None, places: asyncio.Semaphore) -> Answer:
        headers = _request_headers(asked)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        url = f"{target.url}/xrpc/{asked.nsid}{'?' if asked.query_string else ''}{asked.query_string}"
        await _take(places)
        keeps_place = False
        try:
            stream = await self._http.stream(
                asked.verb,
                url,
                headers,
                asked.body,
                timeout=HEAD_S,
                max_bytes=MAX_ANSWER,
                configured=target.configured,
                idle=IDLE_S,
            )
            answer = await self._answer(stream, places, head=asked.verb == "HEAD")
            keeps_place = isinstance(answer.body, Pieces)
            return answer
        finally:
            if not keeps_place:
                places.release()

    async def _answer(self, stream: HttpStream, places: asyncio.Semaphore, *, head: bool) -> Answer:
        """Reads as much as comes at once; what is longer streams."""
        given = stream.headers
        headers = {name: given[name] for name in _PASSED_BACK_ALWAYS if name in given}
        if 300 <= stream.status < 400:
            await stream.aclose()
            raise UpstreamFailure(f"the service answered with a redirect ({stream.status})")
        if stream.status >= 400:
            async with stream:
                return await error_answer(stream, headers)
        headers |= {name: given[name] for name in _PASSED_BACK if name in given}
        length = given.get("content-length", "")
        is_small = length.isdigit() and int(length) <= WHOLE_ANSWER
        begun: list[bytes] = []
        size = 0
        async for piece in stream:
            begun.append(piece)
            size += len(piece)
            if size > WHOLE_ANSWER or not (is_small or stream.ready):
                break
        else:
            if head and length:
                headers["content-length"] = length
            return Answer(stream.status, headers, b"".join(begun))
        if length:
            headers["content-length"] = length
        return Answer(stream.status, headers, Pieces(begun, stream, places))


async def _take(places: asyncio.Semaphore) -> None:
    if not places.locked():
        await places.acquire()
        return
    try:
        async with asyncio.timeout(HEAD_S):
            await places.acquire()
    except TimeoutError:
        raise Unavailable("Too many calls are waiting for other services") from None


def _request_headers(asked: ProxiedCall) -> dict[str, str]:
    given = asked.headers
    sent = {name: given[name] for name in _PASSED_ON if name in given}
    sent |= {name: text for name, text in given.items() if name.startswith(_PASSED_ON_PREFIX)}
    sent["accept-encoding"] = "gzip" if accepts_gzip(given.get("accept-encoding", "")) else "identity"
    if asked.verb == "POST":
        sent |= {name: given[name] for name in _BODY_HEADERS if name in given}
        if asked.body_length is not None:
            sent["content-length"] = str(asked.body_length)
    return sent


def check_allowed(principal: Principal, nsid: str, target: Target) -> None:
    """Raises Forbidden for an OAuth session whose scopes do not cover the method there, BadInput (InvalidToken) for an
    app password that may not have it called at all.
    """
    aud = f"{target.did}#{target.service}"
    principal.require_rpc(nsid, aud)
    if not principal.allows_rpc(nsid, aud):
        raise _bad_method()


def _bad_method() -> BadInput:
    return BadInput("Bad token method", error="InvalidToken")
