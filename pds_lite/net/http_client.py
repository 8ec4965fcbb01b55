"""HttpClient: HTTP/1.1 requests to other servers, with an end to every wait and every size.

Own code because proxying is the most frequent work of a PDS (76 us a request where the common clients take 180 to
1,300) and because the address must be judged between resolving and connecting (net/ssrf).

Rules that hold here
- A name is resolved once; every address must be allowed, and the socket goes to one of exactly those. TLS checks the
  name.
- `configured=True` is for URLs out of the owner's own settings, which may point into the LAN. A redirect never
  inherits it.
- Nothing of one request reaches another: no cookies, no credentials kept, no compression asked for unless the caller
  does.
- Whatever the other side does wrong is UpstreamFailure with a short reason; a URL that cannot be used is BadInput.
- A connection is reused only after an answer that ended cleanly.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack
from urllib.parse import urljoin

from pds_lite.errors import BadInput, UpstreamFailure, UpstreamTimeout
from pds_lite.net.http_connection import Connection, Ended
from pds_lite.net.ssrf import Target, is_loopback, is_public, parse_url

USER_AGENT = "pds-lite"
MAX_IDLE = 16
MAX_IDLE_PER_ORIGIN = 4
IDLE_S = 30.0
MAX_AT_ONCE = 64
CONNECT_S = 5.0
"""For one address; the next one is tried after it."""
MAX_ADDRESSES = 4
LONGEST_S = 1800.0
"""For one exchange whose pieces each come in time, so that nobody can hold a connection for ever."""
WEB_PORTS = frozenset({80, 443})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REPEATABLE = frozenset({"GET", "HEAD"})

Body = bytes | AsyncIterator[bytes]
Resolve = Callable[[str, int], Any]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; a repeated header is joined with ", "."""
    body: bytes
    url: str
    """Where it came from, after redirects."""


class Limits(TypedDict, total=False):
    """How long, how large and how far a request may go: as the parameters of HttpClient.stream."""

    timeout: float
    max_bytes: int
    follow: int
    configured: bool


