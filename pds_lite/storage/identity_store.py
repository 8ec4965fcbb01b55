"""What the box remembers of its account's did:plc: which operations it made, how far the log was judged, and alarms.

One small row. An operation is noted here before it goes to the directory, so that whatever the log shows and this row
does not know was made by somebody else. Everything is bounded; what it means is the services' business.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pds_lite.atproto import dag_cbor
from pds_lite.storage.account_store import decode_row
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_MADE = 64
"""Operations of ours that the log has not shown yet: more than a directory takes in a week."""
MAX_ALARMS = 16
_PLC = b"plc"


@dataclass(frozen=True, slots=True)
class PlcAlarm:
    """An operation in the log that this box did not make. Times are seconds since the epoch."""

    cid: str
    created: int
    """When the directory took it."""
    signer: str
    """did:key."""
    undo_keys: tuple[str, ...]
    """Rotation keys with the authority to take it back, for 72 hours from `created`."""
    changes: tuple[str, ...]
    """What it changed, in words."""


@dataclass(frozen=True, slots=True)
class PlcRow:
    """`judged` entries of the log, the last of which is `last_cid`, are known to be right or have raised their alarm.

    Without a baseline the next log seen becomes it: the account moved in with a history of its own.
    """

    baseline: bool = False
    judged: int = 0
    last_cid: str = ""
    made: tuple[str, ...] = ()
    """CIDs of operations of ours that the log has not shown yet."""
    alarms: tuple[PlcAlarm, ...] = ()
    trouble: str = ""
    """What was wrong with the log itself at the last look."""
    recovery_key: str = ""
    """did:key that the owner named when the account moved in."""
    last_op: bytes = b""
    """The operation in force at the last look, or the last one of ours that was published, as DAG-CBOR."""


def get_plc(txn: "Txn") -> PlcRow:
    """The row, an empty one if there is none."""
    value = txn.get(Table.IDENTITY, _PLC)
    if value is None:
        return PlcRow()
    row = decode_row(PlcRow, value)
    stored: Any = row.alarms
    alarms = (decode_row(PlcAlarm, dag_cbor.encode(alarm)) for alarm in stored)
    return replace(
        row,
        made=tuple(row.made),
        alarms=tuple(
            replace(alarm, undo_keys=tuple(alarm.undo_keys), changes=tuple(alarm.changes)) for alarm in alarms
        ),
    )


def put_plc(txn: "WriteTxn", row: PlcRow) -> None:
    """Store the row; the oldest of what is over its bound goes."""
    bounded = replace(row, made=row.made[-MAX_MADE:], alarms=row.alarms[-MAX_ALARMS:])
    value = asdict(bounded)
    for name in ("made", "alarms"):
        value[name] = list(value[name])
    for alarm in value["alarms"]:
        alarm["undo_keys"], alarm["changes"] = list(alarm["undo_keys"]), list(alarm["changes"])
    txn.put(Table.IDENTITY, _PLC, dag_cbor.encode(value))


def note_made(txn: "WriteTxn", cid: str) -> None:
    """Remember `cid` as ours: it is about to be published, or was signed for the owner to publish."""
    row = get_plc(txn)
    if cid not in row.made:
        put_plc(txn, replace(row, made=(*row.made, cid)))


def begin(txn: "WriteTxn", genesis_cid: str) -> None:
    """The identity begins here, with this operation: every other one in its log must be ours, too."""
    put_plc(txn, PlcRow(baseline=True, made=(genesis_cid,)))


def forget(txn: "WriteTxn") -> None:
    """The account is gone."""
    txn.delete(Table.IDENTITY, _PLC)
