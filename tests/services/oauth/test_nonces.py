"""Nonces turn every minute and are good for three; what was used once is remembered in bounded memory."""

import pytest

from pds_lite.clock import Clock
from pds_lite.errors import RateLimited
from pds_lite.services.oauth.nonces import Nonces, Replays


class Hands(Clock):
    """A clock moved by hand."""

    def __init__(self):
        self.at = 1_800_000_000.0

    def now(self):
        return int(self.at)

    def now_us(self):
        return int(self.at * 1_000_000)

    def monotonic(self):
        return self.at


def test_a_nonce_is_good_for_about_three_minutes():
    clock = Hands()
    nonces = Nonces(clock, b"secret")
    nonce = nonces.next()
    assert nonces.is_current(nonce)
    clock.at += 119
    assert nonces.is_current(nonce)
    clock.at += 61
    assert not nonces.is_current(nonce)


def test_nonces_survive_a_restart_and_are_nobody_elses():
    clock = Hands()
    nonce = Nonces(clock, b"secret").next()
    assert Nonces(clock, b"secret").is_current(nonce)
    assert not Nonces(clock, b"other").is_current(nonce)
    for guess in ("", "A" * 22, nonce[:-1], nonce + "A"):
        assert not Nonces(clock, b"secret").is_current(guess)


def test_what_was_used_is_known_for_the_whole_span():
    clock = Hands()
    replays = Replays(clock, 180, 1000, forget=False)
    for step in range(40):
        assert replays.first_use("key", f"jti {step}")
        clock.at += 17
        for back in range(max(0, step - 180 // 17 + 1), step + 1):
            assert not replays.first_use("key", f"jti {back}"), (step, back)
    clock.at += 400
    assert replays.first_use("key", "jti 39"), "and forgotten after twice the span"


def test_parts_are_kept_apart():
    replays = Replays(Hands(), 180, 1000, forget=False)
    assert replays.first_use("ab", "c")
    assert replays.first_use("a", "bc")
    assert replays.first_use("abc")
    assert replays.first_use("\ud800")


def test_a_full_memory_refuses_or_forgets_as_it_was_told():
    clock = Hands()
    strict = Replays(clock, 180, 10, forget=False)
    for number in range(10):
        assert strict.first_use(str(number))
    with pytest.raises(RateLimited):
        strict.first_use("eleven")
    assert not strict.first_use("3"), "what is known is still known"
    clock.at += 181
    assert strict.first_use("eleven")

    lax = Replays(clock, 180, 10, forget=True)
    assert all(lax.first_use(str(number)) for number in range(1000))
    assert not lax.first_use("999")
