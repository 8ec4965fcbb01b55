"""What every atproto key can do, and what the curves share: the multikey form and the low-S rule.

Knows no library and no curve arithmetic. A signature is 64 bytes, r and s of 32 bytes each, big-endian. Whoever holds
(r, s) can compute (r, n-s), which verifies too; atproto admits only the lower s, so that a signed block has one CID.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from pds_lite.atproto.multibase import encode_base58
from pds_lite.errors import BadKey

SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Curve:
    """The facts of one curve; there is one instance for each, so compare with `is`."""

    alg: str
    """JOSE's name of ECDSA with SHA-256 on it: ES256K or ES256."""
    jwk_name: str
    multicodec: bytes
    """Prefix of a public key in a multikey, as a varint."""
    order: int

    def is_low_s(self, signature: bytes) -> bool:
        """Whether s of a 64-byte signature is in the lower half, zero included."""
        return int.from_bytes(signature[32:], "big") <= self.order >> 1

    def with_low_s(self, signature: bytes) -> bytes:
        """The same signature (64 bytes) in its low-S form."""
        s = int.from_bytes(signature[32:], "big")
        if s <= self.order >> 1 or s >= self.order:
            return signature
        return signature[:32] + (self.order - s).to_bytes(32, "big")


_K256_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_P256_ORDER = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
K256 = Curve("ES256K", "secp256k1", b"\xe7\x01", _K256_ORDER)
P256 = Curve("ES256", "P-256", b"\x80\x24", _P256_ORDER)


class PublicKey(Protocol):
    """A point that is on its curve: constructors refuse everything else with BadKey."""

    @property
    def curve(self) -> Curve: ...

    @property
    def point(self) -> bytes:
        """33 bytes, compressed."""

    @property
    def uncompressed(self) -> bytes:
        """65 bytes: 04, x, y."""

    @property
    def did_key(self) -> str:
        """did:key:z..."""

    def verify(self, message: bytes, signature: bytes, *, low_s: bool = True) -> bool:
        """True if `signature` is 64 bytes, low-S and made over SHA-256 of `message`.

        Only JOSE tokens are checked with `low_s=False`: WebCrypto signs high-S half of the time, and a token has no
        CID to keep unique.
        """


class Signer(Protocol):
    """What a library has to provide for a private key; made from 32 secret bytes already checked."""

    @property
    def public_key(self) -> PublicKey: ...

    def sign(self, message: bytes) -> bytes: ...


class PrivateKey:
    """A secret that signs; K256Key and P256Key are its two kinds. Its repr never shows the secret."""

    __slots__ = ("_secret", "did_key", "public_key", "sign")
    curve: ClassVar[Curve]
    public_key: PublicKey
    did_key: str
    sign: Callable[[bytes], bytes]
    """64 bytes over SHA-256 of the message; the same message always gives the same signature."""

    def __init__(self, secret: bytes, signer: Signer) -> None:
        self._secret = secret
        self.public_key = signer.public_key
        self.did_key = signer.public_key.did_key
        self.sign = signer.sign

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """The key of 32 secret bytes. Raises BadKey."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < cls.curve.order:
            raise BadKey("not a private key of 32 bytes within the curve's order")
        return cls(secret, cls._signer(secret))

    @classmethod
    def generate(cls, entropy: bytes) -> Self:
        """The key made of at least 32 random bytes (40 remove the last trace of bias, FIPS 186-5 A.2.1)."""
        if len(entropy) < 32:
            raise BadKey("a private key needs at least 32 bytes of entropy")
        return cls.from_bytes((int.from_bytes(entropy, "big") % (cls.curve.order - 1) + 1).to_bytes(32, "big"))

    @classmethod
    def _signer(cls, secret: bytes) -> Signer:
        raise NotImplementedError

    @property
    def alg(self) -> str:
        """ES256K or ES256."""
        return self.curve.alg

    def export(self) -> bytes:
        """The 32 secret bytes."""
        return self._secret

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.did_key})"


def format_multikey(curve: Curve, point: bytes) -> str:
    """Base58btc, prefix z, of multicodec and compressed point: the publicKeyMultibase of a Multikey."""
    return encode_base58(curve.multicodec + point)


def format_did_key(curve: Curve, point: bytes) -> str:
    """The did:key of a compressed point."""
    return "did:key:" + format_multikey(curve, point)


def check_point(point: bytes) -> None:
    """Raises BadKey unless these are 33 compressed or 65 uncompressed bytes by their first one.

    Libraries also take the hybrid forms 06 and 07, which no specification here allows.
    """
    if not (len(point) == 33 and point[0] in (2, 3)) and not (len(point) == 65 and point[0] == 4):
        raise BadKey("not a compressed or uncompressed public key")


def signature_to_der(signature: bytes) -> bytes:
    """A 64-byte signature in the ASN.1 form that libraries verify. Never accepted from outside."""
    body = _der_integer(signature[:32]) + _der_integer(signature[32:])
    return b"\x30" + bytes((len(body),)) + body


def _der_integer(number: bytes) -> bytes:
    number = number.lstrip(b"\0")
    if not number or number[0] & 0x80:
        number = b"\0" + number
    return b"\x02" + bytes((len(number),)) + number
