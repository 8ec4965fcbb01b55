"""The format number of the store and the steps between formats: numbered, forward only, each in one transaction.

A change of any key or value layout raises FORMAT and adds the function that brings the previous format to it. A store
of a newer format is refused, since an older program would misread it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pds_lite.errors import StoreBroken
from pds_lite.storage.keys import META_FORMAT, Table

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

FORMAT = 1
MIGRATIONS: "dict[int, Callable[[WriteTxn], None]]" = {}
"""Number of the format a function leads to -> the function. Format 1 is the base and needs none."""


def read_format(txn: "Txn") -> int:
    """The format number of the store, 0 for an empty one. Raises StoreBroken for a newer one."""
    stored = txn.get(Table.META, META_FORMAT)
    number = int.from_bytes(stored, "big") if stored is not None else 0
    if number > FORMAT:
        raise StoreBroken(
            f"the store has format {number}, this pds-lite knows formats up to {FORMAT}",
            hint="Install the newer pds-lite that wrote it.",
        )
    return number


def next_step(number: int) -> "Callable[[WriteTxn], None] | None":
    """What brings a store of format `number` one step on, None if it is current."""
    if number >= FORMAT:
        return None
    step = MIGRATIONS.get(number + 1)

    def run(txn: "WriteTxn") -> None:
        if step is not None:
            step(txn)
        txn.put(Table.META, META_FORMAT, (number + 1).to_bytes(2, "big"))

    return run
