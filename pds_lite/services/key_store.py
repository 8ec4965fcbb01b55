"""The box's own secrets: made once, kept in the store, never in a log, an argument or an answer.

They lie unsealed in the table KEYS: the box must start without a person, so whatever sealed them would lie beside them.
What protects them is the folder (0700) and the store file (0600). The owner's recovery key is not here and never was.
What must be shown again but lies elsewhere in the store (pending codes) is sealed with a key derived from these.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.atproto.crypto import Ed25519Key, K256Key
from pds_lite.errors import BadKey, StoreBroken
from pds_lite.storage.keys import Table
from pds_lite.storage.store import Txn, WriteTxn

if TYPE_CHECKING:
    from nacl.secret import SecretBox

_ENTROPY = 40
"""Bytes: 8 beyond a key's size, so that reducing them into the curve's order leaves no bias."""


@dataclass(slots=True)
class Keys:
    """Every secret of a box. No repr here shows one: jwt_secret is left out, the others keep theirs.

    One object serves the whole process, so whoever signs asks it each time: `signing` is replaced by a key rotation.
    """

    signing: K256Key
    """Signs commits and service tokens: the account's #atproto key."""
    rotation: K256Key
    """The box's key among the DID's rotation keys, after the owner's."""
    box: Ed25519Key
    """Signs what is not atproto's: backup manifests, mDNS claims."""
    jwt_secret: bytes
    """32 bytes, for session tokens; other secrets are derived from it."""

    def digest(self, purpose: str, text: str) -> bytes:
        """32 bytes by which a secret can be recognised, but not tried out by whoever reads only the digest."""
        return hmac.digest(self.jwt_secret, f"pds-lite {purpose}\0{text}".encode(), "sha256")

    def seal(self, purpose: str, text: str) -> bytes:
        """`text` encrypted and authenticated for `purpose`, readable by `unseal` alone."""
        return bytes(self._box(purpose).encrypt(text.encode()))

    def unseal(self, purpose: str, sealed: bytes) -> str:
        """The inverse of `seal`. Raises StoreBroken for what these keys did not seal for `purpose`."""
        from nacl.exceptions import CryptoError

        try:
            return self._box(purpose).decrypt(sealed).decode()
        except (CryptoError, ValueError):
            raise StoreBroken("something sealed does not open with this box's keys", hint="restore a backup") from None

    def _box(self, purpose: str) -> "SecretBox":
        from nacl.secret import SecretBox

        return SecretBox(self.digest("seal", purpose))

    def __repr__(self) -> str:
        return f"Keys(signing={self.signing!r}, rotation={self.rotation!r}, box={self.box!r})"


def generate() -> Keys:
    """Fresh keys from the system's randomness."""
    return Keys(
        signing=make_signing_key(),
        rotation=K256Key.generate(secrets.token_bytes(_ENTROPY)),
        box=Ed25519Key.generate(secrets.token_bytes(32)),
        jwt_secret=secrets.token_bytes(32),
    )


def save(txn: WriteTxn, keys: Keys) -> None:
    """Stores all of them, in place of any before."""
    txn.put(Table.KEYS, b"signing", keys.signing.export())
    txn.put(Table.KEYS, b"rotation", keys.rotation.export())
    txn.put(Table.KEYS, b"box", keys.box.export())
    txn.put(Table.KEYS, b"jwt_secret", keys.jwt_secret)


def make_signing_key() -> K256Key:
    """A fresh signing key."""
    return K256Key.generate(secrets.token_bytes(_ENTROPY))


def save_next(txn: WriteTxn, key: K256Key) -> None:
    """Keeps the signing key that a rotation is about to bring into the DID document, beside the present one."""
    txn.put(Table.KEYS, b"next_signing", key.export())


def load_next(txn: Txn) -> K256Key | None:
    """The signing key of a rotation that has not ended, if one has begun. Raises StoreBroken."""
    secret = txn.get(Table.KEYS, b"next_signing")
    try:
        return None if secret is None else K256Key.from_bytes(bytes(secret))
    except BadKey:
        raise StoreBroken("the next signing key is damaged", hint="restore a backup") from None


def replace_signing(txn: WriteTxn, key: K256Key) -> None:
    """`key` is the signing key from now on; the one before is gone with this transaction."""
    txn.put(Table.KEYS, b"signing", key.export())
    txn.delete(Table.KEYS, b"next_signing")


def load(txn: Txn) -> Keys | None:
    """The stored keys, None in a store that has none yet. Raises StoreBroken for a part of them."""
    signing = txn.get(Table.KEYS, b"signing")
    rotation = txn.get(Table.KEYS, b"rotation")
    box = txn.get(Table.KEYS, b"box")
    jwt_secret = txn.get(Table.KEYS, b"jwt_secret")
    if signing is None and rotation is None and box is None and jwt_secret is None:
        return None
    if signing is None or rotation is None or box is None or jwt_secret is None:
        raise StoreBroken("some of the box's keys are missing", hint="restore a backup")
    try:
        return Keys(
            K256Key.from_bytes(bytes(signing)),
            K256Key.from_bytes(bytes(rotation)),
            Ed25519Key.from_bytes(bytes(box)),
            bytes(jwt_secret),
        )
    except BadKey:
        raise StoreBroken("one of the box's keys is damaged", hint="restore a backup") from None
