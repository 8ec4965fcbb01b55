"""Public keys as JSON Web Keys (RFC 7517, RFC 8812): what DPoP proofs carry and OAuth clients publish."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pds_lite import ujson
from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.atproto.crypto.k256 import parse_k256
from pds_lite.atproto.crypto.keys import K256, P256, PublicKey
from pds_lite.atproto.crypto.p256 import parse_p256
from pds_lite.errors import BadData, BadKey

_PARSE = {K256.jwk_name: parse_k256, P256.jwk_name: parse_p256}


def parse_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """The public key of an EC key on P-256 or secp256k1.

    Raises BadKey for other kinds, for an `alg` that is not the curve's, a `use` other than sig, and for a private key,
    which its owner has just given away.
    """
    if "d" in jwk:
        raise BadKey("a private key where a public one belongs")
    crv = jwk.get("crv")
    parse_point = _PARSE.get(crv) if isinstance(crv, str) else None
    if jwk.get("kty") != "EC" or parse_point is None:
        raise BadKey("not an EC key on P-256 or secp256k1")
    key = parse_point(b"\x04" + _coordinate(jwk.get("x")) + _coordinate(jwk.get("y")))
    if jwk.get("alg", key.curve.alg) != key.curve.alg or jwk.get("use", "sig") != "sig":
        raise BadKey("the key's alg or use does not fit an ECDSA signature on its curve")
    return key


def format_jwk(key: PublicKey) -> dict[str, str]:
    """The required members only, in the order of their names, as a thumbprint needs them."""
    point = key.uncompressed
    x, y = encode_base64url(point[1:33]), encode_base64url(point[33:])
    return {"crv": key.curve.jwk_name, "kty": "EC", "x": x, "y": y}


def thumbprint(key: PublicKey) -> str:
    """The `jkt` of a key: base64url of SHA-256 over its required members (RFC 7638)."""
    return encode_base64url(sha256(ujson.dumpb(format_jwk(key))).digest())


def _coordinate(text: object) -> bytes:
    try:
        number = decode_base64url(text) if isinstance(text, str) else b""
    except BadData:
        number = b""
    if len(number) != 32:
        raise BadKey("a coordinate is 32 bytes in base64url")
    return number
