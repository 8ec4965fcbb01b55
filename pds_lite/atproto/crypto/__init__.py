"""Keys and signatures (specs/cryptography): k256 and p256 for atproto, Ed25519 for what is ours.

One interface, in `keys`: a private key signs a message (it hashes with SHA-256 itself) into 64 bytes r||s,
deterministic (RFC 6979) and low-S; a public key verifies exactly that form. `k256` uses libsecp256k1 through coincurve
and, where that is missing, OpenSSL through cryptography, byte for byte the same; `p256` uses cryptography, imported
when first needed because it costs 10 MB. Ed25519 is not an atproto key type: the box signs its own manifests and its
claims in mDNS with it.
"""

from pds_lite.atproto.crypto.did_key import parse_did_key, parse_legacy_key, parse_multikey, verify
from pds_lite.atproto.crypto.ed25519 import Ed25519Key
from pds_lite.atproto.crypto.k256 import K256Key
from pds_lite.atproto.crypto.keys import PrivateKey, PublicKey
from pds_lite.atproto.crypto.p256 import P256Key

__all__ = [
    "Ed25519Key",
    "K256Key",
    "P256Key",
    "PrivateKey",
    "PublicKey",
    "parse_did_key",
    "parse_legacy_key",
    "parse_multikey",
    "verify",
]