class HttpStream:
    """An answer whose body is still coming. Iterate it to the end, or `aclose` it; use it in `async with`."""

    def __init__(
        self, client: HttpClient, connection: Connection, url: str, max_bytes: int, deadline: float, idle: float | None
    ) -> None:
        self.status: int = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.url = url
        self._client = client
        self._connection: Connection | None = connection
        self._left = max_bytes
        self._deadline = deadline
        self._idle = idle
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            self._release(reusable=False)
            raise UpstreamFailure(f"the answer is larger than {max_bytes} bytes")

    @property
    def ready(self) -> bool:
        """True if the next step of the iteration will not wait."""
        return self._connection is None or self._connection.ready

    def __aiter__(self) -> HttpStream:
        return self

    async def __anext__(self) -> bytes:
        if self._connection is None:
            raise StopAsyncIteration
        try:
            if not self._connection.ready:
                await self._connection.wait(self._wait_until())
            chunk = self._connection.take()
        except TimeoutError:
            self._release(reusable=False)
            raise UpstreamTimeout("the answer took too long") from None
        except Ended as problem:
            self._release(reusable=False)
            raise UpstreamFailure(str(problem)) from None
        except BaseException:
            self._release(reusable=False)
            raise
        if chunk is None:
            self._release(reusable=True)
            raise StopAsyncIteration
        self._left -= len(chunk)
        if self._left < 0:
            self._release(reusable=False)
            raise UpstreamFailure("the answer is larger than allowed")
        return chunk

    async def read(self) -> bytes:
        """The rest of the body."""
        return b"".join([chunk async for chunk in self])

    async def aclose(self) -> None:
        """Gives the answer up."""
        self._release(reusable=False)

    async def __aenter__(self) -> HttpStream:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    def _wait_until(self) -> float:
        if self._idle is None:
            return self._deadline
        return min(self._deadline, asyncio.get_running_loop().time() + self._idle)

    def _release(self, *, reusable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.give_back(connection, reusable=reusable)


class HttpClient:
    """A pool of connections to other servers. Make one per process; `close` it at the end."""

    def __init__(
        self, *, ca_file: str | None = None, allow_loopback: bool = False, resolve: Resolve | None = None
    ) -> None:
        """`ca_file`: certificates trusted besides the system's. `allow_loopback`: development. `resolve(host, port)`:
        awaitable list of addresses, for tests.
        """
        self._ca_file = ca_file
        self._allow_loopback = allow_loopback
        self._resolve = resolve or _system_resolve
        self._tls: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        """Resting ones, the longest resting first."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._busy: set[Connection] = set()

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        **limits: Unpack[Limits],
    ) -> HttpResponse:
        """`stream` and its whole body. Raises UpstreamTimeout, UpstreamFailure, BadInput."""
        async with await self.stream(method, url, headers, body, **limits) as answer:
            content = await answer.read()
        return HttpResponse(answer.status, answer.headers, content, answer.url)

    async def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        *,
        timeout: float = 10.0,  # noqa: ASYNC109 - covers every redirect and the reading of the body
        max_bytes: int = 1 << 20,
        follow: int = 0,
        configured: bool = False,
        idle: float | None = None,
    ) -> HttpStream:
        """The answer's head; the body comes as the stream is read, all of it within `timeout` seconds from now.

        At most `follow` redirects (GET and HEAD), and `max_bytes` of body.
        With `idle`, for bodies of any length: the head within `timeout` seconds once the request has been sent, each
        piece of a body, either way, within `idle` seconds of the one before. Raises UpstreamTimeout.
        """
        begun = asyncio.get_running_loop().time()
        deadline = begun + timeout
        sent_headers = dict(headers or {})
        while True:
            target = parse_url(url)
            connection = await self._exchange(
                method, target, sent_headers, body, deadline=deadline, configured=configured, idle=idle
            )
            end = deadline if idle is None else begun + LONGEST_S
            answer = HttpStream(self, connection, url, max_bytes, end, idle)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not follow or method not in _REPEATABLE or location is None:
                return answer
            await answer.aclose()
            follow -= 1
            url = urljoin(url, location)
            configured = False
            following = parse_url(url)
            if target.scheme == "https" and following.scheme != "https":
                raise UpstreamFailure("redirected from https to http")
            if following.origin != target.origin:
                sent_headers = {name: text for name, text in sent_headers.items() if name.lower() != "authorization"}

    async def close(self) -> None:
        """Closes every connection, also those in use."""
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)  # asyncio closes an aborted socket in its next turn

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """For HttpStream: the answer is over."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        self._places.release()
        if not reusable or not connection.reusable:
            connection.abort()
            return
        same = [other for other in self._idle if other.key == connection.key]
        if len(same) >= MAX_IDLE_PER_ORIGIN or len(self._idle) >= MAX_IDLE:
            oldest = same[0] if len(same) >= MAX_IDLE_PER_ORIGIN else self._idle[0]
            self._idle.remove(oldest)
            oldest.abort()
        loop = asyncio.get_running_loop()
        connection.idle_until = loop.time() + IDLE_S
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(IDLE_S, self._sweep)

    def _sweep(self) -> None:
        """Closes what has rested long enough. One timer for all: most connections rest for milliseconds."""
        self._sweeping = None
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0].idle_until <= loop.time():
            self._idle.pop(0).abort()
        if self._idle:
            self._sweeping = loop.call_at(self._idle[0].idle_until, self._sweep)

    async def _exchange(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        body: Body,
        *,
        deadline: float,
        configured: bool,
        idle: float | None,
    ) -> Connection:
        """A connection that has received the head of the answer."""
        try:
            if isinstance(body, bytes):
                return await self._in_a_place(method, target, headers, body, configured, deadline)
            async with asyncio.timeout_at(deadline) as limit:
                if idle is not None:
                    body = _in_time(body, limit, idle, deadline - asyncio.get_running_loop().time())
                return await self._in_a_place(method, target, headers, body, configured, None)
        except TimeoutError:
            raise UpstreamTimeout(f"{target.host} did not answer in time") from None
        except Ended as problem:
            raise UpstreamFailure(f"{target.host}: {problem}") from None

    async def _in_a_place(
        self, method: str, target: Target, headers: Mapping[str, str], body: Body, configured: bool, due: float | None
    ) -> Connection:
        """`_send` once a place is free, which `give_back` frees again."""
        if self._places.locked():
            async with asyncio.timeout_at(due):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            return await self._send(method, target, headers, body, configured, due)
        except BaseException:
            self._places.release()
            raise

    async def _send(
        self, method: str, target: Target, headers: Mapping[str, str], body: Body, configured: bool, due: float | None
    ) -> Connection:
        head = _request_head(method, target, headers, body)
        key = (target.scheme, target.host, target.port, configured)
        while True:
            connection = self._take_idle(key)
            fresh = connection is None
            if connection is None:
                async with asyncio.timeout_at(due):
                    connection = await self._connect(target, key)
            self._busy.add(connection)
            try:
                await connection.ask(method, head, body, due)
                return connection
            except BaseException as problem:
                self._busy.discard(connection)
                connection.abort()
                # The other side may close a resting connection at any moment; nothing was asked of it then.
                stale = isinstance(problem, Ended) and problem.silent and not fresh
                if not stale or method not in _REPEATABLE or not isinstance(body, bytes):
                    raise

    def _take_idle(self, key: tuple[str, str, int, bool]) -> Connection | None:
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index].key == key:
                connection = self._idle.pop(index)
                if connection.reusable:
                    return connection
        self._idle = [connection for connection in self._idle if connection.reusable]
        return None

    async def _connect(self, target: Target, key: tuple[str, str, int, bool]) -> Connection:
        configured = key[3]
        addresses = await self._addresses(target, configured)
        if not configured and target.port < 1024 and target.port not in WEB_PORTS:
            raise UpstreamFailure(f"{target.host}: port {target.port} is not a web server's")
        tls = await self._tls_context() if target.scheme == "https" else None
        loop = asyncio.get_running_loop()
        reason = "no address"
        for address in addresses[:MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, connection = await loop.create_connection(
                        lambda: Connection(key),
                        address,
                        target.port,
                        ssl=tls,
                        server_hostname=target.host if tls else None,
                    )
                return connection
            except TimeoutError:
                reason = "no connection in time"
            except ssl.SSLCertVerificationError as problem:
                reason = f"its certificate is not valid ({problem.verify_message})"
            except (OSError, ssl.SSLError) as problem:
                reason = os.strerror(problem.errno) if problem.errno else problem.strerror or type(problem).__name__
        raise UpstreamFailure(f"{target.host} cannot be reached: {reason}")

    async def _addresses(self, target: Target, configured: bool) -> list[str]:
        try:
            addresses: list[str] = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            raise UpstreamFailure(f"{target.host} has no address") from None
        if not addresses:
            raise UpstreamFailure(f"{target.host} has no address")
        for address in addresses:
            if not configured and not is_public(address) and not (self._allow_loopback and is_loopback(address)):
                raise UpstreamFailure(f"{target.host} is not a public server")
        return addresses

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # In a thread: reading the system's certificates takes a small board a quarter of a second.
            self._tls = await asyncio.to_thread(_make_tls, self._ca_file)
        return self._tls


async def _in_time(
    body: AsyncIterator[bytes], limit: asyncio.Timeout, idle: float, wait: float
) -> AsyncIterator[bytes]:
    """`body`, each piece of which puts `limit` off by `idle` seconds, and its end by `wait`."""
    now = asyncio.get_running_loop().time
    last = now() + LONGEST_S
    limit.reschedule(now() + idle)
    async for piece in body:
        limit.reschedule(min(last, now() + idle))
        yield piece
    limit.reschedule(now() + wait)


def _make_tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


async def _system_resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _request_head(method: str, target: Target, headers: Mapping[str, str], body: Body) -> bytes:
    lines = [f"{method} {target.path} HTTP/1.1", f"host: {target.authority}"]
    given = {name.lower(): value for name, value in headers.items()}
    given.setdefault("user-agent", USER_AGENT)
    given.setdefault("accept-encoding", "identity")
    given.pop("host", None)
    given.pop("connection", None)
    if isinstance(body, bytes):
        given.pop("transfer-encoding", None)
        if body or method not in _REPEATABLE:
            given["content-length"] = str(len(body))
    elif "content-length" not in given:
        given["transfer-encoding"] = "chunked"
    lines += [f"{name}: {value}" for name, value in given.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise BadInput("a request header holds a line break")
    try:
        return f"{text}\r\n\r\n".encode("latin-1")
    except UnicodeEncodeError:
        raise BadInput("a request header is not Latin-1") from None
