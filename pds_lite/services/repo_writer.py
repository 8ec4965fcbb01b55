"""RepoWriter: the only way a record, the head or the event stream changes.

Rules that hold here
- One step, one transaction: records, head, event frames, blob references, backlinks and the account's row are stored
  together or not at all. The step runs on the store's writer thread; memory follows what became durable.
- Each write is planned against the head that the writes before it made, durable or not. If the group they share fails,
  the head goes back to the last durable one.
- Before a commit is stored, the finished frame is undone as a relay would. If that does not give the tree before it,
  nothing is stored and the box stops writing: a repository that cannot be verified is worth less than a silent one.
- A deactivated account makes no commits; a running import has the repository to itself.
- What clients see as success has been durable before; the event goes out before the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pds_lite.atproto import firehose
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.repo import CommitPlan, Head, Write, build_commit
from pds_lite.errors import AccountInactive, BadCommit, InvalidSwap, NotFound, PdsError, ReadOnly, Unavailable
from pds_lite.services.commit_clock import CommitClock, iso_time
from pds_lite.services.record_writes import PreparedWrite, RecordWrite, prepare
from pds_lite.services.snapshots import Change, Snapshots
from pds_lite.services.write_plan import WritePlan
from pds_lite.storage import account_store, event_log, repo_store, sparse_tree

if TYPE_CHECKING:
    from pds_lite.atproto.crypto.keys import PrivateKey
    from pds_lite.clock import Clock
    from pds_lite.services.sequencer import Sequencer
    from pds_lite.storage.store import Store, WriteTxn

log = logging.getLogger(__name__)

T = TypeVar("T")
SAVE_TREE_EVERY = 2000
"""Commits between two savings of the sparse tree: what a start after a power cut has to replay at most."""


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """#identity with this handle."""

    handle: str | None


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """#account."""

    active: bool
    status: str | None = None


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A fresh commit over unchanged records (the first one of an account, or under a new key), and its #commit."""

    silent: bool = False
    """No event: inactive accounts must not announce commits."""


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """#sync with the head."""


Announcement: TypeAlias = IdentityEvent | AccountEvent | CommitEvent | SyncEvent


@dataclass(frozen=True, slots=True)
class RecordResult:
    """What became of one write; cid and status are None for a deletion."""

    action: str
    uri: str
    cid: Cid | None
    status: str | None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """(commit CID, rev) of the commit, None if nothing had to change; one result per write, in order."""

    commit: tuple[Cid, str] | None
    results: tuple[RecordResult, ...]


