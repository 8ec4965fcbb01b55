"""Proof Key for Code Exchange (RFC 7636), the S256 method only: atproto knows no other (specs/oauth)."""

import hmac
import re
from hashlib import sha256

from pds_lite.atproto.base64url import encode_base64url

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


def is_challenge(text: str) -> bool:
    """True for a text that may stand for a challenge (RFC 7636 4.2). Whether it is a digest shows at the exchange."""
    return _UNRESERVED.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier."""
    return encode_base64url(sha256(verifier.encode("utf-8", "surrogatepass")).digest())


def matches(challenge: str, verifier: str) -> bool:
    """Whether `verifier` has the form of one and made `challenge`."""
    if _UNRESERVED.fullmatch(verifier) is None:
        return False
    return hmac.compare_digest(challenge_of(verifier), challenge)
