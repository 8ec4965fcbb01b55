"""Frames of com.atproto.sync.subscribeRepos (specs/event-stream; specs/sync, "Firehose").

A frame is two DAG-CBOR objects, header and body, in one binary message. It is made once, stored and sent as it is. The
`#commit` encoder is written out by hand for its fixed shape, as every write makes one; the others are rare.

`check_commit_frame` is the guard of the box's own truth: it does to a finished frame what a strict relay would do, with
code that had no part in making it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import encode_block, encode_header, read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.mst.diff import Action, RecordOp
from pds_lite.atproto.mst.proof import InversionFailed, invert
from pds_lite.atproto.mst.tree import EMPTY
from pds_lite.atproto.repo import MAX_BLOCKS, MAX_OPS, CommitPlan
from pds_lite.errors import BadCommit, BadData, TooLarge

MAX_FRAME: Final = 5_000_000
"""Bytes of a frame; relays close the connection above."""
MAX_SEQ: Final = (1 << 53) - 1
"""Consumers read seq as a JavaScript number."""

_COMMIT_HEADER = b"\xa2\x61t\x67#commit\x62op\x01"
_LINK = b"\xd8\x2a\x58\x25\x00"


def _head(major: int, number: int) -> bytes:
    """The shortest CBOR head: major type in the upper three bits, then the number."""
    if number < 24:
        return bytes((major | number,))
    for info, size in ((24, 1), (25, 2), (26, 4)):
        if number < 1 << 8 * size:
            return bytes((major | info,)) + number.to_bytes(size, "big")
    return bytes((major | 27,)) + number.to_bytes(8, "big")


def _text(value: str) -> bytes:
    content = value.encode()
    return _head(0x60, len(content)) + content


def _link(cid: Cid | None) -> bytes:
    """A link; record CIDs of imported repos may be of odd kinds and lengths."""
    if cid is None:
        return b"\xf6"
    return _LINK + cid if len(cid) == 36 else b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\0" + cid


def _op(op: RecordOp) -> bytes:
    """`prev` is absent, not null, where there was nothing; `cid` is null, not absent, where nothing is."""
    path = b"\x64path" + _head(0x60, len(op.path)) + op.path
    action = b"\x66action\x66" + op.action.encode()
    if op.prev is None:
        return b"\xa3\x63cid" + _link(op.cid) + path + action
    return b"\xa4\x63cid" + _link(op.cid) + path + b"\x64prev" + _link(op.prev) + action


def commit_frame(seq: int, time: str, plan: CommitPlan) -> bytes:
    """The `#commit` frame of a plan. `prevData` is absent for a first commit, `since` null."""
    _check_seq(seq)
    head = plan.head
    frame = b"".join(
        (
            _COMMIT_HEADER,
            b"\xab\x63ops" if plan.prev_data is None else b"\xac\x63ops",
            _head(0x80, len(plan.ops)),
            *map(_op, plan.ops),
            b"\x63rev",
            _text(head.rev),
            b"\x63seq",
            _head(0x00, seq),
            b"\x64repo",
            _text(head.did),
            b"\x64time",
            _text(time),
            b"\x65blobs\x80\x65since",
            b"\xf6" if plan.since is None else _text(plan.since),
            b"\x66blocks",
            _head(0x40, len(plan.blocks)),
            plan.blocks,
            b"\x66commit" + _LINK,
            head.commit,
            b"\x66rebase\xf4\x66tooBig\xf4",
            b"" if plan.prev_data is None else b"\x68prevData" + _LINK + plan.prev_data,
        )
    )
    if len(frame) > MAX_FRAME:
        raise TooLarge(f"an event has at most {MAX_FRAME} bytes")
    return frame


def sync_frame(seq: int, time: str, did: str, rev: str, commit: Cid, commit_block: bytes) -> bytes:
    """`#sync`: the repo is now at this commit, forget what you knew."""
    blocks = encode_header(commit) + encode_block(commit, commit_block)
    return _frame("#sync", {"did": did, "rev": rev, "seq": _check_seq(seq), "time": time, "blocks": blocks})


def identity_frame(seq: int, time: str, did: str, handle: str | None) -> bytes:
    """`#identity`: handle or DID document may have changed, look again."""
    body: dict[str, dag_cbor.Value] = {"did": did, "seq": _check_seq(seq), "time": time}
    return _frame("#identity", body if handle is None else {**body, "handle": handle})


def account_frame(seq: int, time: str, did: str, active: bool, status: str | None) -> bytes:
    """`#account`: whether the account is active here, and if not, why."""
    body: dict[str, dag_cbor.Value] = {"did": did, "seq": _check_seq(seq), "time": time, "active": active}
    return _frame("#account", body if status is None else {**body, "status": status})


def info_frame(name: str, message: str | None = None) -> bytes:
    """`#info`, which has no seq and is never stored: OutdatedCursor."""
    return _frame("#info", {"name": name} if message is None else {"name": name, "message": message})


def error_frame(name: str, message: str | None = None) -> bytes:
    """An error, after which the server closes: FutureCursor, ConsumerTooSlow."""
    body: dict[str, dag_cbor.Value] = {"error": name} if message is None else {"error": name, "message": message}
    return dag_cbor.encode({"op": -1}) + dag_cbor.encode(body)


def _frame(kind: str, body: dict[str, dag_cbor.Value]) -> bytes:
    return dag_cbor.encode({"op": 1, "t": kind}) + dag_cbor.encode(body)


def _check_seq(seq: int) -> int:
    if not 1 <= seq <= MAX_SEQ:
        raise BadData(f"seq {seq} is not in 1 to 2^53-1")
    return seq


def decode_frame(frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(header, body) of a frame, both canonical. Raises BadData; TooLarge over MAX_FRAME."""
    if len(frame) > MAX_FRAME:
        raise TooLarge(f"an event has at most {MAX_FRAME} bytes")
    header, offset = dag_cbor.decode_prefix(frame)
    body, end = dag_cbor.decode_prefix(frame, offset)
    if end != len(frame) or type(header) is not dict or type(body) is not dict:
        raise BadData("event frame is not two objects")
    return header, body


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """The body of a `#commit` whose fields are of the right types."""

    seq: int
    repo: str
    rev: str
    since: str | None
    commit: Cid
    blocks: bytes
    ops: tuple[RecordOp, ...]
    prev_data: Cid | None


