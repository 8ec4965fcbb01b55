"""A mail server on loopback that keeps what it gets, or answers with a refusal."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default


class SmtpSink:
    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.recipients: list[str] = []
        self.refusal = ""
        """In place of taking a recipient, such as "550 no such box"."""
        self.silent = False
        """Says nothing at all."""
        self.url = ""

    def wait(self, number: int) -> list[Message]:
        """The mails, once there are that many."""
        end = time.monotonic() + 60
        while len(self.mails) < number:
            assert time.monotonic() < end, f"{len(self.mails)} mails came, not {number}"
            time.sleep(0.02)
        return self.mails


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        if self.server.sink.silent:
            self.rfile.read(1)
            return
        self._say("220 sink")
        for line in self.rfile:
            verb = line.strip().upper()
            if verb.startswith(b"RCPT"):
                self._take_recipient(line)
            elif verb == b"DATA":
                self._say("354 go")
                self._take()
                self._say("250 ok")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _take_recipient(self, line: bytes) -> None:
        if not self.server.sink.refusal:
            self.server.sink.recipients.append(line.decode().partition("<")[2].partition(">")[0])
        self._say(self.server.sink.refusal or "250 ok")

    def _take(self) -> None:
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                break
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        self.server.sink.mails.append(message_from_bytes(b"".join(lines), policy=default))

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, sink: SmtpSink) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sink = sink


@contextmanager
def smtp_sink() -> Iterator[SmtpSink]:
    sink = SmtpSink()
    with _Server(sink) as server:
        sink.url = f"smtp://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
