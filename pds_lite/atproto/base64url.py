"""Base64url without padding (RFC 4648, section 5): JWTs, PLC signatures, JWKs. One text for one byte string."""

from binascii import a2b_base64, b2a_base64

from pds_lite.errors import BadData

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def encode_base64url(data: bytes) -> str:
    """The text of `data`, without padding."""
    return b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes behind `text`. Raises BadData for padding, foreign letters (also + and /) and non-zero spare bits.

    Decoding and encoding again is the check: a second text for the same bytes would make signed tokens malleable.
    """
    try:
        data = a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except ValueError:
        raise BadData("not base64url") from None
    if encode_base64url(data) != text:
        raise BadData("not base64url in its one canonical form")
    return data
