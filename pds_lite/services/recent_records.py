"""Own records that another service does not know yet: those written after the rev it says it has seen.

Nothing is kept for this. Every stored record carries the rev that wrote it, and posts, likes and reposts have keys that
grow with time, so the newest keys of a collection hold the newest records. The search stops after a few that are not
new, and is spared altogether while the service is up to date. A record whose client gave it a key far in the past is
not found; it then shows up when the service has seen it. What was written before the account came here is never new:
the network has it from the former host, however far behind a service is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.tid import tid_to_int
from pds_lite.services.commit_clock import iso_time
from pds_lite.storage import account_store, repo_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pds_lite.atproto.tid import Tid
    from pds_lite.services.repo_writer import RepoWriter
    from pds_lite.storage.repo_store import Record
    from pds_lite.storage.store import Store, Txn

PROFILE = "app.bsky.actor.profile"
POST, LIKE, REPOST = "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.feed.repost"
MAX_NEW = 25
"""Of each collection."""
MAX_OLD = 8
"""Records that are not new between two that are."""


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """A record of the account."""

    uri: str
    cid: str
    value: dict[str, Any]
    indexed_at: str
    """When it was written, ISO 8601 in UTC with milliseconds."""
    indexed_us: int


@dataclass(frozen=True, slots=True)
class NewRecords:
    """What was written after a rev, each list oldest first."""

    profile: LocalRecord | None = None
    posts: list[LocalRecord] = field(default_factory=list)
    likes: dict[str, LocalRecord] = field(default_factory=dict)
    """By the URI of the subject."""
    reposts: dict[str, LocalRecord] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.profile or self.posts or self.likes or self.reposts)

    @property
    def oldest_us(self) -> int:
        """Microseconds since the epoch of the first of them."""
        profile = [self.profile] if self.profile is not None else []
        every = [*profile, *self.posts, *self.likes.values(), *self.reposts.values()]
        return min(record.indexed_us for record in every)


NOTHING = NewRecords()


class RecentRecords:
    """Finds the account's new records."""

    def __init__(self, store: Store, repo: RepoWriter) -> None:
        self._store = store
        self._repo = repo

    def since(self, rev: Tid) -> NewRecords:
        """The records written after `rev`."""
        head = self._repo.head
        if head is None or head.rev <= rev:
            return NOTHING
        with self._store.read() as txn:
            account = account_store.get_account(txn)
            came_us = account.created_us if account is not None else 0
            number = max(tid_to_int(rev), came_us << 10)
            profile = self.profile(txn, head.did)
            return NewRecords(
                profile if profile is not None and profile.indexed_us > number >> 10 else None,
                list(_new(txn, head.did, POST, number)),
                _by_subject(_new(txn, head.did, LIKE, number)),
                _by_subject(_new(txn, head.did, REPOST, number)),
            )

    def profile(self, txn: Txn, did: str) -> LocalRecord | None:
        """The profile, new or not."""
        record = repo_store.get_record(txn, f"{PROFILE}/self".encode())
        return _local(did, f"{PROFILE}/self", record) if record is not None else None

    def read_profile(self, did: str) -> LocalRecord | None:
        """`profile` in a transaction of its own."""
        with self._store.read() as txn:
            return self.profile(txn, did)


def _new(txn: Txn, did: str, collection: str, rev_number: int) -> Iterator[LocalRecord]:
    found: list[tuple[int, LocalRecord]] = []
    old = 0
    low, high = f"{collection}/".encode(), f"{collection}0".encode()
    for path, record in repo_store.scan_records(txn, low=low, high=high, reverse=True):
        if record.rev_number > rev_number:
            old = 0
            found.append((record.rev_number, _local(did, path.decode(), record)))
        else:
            old += 1
        if old > MAX_OLD or len(found) == MAX_NEW:
            break
    found.sort(key=lambda entry: entry[0])
    return (record for _rev, record in found)


def _local(did: str, path: str, record: Record) -> LocalRecord:
    microseconds = record.rev_number >> 10
    value = dag_cbor.decode_own(record.block)
    return LocalRecord(f"at://{did}/{path}", str(record.cid), value, iso_time(microseconds), microseconds)


def _by_subject(records: Iterator[LocalRecord]) -> dict[str, LocalRecord]:
    subjects: dict[str, LocalRecord] = {}
    for record in records:
        subject = record.value.get("subject")
        if isinstance(subject, dict) and isinstance(subject.get("uri"), str):
            subjects[subject["uri"]] = record
    return subjects
