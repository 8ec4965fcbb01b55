"""Client assertions (RFC 7523, private_key_jwt): how a confidential OAuth client shows that it holds its key.

Judges one token against the client's published keys; that a jti is used once is for its caller to remember.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pds_lite.atproto.crypto.jwk import parse_jwk, thumbprint
from pds_lite.atproto.jwt import decode_jws
from pds_lite.errors import BadKey, OAuthError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_AGE_S = 60
MAX_SKEW_S = 30
MAX_JTI = 512


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that holds. `key` is "kid alg thumbprint" of the key that made it."""

    key: str
    jkt: str
    jti: str


def check_assertion(
    assertion: str, client_id: str, issuer: str, signing_alg: str, keys: Sequence[Mapping[str, Any]], now: int
) -> Assertion:
    """Judges an assertion made for the server `issuer` at `now` (seconds). Raises OAuthError (invalid_client)."""
    try:
        token = decode_jws(assertion)
        kid = token.header.get("kid")
        if not isinstance(kid, str) or not kid or " " in kid or len(kid) > MAX_JTI:
            _bad("it names no kid")
        if token.header["alg"] != signing_alg:
            _bad(f"its alg is not the {signing_alg} of the client's metadata")
        jwk = next((key for key in keys if key.get("kid") == kid), None)
        if jwk is None:
            _bad("the client publishes no key with this kid")
        key = parse_jwk(jwk)
        if not token.verify(key):
            _bad("its signature is wrong")
    except BadKey as problem:
        _bad(problem.message)
    jti = _check_claims(token.claims, client_id, issuer, now)
    jkt = thumbprint(key)
    return Assertion(f"{kid} {signing_alg} {jkt}", jkt, jti)


def publishes(keys: Sequence[Mapping[str, Any]], jkt: str) -> bool:
    """Whether a key with this thumbprint is among the client's keys."""
    for jwk in keys:
        try:
            if thumbprint(parse_jwk(jwk)) == jkt:
                return True
        except BadKey:
            continue
    return False


def _check_claims(claims: Mapping[str, Any], client_id: str, issuer: str, now: int) -> str:
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        _bad("iss and sub are not the client_id")
    audience = claims.get("aud")
    if issuer not in (audience if isinstance(audience, list) else [audience]):
        _bad("it is not made for this server (aud)")
    iat, exp, nbf = claims.get("iat"), claims.get("exp", now + 1), claims.get("nbf", now)
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in (iat, exp, nbf)):
        _bad("iat, exp or nbf is not a time")
    assert isinstance(iat, int | float)
    if not now - MAX_AGE_S - MAX_SKEW_S <= iat <= now + MAX_SKEW_S or exp <= now - MAX_SKEW_S or nbf > now + MAX_SKEW_S:
        _bad("it is too old or made in the future: is the clock right?")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
        _bad("it has no jti")
    return jti


def _bad(reason: str) -> NoReturn:
    raise OAuthError(f"The client_assertion is not valid: {reason}", error="invalid_client")
