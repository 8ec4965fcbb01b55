"""Private keys as people and tools write them: z and base58btc of multicodec and 32 bytes, or 64 hex digits."""

from pds_lite.atproto.crypto.k256 import K256Key
from pds_lite.atproto.crypto.keys import PrivateKey
from pds_lite.atproto.crypto.p256 import P256Key
from pds_lite.atproto.multibase import decode_multibase, encode_base58
from pds_lite.errors import BadData, BadKey

_K256 = b"\x81\x26"
_P256 = b"\x86\x26"
"""Multicodecs of private keys, as varints."""


def parse_private_key(text: str) -> PrivateKey:
    """A k256 or p256 key; hex digits stand for k256. Raises BadKey, which never repeats the text."""
    text = text.strip()
    try:
        if len(text) == 64:
            return K256Key.from_bytes(bytes.fromhex(text))
        data = decode_multibase(text)
    except (BadData, ValueError):
        raise BadKey("not a private key: neither a multikey that begins with z nor 64 hex digits") from None
    if len(data) == 34 and data[:2] == _K256:
        return K256Key.from_bytes(data[2:])
    if len(data) == 34 and data[:2] == _P256:
        return P256Key.from_bytes(data[2:])
    raise BadKey("not a private key of k256 or p256; is it the public one?")


def format_private_key(key: PrivateKey) -> str:
    """The multikey of a private key."""
    return encode_base58((_K256 if isinstance(key, K256Key) else _P256) + key.export())
