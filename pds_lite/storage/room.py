"""Room for the store to grow: the data file is written out ahead, in the background and in small steps.

Growing a file inside a commit costs a journal write of the file system each time (20 KiB per record measured on ext4);
overwriting zeros already there costs none. A step is small because a flush of 64 MiB stalls an SD card for seconds.
What lies ahead is also the reserve for a full disk: while it is short only jobs that free something may run, so a
person can still delete.

Zeros are appended with O_APPEND, each write atomic against LMDB's own: they can only land behind what LMDB has written.
"""

import errno
import os
import threading
from pathlib import Path

STEP_BYTES = 1 << 20
FULL_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Room:
    """Keeps about `ahead_bytes` of written-out file behind the last page in use."""

    def __init__(self, data_file: Path, ahead_bytes: int, used_bytes: int) -> None:
        self._file = os.open(data_file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._ahead_bytes = ahead_bytes
        self._used = used_bytes
        self._size = os.fstat(self._file).st_size
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-room", daemon=True)
        self._thread.start()
        self.note(used_bytes)

    @property
    def left(self) -> int:
        """Bytes of the file behind the last page in use; below zero if the store outran us."""
        return self._size - self._used

    def note(self, used_bytes: int) -> None:
        """Tell how much of the file is in use now; wakes the background thread if that calls for more."""
        self._used = used_bytes
        if self._size - used_bytes < self._ahead_bytes - STEP_BYTES:
            self._wake.set()

    def extend(self) -> bool:
        """Append one step of zeros and flush it. False if the disk has no room. Raises OSError for anything else."""
        with self._lock:
            if self._closed:
                return False
            try:
                os.write(self._file, bytes(STEP_BYTES))
                os.fdatasync(self._file)
            except OSError as problem:
                if problem.errno not in FULL_ERRORS:
                    raise
                return False
            finally:
                self._size = os.fstat(self._file).st_size
        return True

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            os.close(self._file)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            try:
                while not self._closed and self.left < self._ahead_bytes and self.extend():
                    pass
            except OSError:
                # A failing disk: the next commit meets it too and reports it to a caller.
                return
