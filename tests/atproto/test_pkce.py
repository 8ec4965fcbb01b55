"""PKCE: only the verifier that made the challenge passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto import pkce

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def test_the_example_of_rfc_7636():
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert pkce.challenge_of(verifier) == challenge
    assert pkce.matches(challenge, verifier)
    assert pkce.is_challenge(challenge)


@given(st.text(LETTERS, min_size=43, max_size=128), st.text(LETTERS, min_size=43, max_size=128))
def test_no_other_verifier_matches(verifier, other):
    assert pkce.matches(pkce.challenge_of(verifier), verifier)
    assert pkce.matches(pkce.challenge_of(verifier), other) is (verifier == other)


@pytest.mark.parametrize("verifier", ["", "a" * 42, "a" * 129, "a" * 42 + "+", "a" * 42 + "é", "a" * 43 + "\n"])
def test_a_verifier_of_another_form_never_matches(verifier):
    assert not pkce.matches(pkce.challenge_of(verifier), verifier)


@pytest.mark.parametrize("text", ["", "short", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM=", "!" * 43, "a" * 129])
def test_what_has_not_the_form_of_a_challenge_is_none(text):
    assert not pkce.is_challenge(text)
