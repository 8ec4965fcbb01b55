"""did:key and multikey texts to public keys, and verification against them (specs/cryptography, "Public Key Encoding").

Parsed keys are kept in a small cache: the same few signers come back (our own key at every self-check, an AppView's).
"""

from functools import lru_cache

from pds_lite.atproto.crypto.k256 import parse_k256
from pds_lite.atproto.crypto.keys import K256, P256, PublicKey
from pds_lite.atproto.crypto.p256 import parse_p256
from pds_lite.atproto.multibase import decode_multibase
from pds_lite.errors import BadData, BadKey

_LEGACY = {
    "EcdsaSecp256k1VerificationKey2019": parse_k256,
    "EcdsaSecp256r1VerificationKey2019": parse_p256,
}


@lru_cache(maxsize=64)
def parse_did_key(did_key: str) -> PublicKey:
    """The k256 or p256 key of a did:key. Raises BadKey, also for other key types."""
    if not did_key.startswith("did:key:"):
        raise BadKey("not a did:key")
    return parse_multikey(did_key[8:])


def parse_multikey(text: str) -> PublicKey:
    """The key of a Multikey's publicKeyMultibase: z, multicodec, compressed point. Raises BadKey."""
    data = _decode(text)
    if len(data) == 35:
        if data[:2] == K256.multicodec:
            return parse_k256(data[2:])
        if data[:2] == P256.multicodec:
            return parse_p256(data[2:])
    raise BadKey("not a compressed k256 or p256 multikey")


def parse_legacy_key(kind: str, text: str) -> PublicKey:
    """The key of an old verification method: a bare point, compressed or not; the type names the curve.

    Raises BadKey.
    """
    parse_point = _LEGACY.get(kind)
    if parse_point is None:
        raise BadKey(f"unknown verification method type {kind[:60]!r}")
    return parse_point(_decode(text))


def verify(did_key: str, message: bytes, signature: bytes) -> bool:
    """True if `signature` is 64 bytes, low-S and made by `did_key` over SHA-256 of `message`.

    Raises BadKey for a did:key that does not parse.
    """
    return parse_did_key(did_key).verify(message, signature)


def _decode(text: str) -> bytes:
    if text[:1] != "z":
        raise BadKey("a public key is written in base58btc with the prefix z")
    try:
        return decode_multibase(text)
    except BadData as problem:
        raise BadKey(problem.message) from None
