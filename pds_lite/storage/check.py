"""The store check: reads everything once and names every broken invariant. Changes nothing.

Works on one snapshot, so it may run in the server or in another process (Store.open_readonly) while writes go on. What
lies outside the snapshot, the blob files, is compared with a fresh look before it is called broken. Memory does not
grow with the records: rows are looked up rather than collected.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor, firehose
from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.data import blob_cids
from pds_lite.atproto.mst.tree import Entry, build_sparse
from pds_lite.errors import BadInput, PdsError, StoreBroken
from pds_lite.storage import account_store, blob_store, event_log, migrations, repo_store, session_store, sparse_tree
from pds_lite.storage.keys import (
    LONG_BODIES,
    RECORDS,
    Table,
    blob_cid,
    blob_key,
    blob_ref_key,
    decode_bucket,
    is_bucket,
    key_after,
    rev_text,
)

if TYPE_CHECKING:
    from pds_lite.storage.store import Store, Txn

_BLOB_WORD = b"mimeType"
"""In every record that names a blob, in the new form or the old; others need not be decoded."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken invariant: a short code for programs, a sentence for people."""

    code: str
    text: str


def check_store(store: "Store", blob_folder: Path | None, did_key: str | None = None) -> Iterator[Problem]:
    """Every problem of the store; with `blob_folder` of the blob files too, with `did_key` of the head's signature."""
    try:
        with store.read() as txn:
            yield from _guarded("format", migrations.read_format, txn)
            for part in (_check_accounts, _check_long_paths, _check_events, _check_blob_rows):
                yield from _each(part, txn)
            yield from _each(_check_repo, txn, did_key)
            if blob_folder is not None:
                yield from _each(_check_blob_files, txn, store, blob_folder)
    except StoreBroken as problem:  # LMDB itself cannot read on
        yield Problem("unreadable", problem.message)


def _guarded(code: str, read: Any, *arguments: Any) -> Iterator[Problem]:
    try:
        read(*arguments)
    except PdsError as problem:
        yield Problem(code, problem.message)


def _each(part: Any, *arguments: Any) -> Iterator[Problem]:
    """The problems of one part; a part that cannot go on is a problem itself."""
    try:
        yield from part(*arguments)
    except PdsError as problem:
        yield Problem("unreadable", problem.message)


# -- head, records, tree


def _check_repo(txn: "Txn", did_key: str | None) -> Iterator[Problem]:
    head = repo_store.read_head(txn)
    if head is None:
        if repo_store.record_count(txn):
            yield Problem("head_missing", "there are records but no commit over them")
        return
    account = account_store.get_account(txn)
    is_moving = account is not None and account.status != "active"  # with a commit that its old host has signed
    if did_key is not None and not is_moving:
        yield from _guarded("head_signature", verify_commit, decode_commit(head.commit_block), did_key)
    if account is not None and account.did != head.did:
        yield Problem("head_did", f"the head is of {head.did}, the account of {account.did}")
    problems: list[Problem] = []
    root = build_sparse(_inspect_records(txn, head.rev, problems), head.rev)
    yield from problems
    if root.cid != head.data:
        yield Problem("tree_root", f"the records make the tree {root.cid}, the head signs {head.data}")
    saved = sparse_tree.load_saved(txn)
    if saved is not None and saved.cid != root.cid:
        yield Problem("sparse_tree", "the saved upper tree does not lead to that of the records")


def _inspect_records(txn: "Txn", head_rev: str, problems: list[Problem]) -> Iterator[Entry]:
    """(path, CID) of each record for building the tree; what is wrong with the records goes to `problems`."""
    count = references = 0
    for path, record in repo_store.scan_records(txn):
        count += 1
        if record.cid.is_blessed and not record.cid.matches(record.block):
            problems.append(Problem("record_hash", f"record {path!r} is not what its CID says"))
        if record.rev > head_rev:
            problems.append(Problem("record_rev", f"record {path!r} was written by a rev after the head"))
        for cid in _blobs_of(record.block, path, problems):
            references += 1
            if txn.get(Table.BLOB_REFS, blob_ref_key(cid, path)) is None:
                problems.append(Problem("blob_uncounted", f"record {path!r} names blob {cid}, but no row says so"))
        yield path, record.cid
    if count != repo_store.record_count(txn):
        problems.append(Problem("record_count", f"{count} records are there, {repo_store.record_count(txn)} counted"))
    if references != txn.count(Table.BLOB_REFS):
        problems += _stale_references(txn)


def _blobs_of(block: bytes, path: bytes, problems: list[Problem]) -> set[Cid]:
    if _BLOB_WORD not in block:
        return set()
    try:
        value = dag_cbor.decode_own(block)
    except BadInput as problem:
        problems.append(Problem("record_unreadable", f"record {path!r}: {problem.message}"))
        return set()
    return blob_cids(value)


def _stale_references(txn: "Txn") -> Iterator[Problem]:
    for key, value in txn.scan(Table.BLOB_REFS):
        cid, path = blob_cid(key), value[8:]
        record = repo_store.get_record(txn, path)
        if record is None or cid not in _blobs_of(record.block, path, []):
            yield Problem("blob_ref_stale", f"blob {cid} counts a reference by {path!r}, which does not name it")


