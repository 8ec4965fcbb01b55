"""Mailer: plain text with the code once, sent behind the answer; a server that fails is named, without secrets."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pds_lite.config import Config
from pds_lite.errors import ConfigError, Unavailable, UpstreamFailure
from pds_lite.services.account_flows import code_mail
from pds_lite.services.codes import Purpose
from pds_lite.services.mailer import TIMEOUT_S, Mailer, MailServer
from tests.smtp_sink import smtp_sink

CODE = re.compile(r"\b([A-Z2-7]{5}-[A-Z2-7]{5})\b")


def mailer(tmp_path: Path, url: str | None, **settings: Any) -> Mailer:
    return Mailer(Config(data_dir=tmp_path, hostname="localhost:2583", dev=True, smtp_url=url, **settings))


@pytest.mark.parametrize("purpose", list(Purpose))
async def test_a_code_mail_is_plain_text_with_the_code_once(tmp_path: Path, purpose: Purpose) -> None:
    subject, text = code_mail(purpose, "ABCDE-23456", "alice.example.com")
    with smtp_sink() as sink:
        await mailer(tmp_path, sink.url).send("alice@example.com", subject, text)
        (mail,) = sink.mails

    assert sink.recipients == ["alice@example.com"]
    assert mail.get_content_type() == "text/plain"
    assert mail["From"].addresses[0].addr_spec == "pds-lite@localhost"
    assert mail["Subject"] == subject
    assert mail["Content-Transfer-Encoding"] == "7bit"
    assert CODE.findall(mail.as_string()) == ["ABCDE-23456"]
    assert "alice.example.com" in mail.get_content()


async def test_the_sender_is_the_owners_choice(tmp_path: Path) -> None:
    with smtp_sink() as sink:
        await mailer(tmp_path, sink.url, smtp_from="Box <box@example.com>").send("a@example.com", "s", "t")
        assert sink.mails[0]["From"] == "Box <box@example.com>"


async def test_posting_does_not_wait_and_keeps_the_failure(tmp_path: Path) -> None:
    with smtp_sink() as sink:
        sink.refusal = "550 no such box"
        box = mailer(tmp_path, sink.url)
        box.post("nobody@example.com", "s", "t")
        assert len(box._tasks) == 1, "the mail is still to be sent"
        await asyncio.gather(*box._tasks)
        assert box.trouble is not None
        assert "refused the recipient" in box.trouble

        sink.refusal = ""
        await box.send("alice@example.com", "s", "t")
        assert box.trouble is None


async def test_without_a_server_nothing_is_sent_or_missed(tmp_path: Path) -> None:
    box = mailer(tmp_path, None)
    assert not box.is_configured
    box.post("alice@example.com", "s", "t")
    with pytest.raises(Unavailable):
        await box.send("alice@example.com", "s", "t")
    assert box.trouble is None


async def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    box = mailer(tmp_path, "smtp://user:s%40cret@127.0.0.1:9")
    with pytest.raises(UpstreamFailure, match="not sent") as caught:
        await box.send("alice@example.com", "s", "t")
    assert "cret" not in str(caught.value)
    assert "cret" not in repr(MailServer.parse("smtp://user:s%40cret@127.0.0.1:9"))


async def test_a_server_that_says_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with smtp_sink() as sink:
        sink.silent = True
        box = mailer(tmp_path, sink.url)
        box.post("alice@example.com", "s", "t")
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await box.stop()
        assert time.monotonic() - began < TIMEOUT_S / 2


async def test_a_line_break_in_a_header_sends_nothing(tmp_path: Path) -> None:
    with smtp_sink() as sink:
        with pytest.raises(UpstreamFailure):
            await mailer(tmp_path, sink.url).send("a@example.com", "subject\r\nBcc: b@example.com", "t")
        assert sink.recipients == []


def test_the_setting_is_read_with_its_escapes() -> None:
    assert MailServer.parse("smtps://me%40example.com:p%2Fw%3A@mail.example.com") == MailServer(
        "mail.example.com", 465, True, "me@example.com", "p/w:"
    )
    assert MailServer.parse("smtp://127.0.0.1:2525") == MailServer("127.0.0.1", 2525, False, None, None)
    for wrong in ("smtp://", "smtp://host:port", "smtp://host:99999"):
        with pytest.raises(ConfigError):
            MailServer.parse(wrong)
