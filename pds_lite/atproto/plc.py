"""did:plc operations: make, sign, hash, check, and replay a whole log (did-method-plc v0.3).

An operation is the JSON object that the directory takes, as a dict. It is signed and hashed as DAG-CBOR; `prev` is a
CID as text there, not a link. Rotation keys are listed by authority: one that stands earlier may within 72 hours undo
what a later one signed. Knows no directory and no clock; times come from the audit log itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.base64url import decode_base64url, encode_base64url
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.crypto import PrivateKey, parse_did_key, verify
from pds_lite.atproto.multibase import encode_base32
from pds_lite.errors import BadData, BadInput, BadKey, PdsError

Operation = Mapping[str, Any]

MAX_OPERATION = 7500
"""Bytes of DAG-CBOR."""
MAX_ROTATION_KEYS = 5
RECOVERY_WINDOW_S = 72 * 3600
PDS_SERVICE = "atproto_pds"
PDS_TYPE = "AtprotoPersonalDataServer"

_OPERATION_FIELDS = {"type", "rotationKeys", "verificationMethods", "alsoKnownAs", "services", "prev", "sig"}
_TOMBSTONE_FIELDS = {"type", "prev", "sig"}
_CREATE_FIELDS = {"type", "signingKey", "recoveryKey", "handle", "service", "prev", "sig"}


def genesis(rotation_keys: Sequence[str], signing_did_key: str, handle: str, endpoint: str) -> dict[str, Any]:
    """The unsigned first operation of a new identity. `rotation_keys` by authority, the owner's recovery key first."""
    return {
        "type": "plc_operation",
        "rotationKeys": list(rotation_keys),
        "verificationMethods": {"atproto": signing_did_key},
        "alsoKnownAs": [f"at://{handle}"],
        "services": {PDS_SERVICE: {"type": PDS_TYPE, "endpoint": endpoint}},
        "prev": None,
    }


def update(last: Operation, changes: Operation) -> dict[str, Any]:
    """The unsigned operation after `last` (signed), with the fields of `changes` in place of its own."""
    fields = {name: value for name, value in normalized(last).items() if name != "sig"}
    return {**fields, **changes, "prev": str(op_cid(last))}


def tombstone(last: Operation) -> dict[str, Any]:
    """The unsigned operation that ends the identity for good (or for 72 hours, to a key with more authority)."""
    return {"type": "plc_tombstone", "prev": str(op_cid(last))}


def sign_op(op: Operation, key: PrivateKey) -> dict[str, Any]:
    """`op` with its signature, checked as `check_op` does. Raises BadInput."""
    signed = {**op, "sig": encode_base64url(key.sign(_unsigned_bytes(op)))}
    check_op(signed)
    return signed


def did_of(op: Operation) -> str:
    """The did:plc that a signed genesis operation makes."""
    return "did:plc:" + encode_base32(Cid.of_cbor(dag_cbor.encode(dict(op))).digest)[1:25]


def op_cid(op: Operation) -> Cid:
    """The CID of a signed operation: what the next one names in `prev`."""
    return Cid.of_cbor(dag_cbor.encode(dict(op)))


def verify_op(op: Operation, rotation_keys: Sequence[str]) -> str:
    """The did:key among `rotation_keys` that signed `op`. Raises BadKey: high-S and odd base64 are no signatures."""
    try:
        signature = decode_base64url(op["sig"])
    except BadData:
        raise BadKey("the operation's sig is not canonical base64url") from None
    message = _unsigned_bytes(op)
    for did_key in rotation_keys:
        if verify(did_key, message, signature):
            return did_key
    raise BadKey("the operation is signed by none of the rotation keys")


def check_op(op: Operation) -> None:
    """The shape of a signed operation or tombstone. Raises BadInput with what is wrong."""
    kind = op.get("type")
    if kind == "create":
        _check_create(op)
    elif kind == "plc_tombstone":
        _expect(set(op) == _TOMBSTONE_FIELDS and isinstance(op["prev"], str), "a tombstone has type, prev and sig")
    elif kind == "plc_operation":
        _check_operation(op)
    else:
        raise BadInput("not a PLC operation: unknown type")
    _expect(isinstance(op["sig"], str), "sig is text")
    _expect(len(dag_cbor.encode(dict(op))) <= MAX_OPERATION, f"an operation is at most {MAX_OPERATION} bytes")


def normalized(op: Operation) -> dict[str, Any]:
    """`op`, or the plc_operation that a legacy `create` stands for. Its CID and signature stay those of `op`."""
    if op["type"] != "create":
        return dict(op)
    handle = op["handle"].removeprefix("https://").removeprefix("http://").removeprefix("at://")
    service = op["service"]
    endpoint = service if service.startswith(("http://", "https://")) else f"https://{service}"
    return {**genesis([op["recoveryKey"], op["signingKey"]], op["signingKey"], handle, endpoint), "sig": op["sig"]}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An operation that the directory accepted."""

    op: dict[str, Any]
    cid: str
    created: float
    """When the directory took it, seconds since the epoch."""
    signer: str
    """The did:key, one of the rotation keys before it (of its own for a genesis), that signed it."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome of an audit log that holds together."""

    did: str
    entries: tuple[LogEntry, ...]
    """Those in force, oldest first."""
    log: tuple[LogEntry, ...]
    """All of them, undone ones too, in the order of the directory."""

    @property
    def operations(self) -> tuple[dict[str, Any], ...]:
        """The operations in force, oldest first, as they were signed."""
        return tuple(entry.op for entry in self.entries)

    @property
    def last(self) -> dict[str, Any]:
        """The signed operation that the next one must name in `prev`."""
        return self.entries[-1].op

    @property
    def is_tombstoned(self) -> bool:
        return bool(self.last["type"] == "plc_tombstone")

    @property
    def state(self) -> dict[str, Any]:
        """The identity's fields as plc_operation; of a tombstoned one, those before the end."""
        return normalized(self.entries[-2].op if self.is_tombstoned else self.last)


