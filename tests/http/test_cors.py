"""A preflight gives back what was asked for, and nothing that was smuggled in."""

from __future__ import annotations

import pytest

from pds_lite.http.cors import EXPOSED, ON_EVERY_ANSWER, preflight


def allowed(asked: str) -> str:
    return dict(preflight(asked))[b"access-control-allow-headers"].decode()


def test_the_asked_headers_are_echoed() -> None:
    assert allowed("authorization, x-Some_Thing") == "authorization, x-Some_Thing"


@pytest.mark.parametrize("asked", ["", "a\r\nset-cookie: x", "a;b", "a,,b", "é", "x" * 5000, " "])
def test_anything_else_gets_the_usual_list(asked: str) -> None:
    for name in ("authorization", "content-type", "dpop", "atproto-proxy", "atproto-accept-labelers"):
        assert name in allowed(asked)


def test_any_origin_without_credentials() -> None:
    names = [name for name, _ in preflight("x")]
    assert (b"access-control-allow-origin", b"*") in ON_EVERY_ANSWER
    assert b"access-control-allow-credentials" not in names
    for name in ("dpop-nonce", "www-authenticate", "atproto-repo-rev", "ratelimit-limit", "retry-after"):
        assert name in EXPOSED
