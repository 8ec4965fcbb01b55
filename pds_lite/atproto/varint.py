"""Unsigned LEB128 varints, as multiformats use them: at most nine bytes, minimal form only."""

from pds_lite.errors import BadData


def encode_varint(number: int) -> bytes:
    """The minimal encoding of a non-negative integer."""
    if 0x7F < number < 0x4000:  # the length of almost every block
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """(number, offset behind it). Raises BadData if cut short, over nine bytes or not minimal."""
    number = shift = 0
    for position in range(offset, min(offset + 9, len(data))):
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and position > offset:
                raise BadData("varint is not minimal")
            return number, position + 1
        shift += 7
    raise BadData("varint is cut short or too long")
