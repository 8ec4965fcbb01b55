"""Proof Key for Code Exchange (RFC 7636), the S256 method only: atproto knows no other (specs/oauth)."""

import hmac
import re
from hashlib import sha256

from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.errors import BadData

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


def is_challenge(text: str) -> bool:
    """True for the base64url text of a SHA-256 digest."""
    try:
        return len(decode_base64url(text)) == 32
    except BadData:
        return False


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier."""
    return encode_base64url(sha256(verifier.encode("utf-8", "surrogatepass")).digest())


def matches(challenge: str, verifier: str) -> bool:
    """Whether `verifier` has the form of one and made `challenge`."""
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    return hmac.compare_digest(challenge_of(verifier), challenge)
