"""Which credentials can be judged from memory decides who may cause look-ups."""

from __future__ import annotations

import pytest

from pds_lite.atproto.jwt import encode_hs256
from pds_lite.xrpc.credentials import Credentials, credentials_of, may_need_look_up


def test_headers_are_only_picked_up() -> None:
    assert credentials_of({}) == Credentials(None)
    assert credentials_of({"authorization": ""}) == Credentials(None)
    assert credentials_of({"authorization": "DPoP a", "dpop": "b"}) == Credentials("DPoP a", "b")


def test_our_own_tokens_need_no_look_up() -> None:
    token = encode_hs256({"sub": "did:plc:a"}, b"k" * 32, "at+jwt")
    assert not may_need_look_up(f"Bearer {token}")
    assert not may_need_look_up(f"bearer  {token}")
    assert not may_need_look_up("Basic YWRtaW46eA==")
    assert not may_need_look_up(None)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer eyJhbGciOiJFUzI1NksiLCJ0eXAiOiJKV1QifQ.e30.x",
        *("Bearer", "Bearer é.b.c", "Bearer !!!.b.c", "", "DPoP x.y.z", "x" * 9000),
    ],
)
def test_anything_else_may(authorization: str) -> None:
    assert may_need_look_up(authorization)
