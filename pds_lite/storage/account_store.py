"""The one account's row, its preferences, app passwords, pending codes and the claim on an empty box.

Values are DAG-CBOR maps by field name, so that a later field with a default needs no migration. Everything is bounded:
one account, one code per purpose, and limits where a stranger's request could add rows. Secrets lie here as hashes;
codes also sealed, since the owner must be able to read them at the box (it may have no e-mail).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pds_lite.atproto import dag_cbor
from pds_lite.errors import BadData, StoreBroken, TooLarge
from pds_lite.storage.keys import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pds_lite.storage.store import Txn, WriteTxn

    RowT = TypeVar("RowT", bound=DataclassInstance)
else:
    RowT = TypeVar("RowT")

MAX_PREFERENCES_BYTES = 1_000_000
MAX_APP_PASSWORDS = 500
MAX_CODES = 64
_ACCOUNT = b"account"
_PREFERENCES = b"preferences"
_CLAIM = b"claim"


@dataclass(frozen=True, slots=True)
class Account:
    """The account. `status` is "active", "deactivated" or "takendown" (by the administrator; `status_before` is what it
    was then, `takedown_ref` the reason given); `plc_op` is a signed genesis not yet published, or a list of operations
    that begins with it. Times are microseconds since the epoch, 0 for what is not so.
    """

    did: str
    handle: str
    email: str
    email_confirmed: bool
    password_hash: str
    status: str
    created_us: int
    plc_op: bytes | None = None
    status_before: str = ""
    takedown_ref: str = ""
    email_confirmed_us: int = 0
    deactivated_us: int = 0

    def with_email(self, email: str, confirmed_us: int = 0) -> "Account":
        """The account with this address, confirmed at that time or not at all."""
        return replace(self, email=email, email_confirmed=confirmed_us > 0, email_confirmed_us=confirmed_us)


@dataclass(frozen=True, slots=True)
class AppPassword:
    """An app password, by a digest of its text."""

    name: str
    hash: bytes
    privileged: bool
    created_us: int


@dataclass(frozen=True, slots=True)
class PendingCode:
    """A code the owner is to type: a digest to check it by, and the code itself sealed by the box's keys."""

    purpose: str
    created_us: int
    expires_us: int
    attempts: int = 0
    digest: bytes = b""
    sealed: bytes = b""
    """Both empty in a row of an older version, which is good for nothing."""


def encode_row(row: "DataclassInstance") -> bytes:
    """The stored form of a flat dataclass."""
    return dag_cbor.encode(asdict(row))


def decode_row(kind: type[RowT], value: bytes) -> RowT:
    """The inverse of encode_row; fields that are not stored take their default. Raises StoreBroken."""
    try:
        stored = cast("dict[str, Any]", dag_cbor.decode_own(value))
        names = {field.name for field in fields(kind)}
        return kind(**{name: content for name, content in stored.items() if name in names})
    except (BadData, TypeError, AttributeError):
        raise StoreBroken(f"a stored {kind.__name__} does not have the form of one") from None


def get_account(txn: "Txn") -> Account | None:
    """The account, None on an empty box."""
    value = txn.get(Table.ACCOUNT, _ACCOUNT)
    return None if value is None else decode_row(Account, value)


def put_account(txn: "WriteTxn", account: Account) -> None:
    """Store the account's row."""
    txn.put(Table.ACCOUNT, _ACCOUNT, encode_row(account))


def get_preferences(txn: "Txn") -> bytes | None:
    """The preferences as their owner stored them (JSON), None if never."""
    return txn.get(Table.ACCOUNT, _PREFERENCES)


def put_preferences(txn: "WriteTxn", preferences: bytes) -> None:
    """Raises TooLarge over MAX_PREFERENCES_BYTES."""
    if len(preferences) > MAX_PREFERENCES_BYTES:
        raise TooLarge(f"preferences have at most {MAX_PREFERENCES_BYTES} bytes")
    txn.put(Table.ACCOUNT, _PREFERENCES, preferences)


def get_claim(txn: "Txn") -> bytes | None:
    """What an empty box compares a claim code with, None if it takes no account."""
    return txn.get(Table.ACCOUNT, _CLAIM)


def put_claim(txn: "WriteTxn", claim: bytes) -> None:
    """Let the first account be made with this claim."""
    txn.put(Table.ACCOUNT, _CLAIM, claim)


def delete_claim(txn: "WriteTxn") -> None:
    """The claim is spent."""
    txn.delete(Table.ACCOUNT, _CLAIM)


def list_app_passwords(txn: "Txn") -> Iterator[AppPassword]:
    """All app passwords, in no order."""
    for _key, value in txn.scan(Table.APP_PASSWORDS):
        yield decode_row(AppPassword, value)


def put_app_password(txn: "WriteTxn", row: AppPassword) -> None:
    """Store an app password in place of the one of its name. Raises TooLarge over MAX_APP_PASSWORDS."""
    key = _name_key(row.name)
    if txn.count(Table.APP_PASSWORDS) >= MAX_APP_PASSWORDS and txn.get(Table.APP_PASSWORDS, key) is None:
        raise TooLarge(f"there are at most {MAX_APP_PASSWORDS} app passwords")
    txn.put(Table.APP_PASSWORDS, key, encode_row(row))


def delete_app_password(txn: "WriteTxn", name: str) -> bool:
    """True if there was one of that name."""
    return txn.delete(Table.APP_PASSWORDS, _name_key(name))


def get_code(txn: "Txn", purpose: str) -> PendingCode | None:
    """The pending code for a purpose, expired or not."""
    value = txn.get(Table.CODES, purpose.encode())
    return None if value is None else decode_row(PendingCode, value)


def put_code(txn: "WriteTxn", code: PendingCode) -> None:
    """Store a code in place of the one pending for its purpose. Raises TooLarge over MAX_CODES purposes."""
    if txn.count(Table.CODES) >= MAX_CODES and get_code(txn, code.purpose) is None:
        raise TooLarge(f"there are at most {MAX_CODES} pending codes")
    txn.put(Table.CODES, code.purpose.encode(), encode_row(code))


def delete_code(txn: "WriteTxn", purpose: str) -> bool:
    """True if one was pending."""
    return txn.delete(Table.CODES, purpose.encode())


def list_codes(txn: "Txn") -> Iterator[PendingCode]:
    """All pending codes, expired ones too."""
    for _key, value in txn.scan(Table.CODES):
        yield decode_row(PendingCode, value)


def _name_key(name: str) -> bytes:
    """A name may be empty or longer than a key, so its digest stands for it."""
    return sha256(name.encode("utf-8", "surrogatepass")).digest()