def _check_long_paths(txn: "Txn") -> Iterator[Problem]:
    """The live generation only: the idle one may be half filled or half dropped at any time."""
    generation = repo_store.read_generation(txn)
    bodies = 0
    for key, value in txn.scan(RECORDS[generation]):
        if not is_bucket(key):
            continue
        paths = decode_bucket(key, value)
        bodies += len(paths)
        if paths != sorted(paths) or not paths:
            yield Problem("bucket_order", "a bucket of long record paths is empty or out of order")
        for path, body_id in paths:
            if txn.get(LONG_BODIES[generation], body_id) is None:
                yield Problem("bucket_body", f"record {path[:40]!r}... has lost its body")
    if bodies != txn.count(LONG_BODIES[generation]):
        yield Problem("bucket_count", "there are bodies of long record paths that no path leads to")


# -- events


@dataclass(frozen=True, slots=True)
class _State:
    """The repository as an event leaves it."""

    rev: str
    commit: Cid
    data: Cid


def _check_events(txn: "Txn") -> Iterator[Problem]:
    """Sequence numbers, and that each event begins with the repository as the one before it left it.

    What happens to an inactive account is not announced, so its #account event breaks the chain.
    """
    state: _State | None = None
    for seq, frame in event_log.events(txn):
        try:
            header, body = firehose.decode_frame(frame)
            if body.get("seq") != seq:
                yield Problem("event_seq", f"event {seq} says it is {body.get('seq')}")
            kind = header.get("t")
            if kind == "#commit":
                event = firehose.parse_commit(body)
                if state is not None and (event.since, event.prev_data) != (state.rev, state.data):
                    yield Problem("event_chain", f"event {seq} does not follow on the one before it")
                state = _signed_state(event.blocks, event.rev)
            elif kind == "#sync":
                state = _signed_state(body["blocks"], body["rev"])
            elif kind == "#account" and not body["active"]:
                state = None
        except (BadInput, KeyError) as problem:
            yield Problem("event_unreadable", f"event {seq}: {problem}")
            state = None
    head = repo_store.read_head(txn)
    if state is not None and (head is None or (head.rev, head.commit) != (state.rev, state.commit)):
        yield Problem("event_head", f"the last event is of rev {state.rev}, the head of {head.rev if head else None}")
    if event_log.pruned_through(txn) > event_log.oldest_seq(txn):
        yield Problem("event_pruned", "events are still there that count as pruned")


def _signed_state(car: bytes, rev: str) -> _State:
    """What the commit in an event signs."""
    root, blocks = read_car(car)
    commit = decode_commit(blocks.get(root, b""))
    if commit.rev != rev:
        raise BadInput("it contradicts the commit in it")
    return _State(rev, root, commit.data)


# -- blobs


def _check_blob_rows(txn: "Txn") -> Iterator[Problem]:
    for key, _value in txn.scan(Table.BLOBS):
        cid = blob_cid(key)
        row = blob_store.get_blob(txn, cid)
        revs = [value[:8] for _key, value in txn.scan(Table.BLOB_REFS, key, key_after(key))]
        if row is None or row.refs != len(revs) or not revs:
            yield Problem("blob_count", f"blob {cid} counts {row.refs if row else 0} references, there are {len(revs)}")
        elif row.rev is None or row.rev < rev_text(max(revs)):
            yield Problem("blob_rev", f"blob {cid} is older than a record that names it")
        if txn.get(Table.BLOBS_TEMPORARY, key) is not None:
            yield Problem("blob_twice", f"blob {cid} is both temporary and referred to")
    for key, _value in txn.scan(Table.BLOB_REFS):
        owner = blob_key(blob_cid(key))
        here, missing = (txn.get(table, owner) is not None for table in (Table.BLOBS, Table.BLOBS_MISSING))
        if here == missing:
            yield Problem(
                "blob_missing", f"blob {blob_cid(key)} counts as {'both' if here else 'neither'} here and missing"
            )
    for key, _value in txn.scan(Table.BLOBS_MISSING):
        if next(txn.scan(Table.BLOB_REFS, key, key_after(key)), None) is None:
            yield Problem("blob_missing", f"blob {blob_cid(key)} counts as missing, but no record names it")


def _check_blob_files(txn: "Txn", store: "Store", folder: Path) -> Iterator[Problem]:
    for table in (Table.BLOBS, Table.BLOBS_TEMPORARY):
        for key, _value in txn.scan(table):
            row = blob_store.get_blob(txn, blob_cid(key))
            problem = _file_problem(folder, row.cid, row.size) if row is not None else None
            if problem is None or row is None:
                continue
            with store.read() as now:  # it may have been dropped since the snapshot
                if blob_store.get_blob(now, row.cid) is not None:
                    yield problem


def _file_problem(folder: Path, cid: Cid, size: int) -> Problem | None:
    try:
        found = blob_store.blob_path(folder, cid).stat().st_size
    except FileNotFoundError:
        return Problem("blob_file", f"the file of blob {cid} is gone")
    if found != size:
        return Problem("blob_size", f"the file of blob {cid} has {found} bytes instead of {size}")
    return None


# -- account


def _check_accounts(txn: "Txn") -> Iterator[Problem]:
    for code, read in (
        ("account", account_store.get_account),
        ("app_password", lambda txn: list(account_store.list_app_passwords(txn))),
        ("code", lambda txn: list(account_store.list_codes(txn))),
        ("session", lambda txn: list(session_store.list_sessions(txn))),
    ):
        yield from _guarded(code, read, txn)
