"""What signing in needs beside the password: the second factor, passkeys, and the log of who tried.

Everything is bounded and small. The shared secret of TOTP lies here as it is, since codes are computed from it;
recovery codes lie here as digests (50 random bits each, of use only together with the password).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from pds_lite.atproto import dag_cbor
from pds_lite.errors import StoreBroken, TooLarge
from pds_lite.storage.account_store import decode_row, encode_row
from pds_lite.storage.keys import Table, key_after

if TYPE_CHECKING:
    from pds_lite.storage.store import Txn, WriteTxn

MAX_PASSKEYS = 20
MAX_ATTEMPTS = 200
_TOTP = b"totp"
_RECOVERY = b"recovery"
_KNOWN = b"known"
_PASSKEY = b"passkey/"
_ATTEMPT = b"attempt/"


@dataclass(frozen=True, slots=True)
class Totp:
    """The secret shared with an authenticator app; `last_step` is the time step of the last code that was taken."""

    secret: bytes
    created_us: int
    last_step: int = 0


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey: its id, its public key as COSE bytes, the name its owner gave it, and its signature counter."""

    id: bytes
    credential: bytes
    name: str
    created_us: int
    used_us: int = 0
    counter: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Attempts to sign in that differ only in their time; `count` of them, the last at `time_us`.

    `way` is "app", "page", "oauth" or "passkey"; `client` is what says it asks (a User-Agent, or an OAuth client_id);
    `reason` is a sentence, "" for an attempt that was let in.
    """

    time_us: int
    way: str
    client: str
    address: str
    name: str
    reason: str
    count: int = 1


def get_totp(txn: "Txn") -> Totp | None:
    """None while there is no second factor."""
    value = txn.get(Table.SIGN_IN, _TOTP)
    return None if value is None else decode_row(Totp, value)


def put_totp(txn: "WriteTxn", totp: Totp | None) -> None:
    """Store it; None takes it away."""
    if totp is None:
        txn.delete(Table.SIGN_IN, _TOTP)
    else:
        txn.put(Table.SIGN_IN, _TOTP, encode_row(totp))


def get_recovery_codes(txn: "Txn") -> list[bytes]:
    """Digests of the recovery codes not used yet."""
    return _bytes_list(txn.get(Table.SIGN_IN, _RECOVERY))


def put_recovery_codes(txn: "WriteTxn", digests: Sequence[bytes]) -> None:
    """Store the digests in place of all earlier ones."""
    txn.put(Table.SIGN_IN, _RECOVERY, dag_cbor.encode(list(digests)))


def list_passkeys(txn: "Txn") -> list[Passkey]:
    """All passkeys, oldest first."""
    rows = [decode_row(Passkey, value) for _key, value in txn.scan(Table.SIGN_IN, _PASSKEY, key_after(_PASSKEY))]
    return sorted(rows, key=lambda row: row.created_us)


def put_passkey(txn: "WriteTxn", passkey: Passkey) -> None:
    """Store a passkey under its id. Raises TooLarge over MAX_PASSKEYS."""
    key = _passkey_key(passkey.id)
    if txn.get(Table.SIGN_IN, key) is None and len(list_passkeys(txn)) >= MAX_PASSKEYS:
        raise TooLarge(f"there are at most {MAX_PASSKEYS} passkeys")
    txn.put(Table.SIGN_IN, key, encode_row(passkey))


def delete_passkey(txn: "WriteTxn", passkey_id: bytes) -> bool:
    """True if it was there."""
    return txn.delete(Table.SIGN_IN, _passkey_key(passkey_id))


def list_attempts(txn: "Txn") -> Iterator[Attempt]:
    """The log, oldest first."""
    for _key, value in txn.scan(Table.SIGN_IN, _ATTEMPT, key_after(_ATTEMPT)):
        yield decode_row(Attempt, value)


def put_attempts(txn: "WriteTxn", attempts: Sequence[Attempt]) -> None:
    """Store the log in place of the one before; rows that did not change are not written again."""
    for number, attempt in enumerate(attempts[-MAX_ATTEMPTS:]):
        key, value = _ATTEMPT + number.to_bytes(2, "big"), encode_row(attempt)
        if txn.get(Table.SIGN_IN, key) != value:
            txn.put(Table.SIGN_IN, key, value)


def get_known_addresses(txn: "Txn") -> list[str]:
    """Addresses that signed in before, the latest last."""
    value = txn.get(Table.SIGN_IN, _KNOWN)
    return [raw.decode() for raw in _bytes_list(value)]


def put_known_addresses(txn: "WriteTxn", addresses: Sequence[str]) -> None:
    """Store the list in place of the one before."""
    txn.put(Table.SIGN_IN, _KNOWN, dag_cbor.encode([address.encode() for address in addresses]))


def forget_all(txn: "WriteTxn") -> None:
    """The account is gone: no factor, no passkey, no log."""
    for key, _value in list(txn.scan(Table.SIGN_IN)):
        txn.delete(Table.SIGN_IN, key)


def _bytes_list(value: bytes | None) -> list[bytes]:
    if value is None:
        return []
    decoded = dag_cbor.decode_own(value)
    if not isinstance(decoded, list) or not all(type(item) is bytes for item in decoded):
        raise StoreBroken("a stored list of the sign-in does not have the form of one")
    return [item for item in decoded if isinstance(item, bytes)]


def _passkey_key(passkey_id: bytes) -> bytes:
    """An id has up to 1023 bytes, a key 511."""
    return _PASSKEY + sha256(passkey_id).digest()
