"""Compact JSON Web Signatures (RFC 7515, 7519): session tokens (HS256); service auth, DPoP proofs, assertions (ECDSA).

Each family has its own pair of functions, so that a token cannot choose how it is checked: `decode_hs256` knows a
secret and one algorithm, `decode_jws` knows ES256K and ES256 and leaves the key to its caller. Neither knows the time,
an issuer or what a claim means. Every signature here is checked in its one canonical text form.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pds_lite import ujson
from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.atproto.crypto.keys import K256, P256, SIGNATURE_BYTES, PrivateKey, PublicKey
from pds_lite.errors import BadData, BadKey

MAX_TOKEN = 8192
"""Characters of a whole token; longer ones are refused unread."""


@dataclass(frozen=True, slots=True)
class Jws:
    """A token that has been taken apart but not believed: call `verify`."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    def verify(self, key: PublicKey) -> bool:
        """True if `key` made the signature and its curve is the one the header names.

        High-S is let through: WebCrypto makes it, JOSE allows it, and nothing here is named by its hash.
        """
        return self.header["alg"] == key.curve.alg and key.verify(self.signing_input, self.signature, low_s=False)


def encode_hs256(claims: Mapping[str, Any], secret: bytes, typ: str) -> str:
    """A token under a shared secret; `typ` tells the kinds of them apart."""
    signing_input = f"{_hs256_header(typ)}.{encode_base64url(ujson.dumpb(claims))}"
    return f"{signing_input}.{_mac(signing_input, secret)}"


def decode_hs256(token: str, secret: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, claims) of a token that `encode_hs256` made with this secret. Raises BadKey.

    The caller checks typ, exp and the rest. The secret speaks first: nothing is parsed before the signature is right.
    """
    signing_input, _, signature = token.rpartition(".")
    if len(token) > MAX_TOKEN or not token.isascii():
        raise BadKey("not a JWT")
    # Our own MAC in text form against theirs: no decoding, and no second spelling of the same bytes passes.
    if not hmac.compare_digest(_mac(signing_input, secret), signature):
        raise BadKey("the JWT's signature is not ours")
    header_text, _, claims_text = signing_input.partition(".")
    header = _own_header(header_text)
    if header.get("alg") != "HS256":
        raise BadKey("the JWT is not HS256")
    return header, _json_object(claims_text)


def encode_jws(header: Mapping[str, Any], claims: Mapping[str, Any], key: PrivateKey) -> str:
    """A token signed by `key`, whose algorithm is put into the header."""
    head = encode_base64url(ujson.dumpb({**header, "alg": key.alg}))
    signing_input = f"{head}.{encode_base64url(ujson.dumpb(claims))}"
    return f"{signing_input}.{encode_base64url(key.sign(signing_input.encode('ascii')))}"


def decode_jws(token: str) -> Jws:
    """The parts of an ES256 or ES256K token. Raises BadKey for anything unusual, `crit` and `b64` headers included."""
    header = peek_header(token)
    if header.get("alg") not in (K256.alg, P256.alg):
        raise BadKey("the JWT's alg is neither ES256K nor ES256")
    if "crit" in header or "b64" in header:
        raise BadKey("the JWT has a critical header that is not known here")
    signing_input, _, signature_text = token.rpartition(".")
    claims = _json_object(signing_input.partition(".")[2])
    signature = _bytes(signature_text)
    if len(signature) != SIGNATURE_BYTES:
        raise BadKey("the JWT's signature is not 64 bytes")
    return Jws(header, claims, signing_input.encode("ascii"), signature)


def peek_header(token: str) -> dict[str, Any]:
    """The header of a well-formed token, unverified: to choose who shall judge the rest. Raises BadKey."""
    if len(token) > MAX_TOKEN or not token.isascii() or token.count(".") != 2:
        raise BadKey("not a JWT")
    header = _json_object(token.partition(".")[0])
    if not isinstance(header.get("alg"), str):
        raise BadKey("the JWT's header names no alg")
    return header


@lru_cache(maxsize=8)
def _hs256_header(typ: str) -> str:
    return encode_base64url(ujson.dumpb({"typ": typ, "alg": "HS256"}))


@lru_cache(maxsize=8)
def _own_header(text: str) -> dict[str, Any]:
    """Only reached with our signature: the same two or three headers every time. Callers must not change it."""
    return _json_object(text)


def _mac(signing_input: str, secret: bytes) -> str:
    return encode_base64url(hmac.digest(secret, signing_input.encode("ascii"), "sha256"))


def _bytes(text: str) -> bytes:
    try:
        return decode_base64url(text)
    except BadData as problem:
        raise BadKey(f"not a JWT: {problem.message}") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = ujson.loads(_bytes(text))
    except BadData as problem:
        raise BadKey(f"not a JWT: {problem.message}") from None
    if not isinstance(value, dict):
        raise BadKey("not a JWT: a part of it is no JSON object")
    return value
