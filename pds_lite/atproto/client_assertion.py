"""What a confidential OAuth client signs: assertions that it is the one (RFC 7523, private_key_jwt), and the request
objects that hold what it asks for (RFC 9101, JAR).

Judges one token against the client's published keys; that a jti is used once is for its caller to remember. The key
decides which algorithm it is checked with, not the document's `token_endpoint_auth_signing_alg`: the README of
@atproto/oauth-client-node says RS256 there while that client signs with ES256, and many documents are copies of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pds_lite.atproto.crypto.jwk import parse_jwk, thumbprint
from pds_lite.atproto.crypto.keys import PublicKey
from pds_lite.atproto.jwt import Jws, decode_jws
from pds_lite.errors import BadKey, OAuthError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_AGE_S = 60
MAX_SKEW_S = 30
MAX_JTI = 512
_OF_THE_TOKEN = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
"""Claims about a request object, not of the request."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion that holds. `key` is "kid alg thumbprint" of the key that made it."""

    key: str
    jkt: str
    jti: str


def check_assertion(
    assertion: str, client_id: str, issuer: str, keys: Sequence[Mapping[str, Any]], now: int
) -> Assertion:
    """Judges an assertion made for the server `issuer` at `now` (seconds). Raises OAuthError (invalid_client)."""
    try:
        token, key = _signed(assertion, keys)
        jti = _check_claims(token.claims, client_id, issuer, now)
        if token.claims.get("sub") != client_id:
            _bad("its sub is not the client_id")
    except BadKey as problem:
        raise OAuthError(f"The client_assertion is not valid: {problem.message}", error="invalid_client") from None
    jkt = thumbprint(key)
    return Assertion(f"{token.header['kid']} {key.curve.alg} {jkt}", jkt, jti)


def check_request_object(
    request: str, client_id: str, issuer: str, keys: Sequence[Mapping[str, Any]], now: int
) -> tuple[dict[str, str], str]:
    """(the parameters in a request object made for `issuer` at `now`, its jti). Raises OAuthError."""
    try:
        claims = _signed(request, keys)[0].claims
        jti = _check_claims(claims, client_id, issuer, now)
        parameters = {name: value for name, value in claims.items() if name not in _OF_THE_TOKEN and value is not None}
        if parameters.get("client_id") != client_id:
            _bad("its client_id is not the request's")
        if not all(isinstance(value, str) for value in parameters.values()):
            _bad("one of its parameters is not a text")
    except BadKey as problem:
        raise OAuthError(
            f"The request object is not valid: {problem.message}", error="invalid_request_object"
        ) from None
    return parameters, jti


def publishes(keys: Sequence[Mapping[str, Any]], jkt: str) -> bool:
    """Whether a key with this thumbprint is among the client's keys."""
    for jwk in keys:
        try:
            if thumbprint(parse_jwk(jwk)) == jkt:
                return True
        except BadKey:
            continue
    return False


def _signed(text: str, keys: Sequence[Mapping[str, Any]]) -> tuple[Jws, PublicKey]:
    """The token, and the one of the client's keys that signed it. Raises BadKey."""
    token = decode_jws(text)
    kid = token.header.get("kid")
    if not isinstance(kid, str) or not kid or " " in kid or len(kid) > MAX_JTI:
        _bad("it names no kid")
    jwk = next((key for key in keys if key.get("kid") == kid), None)
    if jwk is None:
        _bad("the client publishes no key with this kid")
    key = parse_jwk(jwk)
    if not token.verify(key):
        _bad("its signature is wrong")
    return token, key


def _check_claims(claims: Mapping[str, Any], client_id: str, issuer: str, now: int) -> str:
    """Whose it is, for whom and when: its jti. Raises BadKey."""
    if claims.get("iss") != client_id:
        _bad("its iss is not the client_id")
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
    raise BadKey(reason)