def audit(did: str, log: Sequence[Mapping[str, Any]]) -> Audit:
    """Replays an audit log: DID, hashes, order, signatures, forks within 72 hours, and the `nullified` marks.

    `log` is what /{did}/log/audit answers. Raises BadInput with the first entry that is wrong, counted from 1.
    """
    _expect(bool(log), "the log is empty")
    in_force: list[LogEntry] = []
    everything: list[LogEntry] = []
    for number, raw in enumerate(log, 1):
        try:
            _expect(isinstance(raw, dict), "not an object")
            in_force = _accept(did, in_force, raw)
        except PdsError as problem:
            raise BadInput(f"audit log of {did}, entry {number}: {problem.message}") from None
        everything.append(in_force[-1])
    kept = {entry.cid for entry in in_force}
    for number, raw in enumerate(log, 1):
        if raw.get("nullified") is not (raw["cid"] not in kept):
            raise BadInput(f"audit log of {did}, entry {number}: wrong nullified mark")
    return Audit(did, tuple(in_force), tuple(everything))


def _accept(did: str, entries: list[LogEntry], raw: Mapping[str, Any]) -> list[LogEntry]:
    """The entries in force after this one of the log. Raises BadInput or BadKey."""
    op = raw.get("operation")
    _expect(isinstance(op, dict) and raw.get("did") == did, "not an entry of this identity")
    assert isinstance(op, dict)
    check_op(op)
    cid = str(op_cid(op))
    _expect(raw.get("cid") == cid, "the operation does not hash to its CID")
    created = _seconds(raw.get("createdAt"))
    if not entries:
        _expect(op["type"] != "plc_tombstone" and op["prev"] is None, "the first operation has a predecessor")
        _expect(did_of(op) == did, "the first operation does not hash to the DID")
        return [LogEntry(op, cid, created, verify_op(op, normalized(op)["rotationKeys"]))]
    _expect(op["type"] != "create", "a legacy create comes first or never")
    position = next((i for i, entry in enumerate(entries) if entry.cid == op["prev"]), None)
    if position is None:
        raise BadInput("prev names no operation in force")
    kept, undone = entries[: position + 1], entries[position + 1 :]
    _expect(kept[-1].op["type"] != "plc_tombstone", "nothing follows a tombstone")
    keys = normalized(kept[-1].op)["rotationKeys"]
    if undone:
        # Undoing takes a key of more authority than the one that signed the first operation undone, and haste.
        keys = keys[: keys.index(undone[0].signer)]
        _expect(created - undone[0].created <= RECOVERY_WINDOW_S, "undoes an operation older than 72 hours")
    return [*kept, LogEntry(op, cid, created, verify_op(op, keys))]


def _check_operation(op: Operation) -> None:
    _expect(set(op) == _OPERATION_FIELDS, "a plc_operation has exactly its seven fields")
    _expect(op["prev"] is None or isinstance(op["prev"], str), "prev is null or the text of a CID")
    keys = op["rotationKeys"]
    _expect(_is_texts(keys) and 1 <= len(keys) <= MAX_ROTATION_KEYS, "there are one to five rotation keys")
    _expect(len(set(keys)) == len(keys), "a rotation key is listed twice")
    for key in keys:
        parse_did_key(key)
    methods = op["verificationMethods"]
    _expect(
        isinstance(methods, dict) and _is_texts(list(methods.values())), "verificationMethods maps names to did:keys"
    )
    _expect(all(key.startswith("did:key:z") for key in methods.values()), "a verification method is a did:key")
    _expect(_is_texts(op["alsoKnownAs"]), "alsoKnownAs is a list of texts")
    services = op["services"]
    _expect(isinstance(services, dict) and all(map(_is_service, services.values())), "a service has type and endpoint")


def _check_create(op: Operation) -> None:
    _expect(set(op) == _CREATE_FIELDS and op["prev"] is None, "a legacy create has exactly its seven fields, prev null")
    _expect(
        _is_texts([op["signingKey"], op["recoveryKey"], op["handle"], op["service"]]), "a legacy create is all text"
    )
    parse_did_key(op["signingKey"])
    parse_did_key(op["recoveryKey"])


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_service(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"type", "endpoint"} and _is_texts(list(value.values()))


def _expect(truth: bool, message: str) -> None:
    if not truth:
        raise BadInput(message)


def _seconds(created_at: object) -> float:
    try:
        moment = datetime.fromisoformat(created_at) if isinstance(created_at, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadInput("createdAt is no time with a zone")
    return moment.timestamp()


def _unsigned_bytes(op: Operation) -> bytes:
    return dag_cbor.encode({name: value for name, value in op.items() if name != "sig"})