class RepoWriter:
    """The repository of the one account. `start` loads it; without a repository `head` is None."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        sequencer: Sequencer,
        key: PrivateKey,
        *,
        dev: bool,
        overlay_bytes: int = 4 << 20,
    ) -> None:
        """`key` signs commits; `overlay_bytes` bounds what is kept for exports that run while records change."""
        self._store = store
        self._clock = clock
        self._sequencer = sequencer
        self._key = key
        self.snapshots = Snapshots(overlay_bytes)
        self.times = CommitClock(clock, dev=dev)
        # Writer thread only: the head of the newest planned commit, which may not be durable yet.
        self._planned: Head | None = None
        self._did = ""
        self._status: str | None = None
        self._unsaved = 0
        self.read_only: str | None = None
        """Why the box does not write any more, None while it does."""
        self.importing = False
        """True while an import has the repository to itself."""

    @property
    def head(self) -> Head | None:
        """The newest durable head."""
        return self.snapshots.head

    def start(self) -> None:
        """Loads head and tree. Raises StoreBroken if they contradict each other."""
        with self._store.read() as txn:
            last_seq = event_log.last_seq(txn)
            stored = repo_store.read_head(txn)
            if stored is not None:
                root = sparse_tree.load(txn)
                head = Head(stored.did, stored.rev, stored.commit, stored.commit_block, stored.data, root)
                self._planned = head
                self.snapshots.advance(head)
        self.times.resume(self.head.rev if self.head else None, last_seq)

    async def stop(self) -> None:
        """Saves the tree so that the next start need not replay."""
        head = self.head
        if head is not None and self._unsaved and self.read_only is None:
            await self._store.write(self._save_tree, "save tree")

    # Records

    async def apply_writes(self, writes: Sequence[RecordWrite], swap_commit: Cid | None = None) -> WriteResult:
        """Applies all writes in one commit, or none of them.

        Raises BadInput (a record that its lexicon or the data model refuses, a taken key, a missing record or blob),
        InvalidSwap, TooLarge, AccountInactive, or Unavailable (ReadOnly, ClockUntrusted, StoreFull).
        """
        prepared = [prepare(write, self.times.next_key) for write in writes]
        use_reserve = all(write.block is None for write in prepared)  # deleting must work on a full disk
        step = partial(self._write_records, prepared, swap_commit)
        return await self._store.write(step, "commit", use_reserve=use_reserve)

    def _write_records(self, prepared: list[PreparedWrite], swap_commit: Cid | None, txn: WriteTxn) -> WriteResult:
        """The step on the writer thread: decide, plan, store."""
        self._check_writable(txn)
        head = self._planned
        if head is None:
            raise NotFound("There is no repository yet", error="RepoNotFound")
        if swap_commit is not None and swap_commit != head.commit:
            raise InvalidSwap(f"Commit was at {head.commit}")
        changes = WritePlan(txn, prepared)
        results = tuple(
            RecordResult(outcome.action, f"at://{self._did}/{write.collection}/{write.rkey}", outcome.cid, write.status)
            for write, outcome in zip(prepared, changes.outcomes, strict=True)
        )
        if not changes.changes:
            return WriteResult(None, results)
        plan = self._commit(txn, changes.writes(), changes.old_values())
        changes.store_references(txn, plan.head.rev)
        return WriteResult((plan.head.commit, plan.head.rev), results)

    # Account changes and events

    async def transact(
        self, change: Callable[[WriteTxn], T] | None, announcements: Sequence[Announcement] = ()
    ) -> T | None:
        """One durable step: `change`, then the events in order; what `change` answered.

        A CommitEvent makes the first commit where there is none. Raises what `change` raises, and Unavailable.
        """
        return await self._store.write(partial(self._change_account, change, announcements), "account")

    def _change_account(
        self, change: Callable[[WriteTxn], T] | None, announcements: Sequence[Announcement], txn: WriteTxn
    ) -> T | None:
        self._refuse_if_broken()
        self._status = None  # `change` may change it; the next write reads it again
        txn.after_abort(self._forget_status)
        answer = change(txn) if change is not None else None
        self._read_account(txn)
        for announcement in announcements:
            match announcement:
                case IdentityEvent(handle):
                    self._append(txn, partial(firehose.identity_frame, did=self._did, handle=handle))
                case AccountEvent(active, status):
                    self._append(txn, partial(firehose.account_frame, did=self._did, active=active, status=status))
                case CommitEvent(silent):
                    self._commit(txn, [], [], silent=silent)
                case SyncEvent():
                    self._sync(txn)
        return answer

    def _sync(self, txn: WriteTxn) -> None:
        head = self._planned
        if head is None:
            raise NotFound("There is no repository yet", error="RepoNotFound")
        self._append(
            txn,
            partial(
                firehose.sync_frame, did=head.did, rev=head.rev, commit=head.commit, commit_block=head.commit_block
            ),
        )

    def sign_with(self, txn: WriteTxn, key: PrivateKey) -> None:
        """Commits are signed by `key` from this step on: for the `change` of a `transact` that stores the key."""
        before, self._key = self._key, key
        txn.after_abort(partial(setattr, self, "_key", before))

    @property
    def did_key(self) -> str:
        """Of the key that signs commits."""
        return self._key.did_key

    # Import of a whole repository

    def begin_import(self) -> None:
        """Refuses record writes from now on. Raises Unavailable if an import is under way, or ReadOnly."""
        self._refuse_if_broken()
        if self.importing:
            raise _importing()
        self.importing = True

    def end_import(self) -> None:
        """Lets writes go on."""
        self.importing = False

    async def replace(self, head: Head, change: Callable[[WriteTxn], None]) -> None:
        """Makes the filled idle generation the repository, with `head` and its tree, and `change` in the same step.

        An active account gets a fresh commit of its own on top and a #sync; an inactive one keeps the head it brought,
        which its DID document can verify, and announces nothing. Only a head of our own that is older than the present
        one gets a fresh commit then too: the world has seen later revs, and revs never go back. Every export that runs
        is cut.
        """
        await self._store.write(partial(self._replace, head, change), "import")

    def _replace(self, head: Head, change: Callable[[WriteTxn], None], txn: WriteTxn) -> None:
        self._refuse_if_broken()
        self._read_account(txn)
        before = self._planned
        repo_store.flip(txn, head)
        change(txn)
        txn.after_commit(partial(self.snapshots.replace, head))
        txn.after_abort(partial(self._rewind, before, head.rev))
        self._planned = head
        self.times.resume(head.rev, 0)
        if self._status == "active":
            self._commit(txn, [], [], silent=True)
            self._sync(txn)
        elif before is not None and head.rev < before.rev and self._is_ours(head):
            self._commit(txn, [], [], silent=True)
        self._save_tree(txn)

    def _is_ours(self, head: Head) -> bool:
        try:
            verify_commit(decode_commit(head.commit_block), self.did_key)
        except BadCommit:
            return False
        return True

    async def erase(self, change: Callable[[WriteTxn], None], *, announce: bool) -> None:
        """Ends the repository: #account says that it is deleted, and `change` takes it out of the store, in one step.

        Raises Unavailable (ImportInProgress) beside an import. Every export that runs is cut.
        """
        await self._store.write(partial(self._erase, change, announce), "erase", use_reserve=True)

    def _erase(self, change: Callable[[WriteTxn], None], announce: bool, txn: WriteTxn) -> None:
        if self.importing:
            raise _importing()
        self._read_account(txn)
        if announce:
            self._append(txn, partial(firehose.account_frame, did=self._did, active=False, status="deleted"))
        txn.after_commit(self.snapshots.clear)
        txn.after_abort(partial(setattr, self, "_planned", self._planned))
        txn.after_abort(self._forget_status)
        change(txn)
        self._planned, self._status, self._unsaved = None, None, 0

    # The step's parts, on the writer thread

    def _commit(
        self, txn: WriteTxn, writes: Sequence[Write], old_values: Sequence[Change], *, silent: bool = False
    ) -> CommitPlan:
        """Plans a commit, undoes it to see that it can be, stores it and, unless it is `silent`, its event."""
        self.times.check()
        rev = self.times.next_tid()
        plan = build_commit(
            self._did, self._planned, writes, rev, self._key.sign, partial(repo_store.load_subtree, txn)
        )
        seq = self.times.next_seq()
        frame = firehose.commit_frame(seq, iso_time(self._clock.now_us()), plan)
        self._check_inversion(frame)
        repo_store.apply_commit(txn, plan)
        if not silent:
            event_log.append(txn, seq, frame)
        txn.after_commit(partial(self._became_durable, plan.head, seq, None if silent else frame))
        txn.after_abort(partial(self._rewind, self._planned, rev))
        self.snapshots.changed(rev, old_values)
        self._planned = plan.head
        return plan

    def _append(self, txn: WriteTxn, make_frame: Callable[..., bytes]) -> None:
        """Stores an event that changes no record."""
        seq = self.times.next_seq()
        frame = make_frame(seq, iso_time(self._clock.now_us()))
        event_log.append(txn, seq, frame)
        txn.after_commit(partial(self._sequencer.publish, seq, frame))

    def _check_inversion(self, frame: bytes) -> None:
        try:
            firehose.check_commit_frame(frame, self._did)
        except PdsError as problem:
            self.read_only = f"a commit could not be undone: {problem.message}"
            log.critical("NOT WRITING ANY MORE: %s. Nothing was stored. Run: pds-lite doctor --store", self.read_only)
            raise self._broken() from problem

    def _became_durable(self, head: Head, seq: int, frame: bytes | None) -> None:
        self.snapshots.advance(head)
        self.times.committed(head.rev)
        self._unsaved += 1
        if frame is not None:
            self._sequencer.publish(seq, frame)

    def _rewind(self, before: Head | None, rev: str) -> None:
        """The commit `rev` was not stored. Called for the newest one first, so the head goes back step by step."""
        self._planned = before
        self.snapshots.rewind(rev)

    def _forget_status(self) -> None:
        self._status = None

    def _check_writable(self, txn: WriteTxn) -> None:
        self._refuse_if_broken()
        if self.importing:
            raise _importing()
        if self._status is None:
            self._read_account(txn)
        if self._status == "takendown":
            raise AccountInactive("Account has been taken down", error="AccountTakedown")
        if self._status != "active":
            raise AccountInactive("Account is deactivated", error="AccountDeactivated")

    def _read_account(self, txn: WriteTxn) -> None:
        account = account_store.get_account(txn)
        if account is not None:
            self._did, self._status = account.did, account.status

    def _refuse_if_broken(self) -> None:
        if self.read_only is not None:
            raise self._broken()

    def _broken(self) -> ReadOnly:
        return ReadOnly(f"The server stopped writing: {self.read_only}", hint="pds-lite doctor --store")

    async def save_tree_if_due(self) -> None:
        """Saves the sparse tree when enough commits were made since; for a task that looks now and then."""
        if self._unsaved >= SAVE_TREE_EVERY:
            await self._store.write(self._save_tree, "save tree")

    def _save_tree(self, txn: WriteTxn) -> None:
        head = self._planned
        if head is not None:
            sparse_tree.save(txn, head.root, head)
            self._unsaved = 0


def _importing() -> Unavailable:
    return Unavailable("An import is under way; try again when it is finished", error="ImportInProgress")
