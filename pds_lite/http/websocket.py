"""The server's side of one websocket: uvicorn's wsproto protocol, made for streams that only go out.

Rules that hold here
- Clients of an atproto stream have nothing to say: what they send is counted and dropped, never queued, so reading
  never stops and every ping is answered, also while a long backfill is being written.
- A peer that neither reads nor answers is cut, not waited for: closing politely would wait for its receive window.
- A batch goes out in one write: {"type": "websocket.send", "frames": [...]}, each one binary message. Its heads are
  made here (RFC 6455 section 5.2), because a call of library and kernel for each took half the time of a backfill.
- Nothing here knows what is streamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events
from wsproto.connection import ConnectionState

MAX_CHATTER = 256 * 1024
"""Bytes of messages taken from one client before the connection ends."""
FRAME_COST = 16
"""What an empty frame counts as."""
PONG_BACKLOG = 1 << 20
"""Bytes waiting to be sent above which pings go unanswered: a flood of them must not fill the memory."""
CLOSE_GRACE_S = 0.5


class WebSocketProtocol(WSProtocol):
    """One websocket."""

    chatter = 0

    def handle_message(self, event: events.TextMessage | events.BytesMessage) -> None:
        """Drops the message; ends the connection of a client that goes on."""
        self.chatter += len(event.data) + FRAME_COST
        if self.chatter > MAX_CHATTER:
            self._end(1008, "this stream takes no messages")

    def handle_ping(self, event: events.Ping) -> None:
        if self.transport.get_write_buffer_size() < PONG_BACKLOG:
            super().handle_ping(event)

    async def send(self, message: Any) -> None:
        frames = message.get("frames")
        if frames is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(b"".join(_binary_messages(frames)))

    async def run_asgi(self) -> None:
        await super().run_asgi()
        # The endpoint has ended and a close frame is on its way, behind whatever the client has not read yet.
        self.loop.call_later(self.close_timeout + CLOSE_GRACE_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._cut_soon()

    def shutdown(self) -> None:
        super().shutdown()
        self._cut_soon()

    def handle_close(self, event: events.CloseConnection) -> None:
        if self.conn.state is ConnectionState.OPEN:
            # Not the client's wish but the parser's: what came is no frame, and the client is told (RFC 6455, 7.1.7).
            self._end(event.code, "protocol error")
            return
        super().handle_close(event)
        self._cut_soon()

    def _end(self, code: int, reason: str) -> None:
        if self.close_sent:
            return
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(self.conn.send(events.CloseConnection(code=code, reason=reason)))
        self.transport.close()
        self._cut_soon()

    def _cut_soon(self) -> None:
        self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)


def _binary_messages(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Each frame behind its head: final, binary, not masked."""
    for frame in frames:
        size = len(frame)
        if size < 126:
            yield bytes((0x82, size))
        elif size < 1 << 16:
            yield b"\x82\x7e" + size.to_bytes(2, "big")
        else:
            yield b"\x82\x7f" + size.to_bytes(8, "big")
        yield frame
