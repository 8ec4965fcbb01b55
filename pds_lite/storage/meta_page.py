"""What LMDB's two meta pages say of the length of the data file.

LMDB does not compare the two: a file that a broken card or a repair of the file system has cut short kills the process
(SIGBUS) when a page behind its end is read, and an empty one passes for a new store.

A page begins with 16 bytes of header. Then the meta (LMDB 0.9, 64-bit): magic and version (4 bytes each), address and
map size (8 each), two tables of 48 bytes, of which the first begins with the page size, the last page in use and the
number of the transaction (8 each).
"""

import struct
import sys
from pathlib import Path

_META = struct.Struct("=16x I 4x 8x 8x I 44x 48x Q Q")
_MAGIC = 0xBEEFC0DE
_IS_64_BIT = sys.maxsize > 1 << 32
_LARGEST_PAGE = 65536


def missing_bytes(file: Path) -> int:
    """How much shorter the file is than its newest meta page says; 0 where it is no LMDB file of this kind of machine.

    A few pages may be missing from a sound file: those that were taken and given back in one transaction.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(_LARGEST_PAGE + _META.size)
    if len(head) < _META.size:
        return _META.size - len(head)
    magic, page_bytes = _META.unpack_from(head)[:2]
    if magic != _MAGIC or not _IS_64_BIT or len(head) < page_bytes + _META.size:
        return 0
    metas = [_META.unpack_from(head, place) for place in (0, page_bytes)]
    _magic, _page_bytes, last_page, _transaction = max(metas, key=lambda meta: int(meta[3]))
    return max(0, int((last_page + 1) * page_bytes) - size)
