"""Mailer: plain text mails to the owner, where PDS_LITE_SMTP_URL names a server. Without one nothing is sent or missed.

Rules that hold here
- smtplib blocks, so it works in a thread, one mail at a time; it and `email` are imported with the first mail. The
  thread is a daemon: a server that hangs must not hold up the end of the process.
- `post` returns at once and the mail goes out behind it: how long a server takes must not show in an answer, and a code
  is on the box's own page in any case. The last failure is kept for `doctor`.
- smtps:// is TLS from the start; smtp:// changes to TLS where a server that is not on this machine offers it. The
  password never shows in a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pds_lite.errors import ConfigError, PdsError, Unavailable, UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage

    from pds_lite.config import Config

log = logging.getLogger(__name__)

TIMEOUT_S = 20.0
MAX_WAITING = 20
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"smtp": 25, "smtps": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails go."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """From smtp://user:password@host:port; user and password are percent-decoded. Raises ConfigError."""
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host:
            raise ConfigError("PDS_LITE_SMTP_URL: not a URL like smtps://user:password@mail.example.com:465")
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password is not None else None
        return cls(host, port or _PORTS[parts.scheme], parts.scheme == "smtps", user, password)


class Mailer:
    """Sends mails to the owner."""

    def __init__(self, config: Config) -> None:
        self._server = MailServer.parse(config.smtp_url) if config.smtp_url else None
        self._from = config.smtp_from or f"pds-lite@{config.hostname.partition(':')[0]}"
        self._name = config.hostname
        self._ca_file = str(config.ca_file) if config.ca_file else None
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.trouble: str | None = None
        """Why the last mail could not be sent, None if it was."""

    @property
    def is_configured(self) -> bool:
        """Whether there is a mail server."""
        return self._server is not None

    def post(self, to: str, subject: str, text: str) -> None:
        """Sends a mail some time soon; nothing without a mail server or an address."""
        if self._server is None or not to:
            return
        if len(self._tasks) >= MAX_WAITING:
            self.trouble = "too many mails wait to be sent"
            return
        task = asyncio.create_task(self._send_quietly(to, subject, text), name="mail")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, to: str, subject: str, text: str) -> None:
        """Sends a mail now. Raises Unavailable without a mail server, UpstreamFailure with that server's words."""
        if self._server is None:
            raise Unavailable("no mail server is configured", hint="PDS_LITE_SMTP_URL=smtps://user:password@host")
        async with self._sending:
            try:
                await _in_daemon_thread(partial(self._deliver, self._server, to, subject, text))
            except (OSError, ValueError) as problem:  # smtplib's exceptions are OSErrors
                self.trouble = f"{self._server.host}: {_words(problem)}"
                raise UpstreamFailure(f"the mail was not sent: {self.trouble}") from None
        self.trouble = None

    async def stop(self) -> None:
        """Gives up what is still to be sent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_quietly(self, to: str, subject: str, text: str) -> None:
        try:
            await self.send(to, subject, text)
        except PdsError as problem:
            log.warning("%s", problem.message)

    def _deliver(self, server: MailServer, to: str, subject: str, text: str) -> None:
        """In a thread."""
        import smtplib
        import ssl

        tls = ssl.create_default_context()
        if self._ca_file:
            tls.load_verify_locations(self._ca_file)
        message = self._message(to, subject, text)
        connection: smtplib.SMTP
        if server.tls:
            connection = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=tls)
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
        with connection:
            connection.ehlo_or_helo_if_needed()
            if not server.tls and server.host not in _LOCAL and connection.has_extn("starttls"):
                connection.starttls(context=tls)
            if server.user is not None:
                connection.login(server.user, server.password or "")
            connection.send_message(message)

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        from email.headerregistry import Address
        from email.message import EmailMessage
        from email.utils import formatdate, make_msgid

        message = EmailMessage()
        message["From"] = self._from if "<" in self._from else Address(display_name=self._name, addr_spec=self._from)
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._name.partition(":")[0])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message


async def _in_daemon_thread(work: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(problem: Exception | None) -> None:
        if done.cancelled():
            return
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)

    def run() -> None:
        problem = None
        try:
            work()
        except Exception as caught:  # noqa: BLE001 - handed to whoever waits
            problem = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, problem)

    threading.Thread(target=run, name="mail", daemon=True).start()
    await done


def _words(problem: Exception) -> str:
    """A failure in one short line without what was sent."""
    import smtplib

    if isinstance(problem, smtplib.SMTPResponseException):
        answer = problem.smtp_error
        words = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
        return f"{problem.smtp_code} {words}"[:300]
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        return "it refused the recipient"
    return str(problem)[:300] or type(problem).__name__
