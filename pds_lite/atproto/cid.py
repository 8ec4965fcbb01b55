"""CID: the hash that names a block (specs/data-model, "Link and CID formats").

A Cid *is* its binary form, so it compares, hashes and sorts at the speed of bytes; `type(x) is Cid` tells a link from a
byte string. New CIDs are always of the blessed kind: version 1, codec dag-cbor or raw, sha2-256, 36 bytes. Others are
accepted where a foreign repository may hold them (leaf links are kept byte for byte), never made.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Self

from pds_lite.atproto.multibase import decode_multibase, encode_base32
from pds_lite.atproto.varint import decode_varint
from pds_lite.errors import BadData, BadSyntax

DAG_CBOR = 0x71
RAW = 0x55
_SHA2_256 = 0x12
CBOR_PREFIX = bytes((1, DAG_CBOR, _SHA2_256, 32))
"""What stands before the hash in the usual CID of a block."""
_RAW_PREFIX = bytes((1, RAW, _SHA2_256, 32))
_MAX_BYTES = 100
_USUAL_TEXT = re.compile(r"baf(?:yrei|krei)[a-h][a-z2-7]{51}", re.ASCII)
"""The text of a blessed CID: the letters after `b` stand for its version, codec, hash function and hash length."""
_LETTERS = b"abcdefghijklmnopqrstuvwxyz234567".ljust(256)
_LANE_GAP = bytes(28)
"""Between CIDs that lie in lanes of 64 bytes: 4 of padding as base32 wants it, and room for the letters."""


def _spreading() -> list[tuple[int, int, int]]:
    """(bits that stay, bits that move, how far) of six steps that give each of 64 five-bit digits a byte of its own.

    The first step parts the upper 32 digits from the lower, the next one both halves alike, and so on.
    """
    steps = []
    for digits in (32, 16, 8, 4, 2, 1):
        stay = sum((1 << 5 * digits) - 1 << 16 * digits * lane for lane in range(32 // digits))
        steps.append((stay, stay << 5 * digits, 3 * digits))
    return steps


_SPREAD = _spreading()
_MANY = 50
"""CIDs spread at once where there are many."""
_SPREAD_MANY = [
    (*(int.from_bytes(mask.to_bytes(64, "big") * _MANY, "big") for mask in masks), move) for *masks, move in _SPREAD
]
_TO_DIGITS = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")


class Cid(bytes):
    """A binary CID. Construct it from bytes already checked, else by `decode`, `parse`, `of_cbor` or `of_raw`."""

    __slots__ = ()

    @classmethod
    def of_cbor(cls, block: bytes) -> Self:
        """The CID of a DAG-CBOR block: a record, MST node or commit."""
        return cls(CBOR_PREFIX + sha256(block).digest())

    @classmethod
    def of_raw(cls, content: bytes) -> Self:
        """The CID of a blob held in memory."""
        return cls(_RAW_PREFIX + sha256(content).digest())

    @classmethod
    def of_raw_digest(cls, digest: bytes) -> Self:
        """The CID of a blob whose sha256 (32 bytes) was computed while it streamed by."""
        return cls(_RAW_PREFIX + digest)

    @classmethod
    def of_cbor_digest(cls, digest: bytes) -> Self:
        """The dag-cbor CID with this sha256 (32 bytes): how stored records keep theirs."""
        return cls(CBOR_PREFIX + digest)

    @classmethod
    def decode(cls, data: bytes) -> Self:  # type: ignore[override]  # no CID is ever decoded as text
        """A binary CID from outside, checked to be well formed and complete. Raises BadData.

        The blessed kinds pass at once; any other version 1 CID of up to 100 bytes passes after parsing its prefix.
        """
        if len(data) == 36 and data[:4] in (CBOR_PREFIX, _RAW_PREFIX):
            return cls(data)
        if not data or data[0] != 1 or len(data) > _MAX_BYTES:
            raise BadData("not a version 1 CID")
        _codec, offset = decode_varint(data, 1)
        hash_function, offset = decode_varint(data, offset)
        size, offset = decode_varint(data, offset)
        if offset + size != len(data) or (hash_function == _SHA2_256 and size != 32):
            raise BadData("CID does not have the length of its hash")
        return cls(data)

    @classmethod
    def parse(cls, text: str) -> Self:
        """A CID in text form (base32 or base58btc). Raises BadSyntax."""
        if _USUAL_TEXT.fullmatch(text):
            # Ten times as fast as the general path: as digits of base 32, 290 bits of which the last two must be zero.
            number = int(text[1:].translate(_TO_DIGITS), 32)
            if number & 3:
                raise BadSyntax("not a CID: base32 has non-zero spare bits")
            return cls((number >> 2).to_bytes(36, "big"))
        try:
            return cls.decode(decode_multibase(text))
        except BadData as problem:
            raise BadSyntax(f"not a CID: {problem.message}") from None

    @property
    def is_blessed(self) -> bool:
        """Version 1, sha2-256, codec dag-cbor or raw."""
        return len(self) == 36 and self[:4] in (CBOR_PREFIX, _RAW_PREFIX)

    @property
    def is_cbor(self) -> bool:
        """A blessed CID of a DAG-CBOR block."""
        return len(self) == 36 and self[:4] == CBOR_PREFIX

    @property
    def is_raw(self) -> bool:
        """A blessed CID of a blob."""
        return len(self) == 36 and self[:4] == _RAW_PREFIX

    @property
    def digest(self) -> bytes:
        """The 32 hash bytes of a blessed CID."""
        return self[4:]

    def matches(self, block: bytes) -> bool:
        """True if `block` hashes to this CID; False also for hash functions other than sha2-256."""
        return self[-34:-32] == b"\x12\x20" and sha256(block).digest() == self[-32:]

    def __str__(self) -> str:
        if len(self) == 36:
            # The common case, four times as fast as base64.b32encode: 36 bytes make 58 letters and 6 of padding.
            number = int.from_bytes(self, "big") << 32
            for stay, move, distance in _SPREAD:
                number = number & stay | (number & move) << distance
            return "b" + number.to_bytes(64, "big").translate(_LETTERS)[:58].decode("ascii")
        return encode_base32(self)

    def __repr__(self) -> str:
        return f"Cid({self})"


def texts(cids: Sequence[bytes]) -> list[str]:
    """The text of each binary CID: twice as fast as `str` where there are dozens, all of the usual length."""
    found: list[str] = []
    for start in range(0, len(cids), _MANY):
        part = cids[start : start + _MANY]
        if len(part) < _MANY // 2 or set(map(len, part)) != {36}:
            found += [str(Cid(cid)) for cid in part]
            continue
        # As in Cid.__str__, in lanes of 64 bytes; the last ones may be empty.
        lanes = _LANE_GAP.join(part) + bytes(4)
        number = int.from_bytes(lanes, "big")
        for stay, move, distance in _SPREAD_MANY:
            number = number & stay | (number & move) << distance
        letters = number.to_bytes(64 * len(part), "big").translate(_LETTERS).decode("ascii")
        found += ["b" + letters[place : place + 58] for place in range(0, len(letters), 64)]
    return found
