"""What a box says of itself on the LAN, signed by its Ed25519 key, and what a listener may believe of it.

Pure: no sockets. The claim is the TXT record: `did`, `handle`, `version`, `claimed` (yes/no), `key` (the box's public
key), `fp` (its fingerprint, for people to compare), `addr` (the addresses it answers on) and `sig`. The signature
covers all of them and the instance name, host name and port, so a copied record does not work from another address and
a changed one does not verify. What a signature cannot say is whose key it is: a listener remembers the first
fingerprint it saw for a DID, as ssh does, and warns about another.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pds_lite.atproto.crypto.ed25519 import fingerprint, verify_ed25519

_CONTEXT = b"pds-lite LAN claim 1"
_MAX_TXT = 1300
"""Bytes of TXT data accepted; a DNS-SD record should fit one packet."""
_SIGNED = ("did", "handle", "version", "claimed", "key", "fp", "addr")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who the box is: `did` and `handle` are empty while nobody has moved in."""

    did: str
    handle: str
    version: str

    @property
    def claimed(self) -> bool:
        return bool(self.did)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a claim was announced: DNS-SD instance, host name (both with the trailing dot), port, addresses as text."""

    instance: str
    host: str
    port: int
    addresses: tuple[str, ...]


def host_suffix(did: str, public_key: bytes) -> str:
    """Six letters or digits of the DID's own part; of the fingerprint while there is no DID or it has too few."""
    own = "".join(letter for letter in did.rpartition(":")[2].lower() if letter.isascii() and letter.isalnum())
    return own[:6] if len(own) >= 6 else fingerprint(public_key)[:6]


def txt_record(claim: Claim, place: Place, public_key: bytes, sign: Callable[[bytes], bytes]) -> dict[str, str]:
    """The signed TXT record of a box at a place. `sign` gives the 64-byte Ed25519 signature of a message."""
    record = {
        "did": claim.did,
        "handle": claim.handle,
        "version": claim.version,
        "claimed": "yes" if claim.claimed else "no",
        "key": _b64(public_key),
        "fp": fingerprint(public_key),
        "addr": ",".join(place.addresses),
    }
    return record | {"sig": _b64(sign(_message(record, place)))}


def check(record: Mapping[str, str], place: Place) -> str:
    """`""` if the box holding the key signed this record for this place, else what is wrong, as a clause for people."""
    if sum(len(key) + len(value) for key, value in record.items()) > _MAX_TXT:
        return "its record is too large"
    if any(key not in record for key in (*_SIGNED, "sig")):
        return "its record is incomplete"
    try:
        public_key, signature = _unb64(record["key"]), _unb64(record["sig"])
    except ValueError:
        return "its key or signature does not parse"
    if fingerprint(public_key) != record["fp"]:
        return "its fingerprint is not that of its key"
    if not verify_ed25519(public_key, _message(record, place), signature):
        return "its signature is wrong"
    if not set(place.addresses) & set(record["addr"].split(",")):
        return "it answers from an address that it did not sign"
    return ""


def _message(record: Mapping[str, str], place: Place) -> bytes:
    parts = [_CONTEXT, place.instance.encode(), place.host.lower().encode(), str(place.port).encode()]
    return b"\0".join(parts + [f"{key}={record[key]}".encode() for key in _SIGNED])


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
