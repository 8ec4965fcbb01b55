"""What the defaults promise to proxies and clients."""

from __future__ import annotations

from pds_lite.http.limits import ConnectionLimits


def test_a_resting_connection_outlives_the_reverse_proxys_patience() -> None:
    """Caddy keeps idle upstream connections for 120 s; whoever closes first must not be us."""
    assert ConnectionLimits().keep_alive_s > 120


def test_a_head_has_room_for_tokens_and_a_url_for_many_cids() -> None:
    limits = ConnectionLimits()
    assert limits.head_bytes >= 16 * 1024 + 8192
    assert limits.url_bytes >= 200 * len("&cids=" + "b" + "a" * 58)
