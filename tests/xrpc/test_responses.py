"""What goes out is JSON of the data model, and errors that say only what a stranger may know."""

from __future__ import annotations

import json

from pds_lite.errors import BadInput, ConfigError, RateLimited, StoreBroken, StoreFull, Unauthorized
from pds_lite.xrpc.responses import JSON, Reply, error_reply, json_reply


def body(reply: Reply) -> dict[str, str]:
    assert isinstance(reply.body, bytes)
    decoded: dict[str, str] = json.loads(reply.body)
    return decoded


def test_json_is_utf_8_with_its_type() -> None:
    reply = json_reply({"text": "é"}, 201, {"X-A": "b"})
    assert (reply.content_type, reply.status, reply.headers) == (JSON, 201, {"X-A": "b"})
    assert reply.body == '{"text":"é"}'.encode()


def test_an_error_has_its_name_and_message_and_never_its_hint() -> None:
    reply = error_reply(BadInput("no", error="NotLikeThis", hint="rm /etc/secret"))
    assert (reply.status, body(reply)) == (400, {"error": "NotLikeThis", "message": "no"})


def test_messages_that_may_name_files_stay_here() -> None:
    for problem in (StoreBroken("/secret"), StoreFull("/secret"), ConfigError("/secret")):
        assert "secret" not in str(body(error_reply(problem)))


def test_headers_follow_from_the_kind() -> None:
    assert error_reply(RateLimited(retry_after=7)).headers == {"Retry-After": "7"}
    assert error_reply(Unauthorized("x")).headers == {"WWW-Authenticate": "Bearer"}
    assert error_reply(Unauthorized("x", status=400)).headers == {}


def test_a_long_message_is_cut() -> None:
    assert len(body(error_reply(BadInput("x" * 100_000)))["message"]) == 2000
