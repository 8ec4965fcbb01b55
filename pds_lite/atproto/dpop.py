"""DPoP proofs (RFC 9449): a token is good only in the hands of the key it was given to.

`check_proof` judges one proof as RFC 9449 4.3 lists it, but for two things that need memory: the caller says which
nonces are current, and remembers `Proof.jti` so that a proof is used once. Times are whole seconds since the epoch.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TypeGuard
from urllib.parse import urlsplit

from pds_lite.atproto.base64url import encode_base64url
from pds_lite.atproto.crypto.jwk import parse_jwk, thumbprint
from pds_lite.atproto.crypto.keys import PublicKey
from pds_lite.atproto.jwt import decode_jws
from pds_lite.errors import BadKey, OAuthError

TYP = "dpop+jwt"
MAX_JTI = 512
MAX_AGE_S = 190
"""How old a proof may be: the life of a nonce, and 10 s on the way. As the reference."""
MAX_AHEAD_S = 180
"""How far a client's clock may be ahead."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: the thumbprint of its key, and what makes it unique."""

    jkt: str
    jti: str


def check_proof(
    proof: str,
    method: str,
    url: str,
    now: int,
    is_current_nonce: Callable[[str], bool],
    access_token: str | None = None,
) -> Proof:
    """Judges a proof for the request `method` `url` (its query is ignored), made with `access_token` or without one.

    `url` is the server's public URL with the request's path: never what the Host header claims. Raises OAuthError:
    invalid_dpop_proof, or use_dpop_nonce if nothing but its nonce is missing or old.
    """
    try:
        token = decode_jws(proof)
        if token.header.get("typ") != TYP:
            raise _invalid("its typ is not dpop+jwt")
        key, jkt = _key_of(token.header.get("jwk"))
        if not token.verify(key):
            raise _invalid("its signature is wrong")
    except BadKey as problem:
        raise _invalid(problem.message) from None
    claims = token.claims
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI:
        raise _invalid("it has no jti")
    if claims.get("htm") != method:
        raise _invalid("htm is not the method of this request")
    htu = claims.get("htu")
    if not isinstance(htu, str) or (htu != url and _normal(htu) != _normal(url)):
        raise _invalid("htu is not the URL of this request")
    _check_times(claims, now)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not is_current_nonce(nonce):
        raise OAuthError("Use the nonce of the DPoP-Nonce header in the DPoP proof", error="use_dpop_nonce")
    _check_token_hash(claims.get("ath"), access_token)
    return Proof(jkt, jti)


def token_hash(access_token: str) -> str:
    """The `ath` of a proof that goes with this access token."""
    return encode_base64url(sha256(access_token.encode("utf-8", "surrogatepass")).digest())


def _key_of(jwk: object) -> tuple[PublicKey, str]:
    if not isinstance(jwk, dict):
        raise BadKey("the header holds no jwk")
    members = (jwk.get(name) for name in ("kty", "crv", "x", "y"))
    if "d" in jwk or not all(isinstance(jwk.get(name, ""), str) for name in ("kty", "crv", "x", "y", "alg", "use")):
        return _parse_key(jwk)
    kty, crv, x, y = members
    return _remembered_key(kty, crv, x, y, jwk.get("alg"), jwk.get("use"))


def _parse_key(jwk: dict[str, object]) -> tuple[PublicKey, str]:
    key = parse_jwk(jwk)
    return key, thumbprint(key)


@lru_cache(maxsize=32)
def _remembered_key(
    kty: str | None, crv: str | None, x: str | None, y: str | None, alg: str | None, use: str | None
) -> tuple[PublicKey, str]:
    """The few keys of the owner's apps come with every request: their points are put on the curve once."""
    members = {"kty": kty, "crv": crv, "x": x, "y": y, "alg": alg, "use": use}
    return _parse_key({name: value for name, value in members.items() if value is not None})


def _check_times(claims: Mapping[str, object], now: int) -> None:
    """`iat`, and the two that a proof need not have: who sets an end to it means it (RFC 7519 4.1)."""
    iat, exp, nbf = claims.get("iat"), claims.get("exp", now), claims.get("nbf", now)
    if not _is_time(iat):
        raise _invalid("it has no iat")
    if not now - MAX_AGE_S <= iat <= now + MAX_AHEAD_S:
        raise _invalid("iat is too old or in the future: is the clock right?")
    if not (_is_time(exp) and _is_time(nbf) and exp > now - MAX_AHEAD_S and nbf <= now + MAX_AHEAD_S):
        raise _invalid("exp is over or nbf has not come")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_token_hash(ath: object, access_token: str | None) -> None:
    if access_token is None:
        if ath is not None:
            raise _invalid("ath has no place where no access token is shown")
        return
    expected = token_hash(access_token)
    if not isinstance(ath, str) or not hmac.compare_digest(ath.encode("utf-8", "surrogatepass"), expected.encode()):
        raise _invalid("ath is not the hash of the access token")


def _normal(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL: what RFC 9449 compares. Raises OAuthError for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _invalid("htu is not a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise _invalid("htu is not a URL of a web server")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path or "/"


def _invalid(reason: str) -> OAuthError:
    return OAuthError(f"The DPoP proof is not valid: {reason}", error="invalid_dpop_proof")
