"""Ed25519: the box's own identity. It signs backup and release manifests and the box's claim in mDNS.

atproto admits it neither for repositories nor for rotation keys, so it stands apart from keys.PrivateKey.
"""

from base64 import b32encode
from hashlib import sha256
from typing import Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pds_lite.atproto.multibase import encode_base58
from pds_lite.errors import BadKey

_MULTICODEC = b"\xed\x01"


class Ed25519Key:
    """A private key. Its repr never shows the secret."""

    __slots__ = ("_key", "public_key")

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.public_key = bytes(key.verify_key)
        """32 bytes."""

    @classmethod
    def from_bytes(cls, seed: bytes) -> Self:
        """The key of a 32-byte seed. Raises BadKey."""
        if len(seed) != 32:
            raise BadKey("an Ed25519 seed has 32 bytes")
        return cls(SigningKey(seed))

    @classmethod
    def generate(cls, entropy: bytes) -> Self:
        """The key made of at least 32 random bytes."""
        if len(entropy) < 32:
            raise BadKey("a private key needs at least 32 bytes of entropy")
        return cls.from_bytes(entropy if len(entropy) == 32 else sha256(entropy).digest())

    @property
    def did_key(self) -> str:
        """did:key:z6Mk..., how manifests name the signer."""
        return "did:key:" + encode_base58(_MULTICODEC + self.public_key)

    @property
    def fingerprint(self) -> str:
        """See the function of this name."""
        return fingerprint(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message).signature

    def export(self) -> bytes:
        """The 32-byte seed."""
        return bytes(self._key)

    def __repr__(self) -> str:
        return f"Ed25519Key({self.fingerprint})"


def fingerprint(public_key: bytes) -> str:
    """16 base32 letters (80 bits of SHA-256) that a person can compare."""
    return b32encode(sha256(public_key).digest()[:10]).decode("ascii").lower()


def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True if `signature` (64 bytes) over `message` was made by the key of these 32 bytes; never raises."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
