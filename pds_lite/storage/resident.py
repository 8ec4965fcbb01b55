"""Pages of the data file that are mapped into this process, and how they are given back.

A page that was read through the map counts as memory of ours until the kernel needs it. On a small board that hides how
much we really take, and a walk over the whole repository would count as the whole file. Giving back drops only the
mapping: what was read stays in the page cache, and nothing here was ever written through the map (LMDB writes with
pwrite), so the next access costs a soft fault and nothing can be lost. Where the kernel does not offer it, nothing
happens.
"""

import ctypes
from pathlib import Path

_DONTNEED = 4


def give_back(data_file: Path) -> None:
    """Drops the mapped pages of `data_file`. Harmless at any time, also while others read or write."""
    mapped_as = f" {data_file.resolve()}\n"
    try:
        with Path("/proc/self/maps").open() as maps:
            ranges = [line.partition(" ")[0] for line in maps if line.endswith(mapped_as)]
        libc = ctypes.CDLL(None)
        for low, _, high in (text.partition("-") for text in ranges):
            start, end = int(low, 16), int(high, 16)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)
    except (OSError, AttributeError):
        return
