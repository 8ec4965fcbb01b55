"""com.atproto.sync.subscribeRepos: the event stream over a websocket, an ASGI endpoint of its own.

Rules that hold here (protocol digest 4)
- Frames go out as they are stored, each in one binary message (http/websocket); what clients send is read and dropped.
- Refusals before the upgrade are HTTP: 405, 426, 429. Afterwards an error is a frame and then the close.
- A send that hangs is given up when its subscriber has become too slow or the server stops: nothing here waits for a
  client without a limit.
- Pings are the server's own (http/protocol), in both directions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from pds_lite import ujson
from pds_lite.atproto import firehose
from pds_lite.errors import BadInput, PdsError, RateLimited
from pds_lite.services.bundle import Services
from pds_lite.services.sequencer import StreamEnded, Subscription
from pds_lite.xrpc.router import subscription

NSID = "com.atproto.sync.subscribeRepos"
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
FAREWELL_S = 5.0
"""How long a client may take to accept its error frame and the close."""
WRITE_BYTES = 64 << 10
STALL_S = 60.0
"""How long one send may hang before its subscriber counts as too slow."""


@subscription(NSID)
async def subscribe_repos(services: Services, scope: Message, receive: Receive, send: Send) -> None:
    """Serves one websocket connection."""
    await receive()  # websocket.connect
    try:
        subscriber = services.sequencer.subscribe(_cursor(scope))
    except RateLimited as problem:
        await _deny(scope, send, 429, problem, [(b"retry-after", b"%d" % problem.retry_after)])
        return
    except PdsError as problem:
        await send({"type": "websocket.accept"})
        await _say_goodbye(send, problem)
        return
    try:
        await send({"type": "websocket.accept"})
        await _serve(subscriber, receive, send)
    finally:
        subscriber.close()


async def _serve(subscriber: Subscription, receive: Receive, send: Send) -> None:
    """Pumps frames until the client leaves, is too slow, or the server stops."""
    pump = asyncio.ensure_future(_pump(subscriber, send))
    left = asyncio.ensure_future(_wait_for_close(receive))
    try:
        ends: set[asyncio.Future[Any]] = {pump, left, subscriber.failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            return
        problem: PdsError | None = None
        if subscriber.failed.done():
            problem = subscriber.failed.result()
        else:
            try:
                await pump
            except PdsError as stopped:
                problem = stopped
            except StreamEnded:
                problem = None
        await _cancel(pump)
        await _say_goodbye(send, problem)
    finally:
        await _cancel(pump)
        await _cancel(left)


async def _pump(subscriber: Subscription, send: Send) -> None:
    stall = _Stall(subscriber.fail)
    try:
        while True:
            frames = await subscriber.next_batch()
            stall.begin()
            for some in _in_writes(frames):
                await send({"type": "websocket.send", "frames": some})
            stall.end()
            if not subscriber.live:
                # Sends to a fast client never yield: let others run between batches of a replay.
                await asyncio.sleep(0)
    finally:
        stall.cancel()


class _Stall:
    """Calls `fail` when one send takes STALL_S. One timer serves many sends: one each was a third of what they cost."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + STALL_S, self._look)

    def end(self) -> None:
        self._since = None

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        until = self._since + STALL_S
        if until <= self._loop.time():
            self._fail()
        else:
            self._timer = self._loop.call_at(until, self._look)


def _in_writes(frames: list[bytes]) -> Iterator[list[bytes]]:
    """The frames, so many at once as make a write worth while and a slow client's buffer no larger than it must be."""
    some: list[bytes] = []
    size = 0
    for frame in frames:
        if some and size + len(frame) > WRITE_BYTES:
            yield some
            some, size = [], 0
        some.append(frame)
        size += len(frame)
    yield some


async def _wait_for_close(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _say_goodbye(send: Send, problem: PdsError | None) -> None:
    """The error frame, if there is an error, and the close; a client that does not take them is dropped."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            if problem is not None:
                await send({"type": "websocket.send", "bytes": firehose.error_frame(problem.error, problem.message)})
            reason = problem.error if problem is not None else ""
            await send({"type": "websocket.close", "code": 1008 if problem is not None else 1001, "reason": reason})
    except TimeoutError:
        return


async def _deny(scope: Message, send: Send, status: int, problem: PdsError, headers: list[tuple[bytes, bytes]]) -> None:
    """An HTTP answer instead of the upgrade."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013})
        return
    body = ujson.dumpb({"error": problem.error, "message": problem.message})
    headers = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*"), *headers]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _cursor(scope: Message) -> int | None:
    """The cursor of the query string; one below 0 is before everything. Raises BadInput unless it is one integer."""
    found = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1"), True) if name == "cursor"]
    if not found or found == [""]:
        return None
    if len(found) > 1 or not _INTEGER.fullmatch(found[0]):
        raise BadInput("Error: cursor must be an integer")
    return max(0, int(found[0]))