_NULL = type(None)
_COMMIT_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "ops": (list,),
    "rev": (str,),
    "seq": (int,),
    "repo": (str,),
    "time": (str,),
    "blobs": (list,),
    "since": (str, _NULL),
    "blocks": (bytes,),
    "commit": (Cid,),
    "rebase": (bool,),
    "tooBig": (bool,),
    "prevData": (Cid, _NULL),
}


def parse_commit(body: Any) -> CommitEvent:
    """A decoded `#commit` body, its fields and limits checked as a strict relay does. Raises BadCommit."""
    if type(body) is not dict:
        raise BadCommit("commit event has no body")
    for name, types in _COMMIT_TYPES.items():
        if type(body.get(name)) not in types or (name not in body and name != "prevData"):
            raise BadCommit(f"commit event has no valid {name}")
    if body["rebase"] or body["tooBig"] or body["blobs"]:
        raise BadCommit("commit event uses rebase, tooBig or blobs")
    if len(body["blocks"]) > MAX_BLOCKS or len(body["ops"]) > MAX_OPS or not 1 <= body["seq"] <= MAX_SEQ:
        raise BadCommit("commit event has too many operations or blocks, or a seq out of range")
    if body["since"] is not None and body["rev"] <= body["since"]:
        raise BadCommit("commit event does not move rev forward")
    ops = _parse_ops(body["ops"])
    return CommitEvent(
        body["seq"],
        body["repo"],
        body["rev"],
        body["since"],
        body["commit"],
        body["blocks"],
        ops,
        body.get("prevData"),
    )


_WITH_PREV_AND_CID: Final[dict[tuple[bool, bool], Action]] = {
    (False, True): "create",
    (True, True): "update",
    (True, False): "delete",
}


def _parse_ops(values: Sequence[Any]) -> tuple[RecordOp, ...]:
    ops = []
    for value in values:
        if type(value) is not dict or "cid" not in value or type(value.get("path")) is not str:
            raise BadCommit("commit event has an operation without path or cid")
        cid, prev = value["cid"], value.get("prev")
        action = _WITH_PREV_AND_CID.get((prev is not None, cid is not None))
        if action is None or action != value.get("action"):
            raise BadCommit("commit event has an operation whose action, cid and prev do not fit")
        if not (prev is None or type(prev) is Cid) or not (cid is None or type(cid) is Cid):
            raise BadCommit("commit event has an operation whose cid or prev is not a link")
        ops.append(RecordOp(action, value["path"].encode(), cid, prev))
    return tuple(ops)


def check_commit_frame(frame: bytes, did: str, did_key: str | None = None) -> None:
    """Check a `#commit` frame of the account `did` as a strict relay does; with `did_key` also the signature.

    Decodes it, compares every block with its CID, compares did and rev with the signed commit, looks for each written
    record, and undoes the operations in the partial tree, which must give prevData (the empty tree for a first commit).
    That header and body are canonical DAG-CBOR is not looked at: decode_frame does, at three times the cost.
    Raises InversionFailed if they do not, other BadInput for every other fault.
    """
    if not frame.startswith(_COMMIT_HEADER):
        raise BadCommit("frame is not a commit event")
    event = parse_commit(dag_cbor.decode_own(frame[len(_COMMIT_HEADER) :]))
    root, blocks = read_car(event.blocks)
    commit = decode_commit(blocks.get(event.commit, b""))
    if root != event.commit or commit.did != did or event.repo != did or commit.rev != event.rev:
        raise BadCommit("commit event contradicts its signed commit")
    if did_key is not None:
        verify_commit(commit, did_key)
    for op in event.ops:
        if op.cid is not None and op.cid not in blocks:
            raise BadCommit(f"commit event does not bring the record {op.path!r}")
    if event.since is not None and event.prev_data is None:
        raise BadCommit("commit event has no prevData")
    if invert(event.ops, blocks, commit.data) != (event.prev_data or EMPTY.cid):
        raise InversionFailed("undoing the operations does not give the tree before")
