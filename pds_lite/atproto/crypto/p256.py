"""P-256 keys: what browsers and phones sign with (DPoP, client assertions), and some accounts' repositories.

The library is imported with the first key, not with this module.
"""

from pds_lite.atproto.crypto.keys import P256, PrivateKey, PublicKey, Signer


class P256Key(PrivateKey):
    """See keys.PrivateKey."""

    __slots__ = ()
    curve = P256

    @classmethod
    def _signer(cls, secret: bytes) -> Signer:
        from pds_lite.atproto.crypto.openssl_ecdsa import OpenSslSigner

        return OpenSslSigner(P256, secret)


def parse_p256(point: bytes) -> PublicKey:
    """The public key of a point of 33 or 65 bytes. Raises BadKey."""
    from pds_lite.atproto.crypto.openssl_ecdsa import OpenSslPublicKey

    return OpenSslPublicKey(P256, point)
