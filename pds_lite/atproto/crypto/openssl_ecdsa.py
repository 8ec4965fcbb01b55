"""ECDSA with the `cryptography` library: P-256 always, k256 where coincurve is missing.

OpenSSL signs high-S half of the time and accepts it, so this module normalises after signing and checks before
verifying. Importing it costs 10 MB and some 15 ms: only `p256` and `k256` do, inside functions.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pds_lite.atproto.crypto.keys import K256, SIGNATURE_BYTES, Curve, check_point, format_did_key, signature_to_der
from pds_lite.errors import BadKey

_DETERMINISTIC = ec.ECDSA(SHA256(), deterministic_signing=True)
_VERIFY = ec.ECDSA(SHA256())


def _library_curve(curve: Curve) -> ec.EllipticCurve:
    return ec.SECP256K1() if curve is K256 else ec.SECP256R1()


class OpenSslPublicKey:
    """See keys.PublicKey."""

    __slots__ = ("_key", "curve", "point")

    def __init__(self, curve: Curve, point: bytes) -> None:
        check_point(point)
        try:
            self._key = ec.EllipticCurvePublicKey.from_encoded_point(_library_curve(curve), point)
        except ValueError:
            raise BadKey("not a point on the curve") from None
        self.curve = curve
        self.point = self._key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @property
    def uncompressed(self) -> bytes:
        return self._key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def did_key(self) -> str:
        return format_did_key(self.curve, self.point)

    def verify(self, message: bytes, signature: bytes, *, low_s: bool = True) -> bool:
        if len(signature) != SIGNATURE_BYTES or (low_s and not self.curve.is_low_s(signature)):
            return False
        try:
            self._key.verify(signature_to_der(signature), message, _VERIFY)
        except InvalidSignature:
            return False
        return True


class OpenSslSigner:
    """See keys.Signer."""

    __slots__ = ("_curve", "_key", "public_key")

    def __init__(self, curve: Curve, secret: bytes) -> None:
        self._curve = curve
        self._key = ec.derive_private_key(int.from_bytes(secret, "big"), _library_curve(curve))
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.public_key = OpenSslPublicKey(curve, point)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, _DETERMINISTIC))
        return self._curve.with_low_s(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
