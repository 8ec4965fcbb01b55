"""The durable head, and views of the repository that stay as they were while writes go on.

An export takes minutes on a slow line and must not hold a read transaction for it (that would pin every page written
meanwhile). Instead it holds a Snapshot: the head at its start, and an overlay in which the writer leaves the old value
of each path it changes. A reader opens a transaction, then looks at the overlay: what the transaction may already show
changed is there, since the writer notes it before it commits.

Rules that hold here
- `changed`, `advance` and `rewind` belong to the writer thread, `take` and `release` to the event loop; one lock.
- The overlay is bounded over all snapshots. A snapshot that does not fit any more is broken, never mixed: its export
  must cut the connection. So is one that outlives a whole-repository import.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from pds_lite.errors import Unavailable

if TYPE_CHECKING:
    from pds_lite.atproto.repo import Head
    from pds_lite.storage.repo_store import Record

Change: TypeAlias = "tuple[bytes, Record | None]"
"""A path and the record it held before it was changed, None if there was none."""


class SnapshotLost(Unavailable):
    """The view could not be kept: too much changed while it was read."""


class Snapshot:
    """One view. Read it only through `changes_after`."""

    def __init__(self, head: Head, lock: threading.Lock) -> None:
        self.head = head
        self._lock = lock
        self._old: dict[bytes, Record | None] = {}
        self._paths: list[bytes] = []
        self.bytes = 0
        self.broken = False

    def note(self, path: bytes, old: Record | None) -> int:
        """Keeps the value `path` had, unless one is kept already; how many bytes that took. Under the lock."""
        if path in self._old:
            return 0
        self._old[path] = old
        insort(self._paths, path)
        size = len(path) + 100 + (0 if old is None else len(old.block))
        self.bytes += size
        return size

    def drop(self) -> None:
        """Gives the overlay up. Under the lock."""
        self.broken = True
        self._old.clear()
        self._paths.clear()
        self.bytes = 0

    def changes_after(self, path: bytes) -> list[Change]:
        """Paths above `path` that were changed since, each with its value in this view (None: it was not there).

        Call it with a read transaction open. Raises SnapshotLost.
        """
        with self._lock:
            if self.broken:
                raise SnapshotLost("The repository changed too much while it was exported; ask again")
            start = bisect_right(self._paths, path)
            return [(changed, self._old[changed]) for changed in self._paths[start:]]


class Snapshots:
    """The durable head and all views of it."""

    def __init__(self, overlay_bytes: int) -> None:
        self._overlay_bytes = overlay_bytes
        self._lock = threading.Lock()
        self._head: Head | None = None
        self._taken: list[Snapshot] = []
        self._used = 0
        # What was changed but is not durable yet, so that a view taken right now has its old values too.
        self._pending: deque[tuple[str, Sequence[Change]]] = deque()

    @property
    def head(self) -> Head | None:
        """The newest durable head, None on a box without a repository."""
        return self._head

    def take(self) -> Snapshot | None:
        """A view of the durable head; None without a repository. Give it back with `release`."""
        with self._lock:
            if self._head is None:
                return None
            snapshot = Snapshot(self._head, self._lock)
            for _rev, changes in self._pending:
                for path, old in changes:
                    self._used += snapshot.note(path, old)
            self._taken.append(snapshot)
            return snapshot

    def release(self, snapshot: Snapshot) -> None:
        """Ends a view."""
        with self._lock:
            if snapshot in self._taken:
                self._taken.remove(snapshot)
                self._used -= snapshot.bytes

    def changed(self, rev: str, changes: Sequence[Change]) -> None:
        """The commit `rev`, not durable yet, changes these paths; each comes with the value it had."""
        with self._lock:
            self._pending.append((rev, changes))
            for snapshot in self._taken:
                if not snapshot.broken:
                    for path, old in changes:
                        self._used += snapshot.note(path, old)
            while self._used > self._overlay_bytes:
                largest = max(self._taken, key=lambda snapshot: snapshot.bytes)
                self._used -= largest.bytes
                largest.drop()

    def advance(self, head: Head) -> None:
        """`head` is durable."""
        with self._lock:
            self._head = head
            while self._pending and self._pending[0][0] <= head.rev:
                self._pending.popleft()

    def rewind(self, rev: str) -> None:
        """The commit `rev` was not stored, nor any after it. Views keep the old values they noted: they still hold."""
        with self._lock:
            while self._pending and self._pending[-1][0] >= rev:
                self._pending.pop()

    def replace(self, head: Head) -> None:
        """An import put another repository in place: `head` is durable and every view is lost."""
        self._change_repository(head)

    def clear(self) -> None:
        """There is no repository any more, and every view is lost."""
        self._change_repository(None)

    def _change_repository(self, head: Head | None) -> None:
        with self._lock:
            self._head = head
            self._pending.clear()
            for snapshot in self._taken:
                self._used -= snapshot.bytes
                snapshot.drop()
