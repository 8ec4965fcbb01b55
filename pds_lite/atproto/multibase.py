"""The two multibase alphabets atproto uses: base32 lower case (prefix b) and base58btc (prefix z)."""

from base64 import b32decode, b32encode

from pds_lite.errors import BadData

_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_B58_VALUE = {letter: value for value, letter in enumerate(_B58)}
_MAX_TEXT = 256
"""Longer than any CID or key that atproto allows; base58 takes quadratic time."""


def encode_base32(data: bytes) -> str:
    """`b` and lower-case base32 without padding."""
    return "b" + b32encode(data).decode("ascii").lower().rstrip("=")


def encode_base58(data: bytes) -> str:
    """`z` and base58btc."""
    number = int.from_bytes(data, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_B58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "z" + "1" * zeros + "".join(reversed(letters))


def decode_multibase(text: str) -> bytes:
    """The bytes behind a `b` or `z` prefixed text. Raises BadData for another base, stray letters or spare bits."""
    if len(text) > _MAX_TEXT or not text.isascii():
        raise BadData("multibase text is too long or not ASCII")
    if text[:1] == "z":
        return _decode_base58(text[1:])
    if text[:1] == "b":
        return _decode_base32(text[1:])
    raise BadData("multibase prefix is neither b nor z")


def _decode_base32(text: str) -> bytes:
    if text != text.lower() or "=" in text:
        raise BadData("base32 must be lower case without padding")
    try:
        data = b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        raise BadData("not base32") from None
    if encode_base32(data)[1:] != text:
        raise BadData("base32 has non-zero spare bits")
    return data


def _decode_base58(text: str) -> bytes:
    number = 0
    try:
        for letter in text:
            number = number * 58 + _B58_VALUE[letter]
    except KeyError:
        raise BadData("not base58") from None
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
