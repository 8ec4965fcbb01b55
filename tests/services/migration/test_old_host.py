"""The old host is asked as it wants to be: no faster than it allows, again when that may help, with a live token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pds_lite.clock import Clock
from pds_lite.errors import UpstreamFailure
from pds_lite.net.http_client import HttpClient
from pds_lite.services.migration import old_host
from pds_lite.services.migration.old_host import OldHost
from tests.services.migration.scripted_host import ScriptedHost, error, scripted_host

QUERY = "com.example.get"
REFRESH = "com.atproto.server.refreshSession"


@pytest.fixture
def host() -> Iterator[ScriptedHost]:
    with scripted_host() as made:
        yield made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, instead of sleeping."""
    slept: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds > 0:
            slept.append(seconds)
        await really(0)

    monkeypatch.setattr(old_host.asyncio, "sleep", sleep)
    return slept


def ask(host: ScriptedHost, work: Callable[[OldHost], Awaitable[Any]], **tokens: str) -> tuple[Any, list[Any]]:
    """(what `work` gave, the pairs of tokens that were kept)."""
    kept: list[Any] = []

    async def keep(access: str, refresh: str) -> None:
        kept.append((access, refresh))

    async def run() -> Any:
        http = HttpClient(allow_loopback=True)
        try:
            return await work(OldHost(http, Clock(), host.url, keep, **tokens))
        finally:
            await http.close()

    return asyncio.run(run()), kept


def test_server_errors_and_limits_pass_and_pauses_are_those_it_names(host: ScriptedHost, naps: list[float]) -> None:
    replies = [
        error(503, "Unavailable"),
        error(429, "TooMuch", retry_after="7"),
        (200, {"ok": 1}, {"ratelimit-remaining": "0", "ratelimit-reset": str(int(Clock().now()) + 30)}),
        (200, {"ok": 2}, {}),
    ]
    host.answers[QUERY] = lambda _asked: replies.pop(0)

    async def work(old: OldHost) -> list[Any]:
        return [await old.get(QUERY), await old.get(QUERY)]

    assert ask(host, work)[0] == [{"ok": 1}, {"ok": 2}]
    assert len(host.asked) == 4
    assert 0 < naps[0] <= 1
    assert 6 < naps[1] <= 7
    assert 25 < naps[2] <= 30


def test_what_cannot_get_better_is_not_asked_again(host: ScriptedHost, naps: list[float]) -> None:
    host.answers[QUERY] = lambda _asked: error(400, "BlobNotFound")
    with pytest.raises(UpstreamFailure, match="BlobNotFound for the test") as caught:
        ask(host, lambda old: old.get(QUERY))
    assert (caught.value.error, caught.value.status, len(host.asked), naps) == ("BlobNotFound", 400, 1, [])


def test_a_host_that_stays_broken_is_given_up(host: ScriptedHost, naps: list[float]) -> None:
    host.answers[QUERY] = lambda _asked: (500, b"<html>", {})
    with pytest.raises(UpstreamFailure, match="500"):
        ask(host, lambda old: old.get(QUERY))
    assert len(host.asked) == old_host.TRIES
    assert naps == sorted(naps)


def test_an_expired_token_is_renewed_once_and_the_new_pair_is_kept_first(host: ScriptedHost, naps: list[float]) -> None:
    host.answers[QUERY] = lambda asked: (200, {"ok": 1}, {}) if asked.token == "new" else error(400, "ExpiredToken")
    host.answers[REFRESH] = lambda _asked: (200, {"accessJwt": "new", "refreshJwt": "newer"}, {})

    async def work(old: OldHost) -> list[Any]:
        return await asyncio.gather(*(old.get(QUERY) for _ in range(5)))

    answers, kept = ask(host, work, access="old", refresh="renew")
    assert answers == [{"ok": 1}] * 5
    assert kept == [("new", "newer")]
    assert [asked.token for asked in host.asked if asked.nsid == REFRESH] == ["renew"]


def test_a_session_that_cannot_be_renewed_has_ended(host: ScriptedHost, naps: list[float]) -> None:
    host.answers[QUERY] = lambda _asked: error(400, "ExpiredToken")
    host.answers[REFRESH] = lambda _asked: error(400, "ExpiredToken")
    with pytest.raises(UpstreamFailure) as caught:
        ask(host, lambda old: old.get(QUERY), access="old", refresh="renew")
    assert caught.value.error == "SessionEnded"
    assert host.names() == ["get", "refreshSession"]


def test_a_body_streams_and_one_that_breaks_off_is_a_failure(host: ScriptedHost, naps: list[float]) -> None:
    async def work(old: OldHost) -> bytes:
        async with old.stream(QUERY, cid="x") as answer:
            return await answer.read()

    host.answers[QUERY] = lambda _asked: (200, b"x" * 100_000, {})
    assert ask(host, work)[0] == b"x" * 100_000
    host.answers[QUERY] = lambda _asked: (200, b"half", {"Content-Length": "8", "Connection": "close"})
    with pytest.raises(UpstreamFailure):
        ask(host, work)
    host.answers["com.atproto.server.createSession"] = lambda _asked: (200, {}, {})
    with pytest.raises(UpstreamFailure, match="opened no session"):
        ask(host, lambda old: old.sign_in("a", "b", None))


def test_a_file_may_lie_elsewhere_and_the_token_does_not_follow(host: ScriptedHost, naps: list[float]) -> None:
    with scripted_host() as store:
        store.answers["blobs"] = lambda _asked: (200, b"the bytes", {})
        # Another name of the same machine: another origin.
        elsewhere = store.url.replace("127.0.0.1", "localhost")
        host.answers[QUERY] = lambda _asked: (302, b"", {"Location": f"{elsewhere}/xrpc/blobs"})

        async def work(old: OldHost) -> bytes:
            async with old.stream(QUERY) as answer:
                return await answer.read()

        assert ask(host, work, access="secret")[0] == b"the bytes"
        assert [asked.token for asked in host.asked] == ["secret"]
        assert [asked.token for asked in store.asked] == [""]
        with pytest.raises(UpstreamFailure, match="302"):
            ask(host, lambda old: old.get(QUERY), access="secret")


@pytest.mark.parametrize("content", [b"[1]", b"null", b'"text"', b"", b"<html>"])
def test_what_is_no_json_object_is_a_failure_and_no_fault(
    host: ScriptedHost, naps: list[float], content: bytes
) -> None:
    host.answers[QUERY] = lambda _asked: (200, content, {})
    with pytest.raises(UpstreamFailure, match="no JSON object"):
        ask(host, lambda old: old.get(QUERY))


def test_its_words_cannot_play_with_the_owners_terminal(host: ScriptedHost, naps: list[float]) -> None:
    host.answers[QUERY] = lambda _asked: (400, {"error": "Bad\x1b[2J", "message": "two\r\nlines\x07"}, {})
    with pytest.raises(UpstreamFailure) as caught:
        ask(host, lambda old: old.get(QUERY))
    assert caught.value.message == "get: 400 Bad[2J: twolines"


def test_a_long_rate_limit_is_told(host: ScriptedHost, naps: list[float]) -> None:
    replies = [error(429, "TooMuch", retry_after="300"), (200, {}, {})]
    host.answers[QUERY] = lambda _asked: replies.pop(0)
    told: list[str] = []

    async def run() -> None:
        http = HttpClient(allow_loopback=True)
        await OldHost(http, Clock(), host.url, say=told.append).get(QUERY)
        await http.close()

    asyncio.run(run())
    assert [line.partition(" for ")[2] for line in told] == ["300 s (rate limit)"]
