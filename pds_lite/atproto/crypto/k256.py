"""secp256k1 keys: the account's signing key and the rotation keys of its did:plc.

coincurve (libsecp256k1) signs in 26 us and `cryptography` in 370; both follow RFC 6979 and give the same bytes, so
which one serves is invisible but for the time. `BACKEND` names the one in use, for the status page.
"""

from hashlib import sha256

from pds_lite.atproto.crypto.keys import (
    K256,
    SIGNATURE_BYTES,
    PrivateKey,
    PublicKey,
    Signer,
    check_point,
    format_did_key,
    signature_to_der,
)
from pds_lite.errors import BadKey

try:
    import coincurve
except ImportError:  # no wheel: Python 3.14, armv7l
    BACKEND = "cryptography"
else:
    BACKEND = "coincurve"


class CoincurvePublicKey:
    """See keys.PublicKey. libsecp256k1 itself refuses high-S."""

    __slots__ = ("_key", "point")
    curve = K256

    def __init__(self, point: bytes) -> None:
        check_point(point)
        try:
            self._key = coincurve.PublicKey(point)
        except ValueError:
            raise BadKey("not a point on the curve") from None
        self.point: bytes = self._key.format()

    @property
    def uncompressed(self) -> bytes:
        return self._key.format(compressed=False)

    @property
    def did_key(self) -> str:
        return format_did_key(K256, self.point)

    def verify(self, message: bytes, signature: bytes, *, low_s: bool = True) -> bool:
        if len(signature) != SIGNATURE_BYTES:
            return False
        if not low_s:
            signature = K256.with_low_s(signature)
        return self._key.verify(signature_to_der(signature), sha256(message).digest(), None)


class CoincurveSigner:
    """See keys.Signer."""

    __slots__ = ("_sign", "public_key")

    def __init__(self, secret: bytes) -> None:
        key = coincurve.PrivateKey(secret)
        # The recoverable form is compact already and one byte longer; the plain one would be DER, to be taken apart.
        self._sign = key.sign_recoverable
        self.public_key = CoincurvePublicKey(key.public_key.format())

    def sign(self, message: bytes) -> bytes:
        return self._sign(sha256(message).digest(), None)[:SIGNATURE_BYTES]


class K256Key(PrivateKey):
    """See keys.PrivateKey."""

    __slots__ = ()
    curve = K256

    @classmethod
    def _signer(cls, secret: bytes) -> Signer:
        if BACKEND == "coincurve":
            return CoincurveSigner(secret)
        from pds_lite.atproto.crypto.openssl_ecdsa import OpenSslSigner

        return OpenSslSigner(K256, secret)


def parse_k256(point: bytes) -> PublicKey:
    """The public key of a point of 33 or 65 bytes. Raises BadKey."""
    if BACKEND == "coincurve":
        return CoincurvePublicKey(point)
    from pds_lite.atproto.crypto.openssl_ecdsa import OpenSslPublicKey

    return OpenSslPublicKey(K256, point)
