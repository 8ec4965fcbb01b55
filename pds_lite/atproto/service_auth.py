"""Service auth tokens: one atproto service acting for an account towards another (specs/xrpc, "Inter-Service").

Pure: `read` judges everything that needs no key, `ServiceToken.verify` the signature, `check` both in one call. The
caller finds the issuer's key in its DID document (and looks again, fresh, when the signature fails: keys rotate).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pds_lite.atproto.crypto import PrivateKey, parse_did_key
from pds_lite.atproto.jwt import Jws, decode_jws, encode_jws
from pds_lite.atproto.syntax import is_did
from pds_lite.errors import BadKey, Unauthorized

DEFAULT_KEY_ID = "#atproto"
_FOREIGN_TYPES = frozenset({"at+jwt", "refresh+jwt", "dpop+jwt"})


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A token with the right audience, method and time, whose signature is still to be checked."""

    iss: str
    """A bare DID."""
    aud: str
    lxm: str | None
    exp: int
    """Seconds since the epoch."""
    jti: str | None
    key_id: str
    """The verification method of the issuer's DID document that signed, as `#fragment`."""
    jws: Jws

    def verify(self, did_key: str) -> bool:
        """True if the key of this did:key made the signature; False also for a key of another kind."""
        try:
            return self.jws.verify(parse_did_key(did_key))
        except BadKey:
            return False


def mint(key: PrivateKey, iss: str, aud: str, lxm: str | None, iat: int, exp: int, jti: str) -> str:
    """A token by which the account `iss` lets the service `aud` see that it calls `lxm`. Times in seconds."""
    claims = {"iat": iat, "iss": iss, "aud": aud, "exp": exp, "jti": jti}
    if lxm is not None:
        claims["lxm"] = lxm
    return encode_jws({"typ": "JWT"}, claims, key)


def read(
    token: str,
    audiences: Collection[str],
    lxm: str,
    now: int,
    *,
    key_ids: Collection[str] = (DEFAULT_KEY_ID,),
) -> ServiceToken:
    """Everything about a token but its signature.

    `audiences` are our own names: the bare DID, or DID and service fragment. Raises Unauthorized with the reference's
    error names: BadJwt, BadJwtType, JwtExpired, BadJwtAudience, BadJwtLexiconMethod, BadJwtIss.
    """
    try:
        jws = decode_jws(token)
    except BadKey as problem:
        raise Unauthorized(f"poorly formatted jwt: {problem.message}", error="BadJwt") from None
    if jws.header.get("typ") in _FOREIGN_TYPES:
        raise Unauthorized(f"a token of type {jws.header['typ']} is no service token", error="BadJwtType")
    claims = jws.claims
    _check_shapes(claims)
    if claims["exp"] <= now or claims.get("nbf", 0) > now:
        raise Unauthorized("jwt expired or not valid yet", error="JwtExpired")
    if claims["aud"] not in audiences:
        raise Unauthorized("jwt audience does not match service did", error="BadJwtAudience")
    if claims.get("lxm") != lxm:
        raise Unauthorized(f'bad jwt lexicon method ("lxm"). must match: {lxm}', error="BadJwtLexiconMethod")
    if not is_did(claims["iss"]):
        raise Unauthorized("jwt iss is not a valid did", error="BadJwtIss")
    key_id = _key_id(jws.header, claims["iss"], key_ids)
    return ServiceToken(claims["iss"], claims["aud"], claims["lxm"], claims["exp"], claims.get("jti"), key_id, jws)


def names_method(token: str) -> bool:
    """True for a JWT with a method claim: where sessions are let in too, any other token is a bad one of theirs."""
    try:
        return decode_jws(token).claims.get("lxm") is not None
    except BadKey:
        return False


def check(
    token: str,
    audiences: Collection[str],
    lxm: str,
    now: int,
    did_key_of: Callable[[str, str], str],
) -> ServiceToken:
    """`read` and `verify` for a caller that has the key at hand: did_key_of(issuer, key id) gives a did:key.

    Raises Unauthorized, BadJwtSignature included.
    """
    service_token = read(token, audiences, lxm, now)
    if not service_token.verify(did_key_of(service_token.iss, service_token.key_id)):
        raise bad_signature()
    return service_token


def bad_signature() -> Unauthorized:
    """What a caller of `read` raises when `verify` says no."""
    return Unauthorized("jwt signature does not match jwt issuer", error="BadJwtSignature")


def _check_shapes(claims: dict[str, Any]) -> None:
    texts = all(isinstance(claims.get(name), str) for name in ("iss", "aud"))
    optional_texts = all(isinstance(claims.get(name, ""), str) for name in ("lxm", "jti"))
    # `type is int` keeps true and 1e400 out.
    times = type(claims.get("exp")) is int and all(type(claims.get(name, 0)) is int for name in ("iat", "nbf"))
    if not (texts and optional_texts and times):
        raise Unauthorized("poorly formatted jwt: a claim is missing or of the wrong type", error="BadJwt")


def _key_id(header: dict[str, Any], iss: str, key_ids: Collection[str]) -> str:
    key_id = header.get("kid", DEFAULT_KEY_ID)
    if isinstance(key_id, str):
        key_id = key_id.removeprefix(iss)
        if key_id in key_ids:
            return key_id
    raise Unauthorized("jwt is signed by a key that may not sign service tokens", error="BadJwt")
