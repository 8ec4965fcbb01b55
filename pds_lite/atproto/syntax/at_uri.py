"""AT URI syntax (specs/at-uri-scheme), the strict form that lexicons use: no query, no fragment, no trailing slash."""

from dataclasses import dataclass

from pds_lite.atproto.syntax.at_identifier import AtIdentifier, is_at_identifier, parse_at_identifier
from pds_lite.atproto.syntax.nsid import Nsid, is_nsid, parse_nsid
from pds_lite.atproto.syntax.record_key import RecordKey, is_record_key, parse_record_key
from pds_lite.errors import BadSyntax

MAX_AT_URI = 8192
_SCHEME = "at://"


@dataclass(frozen=True, slots=True)
class AtUri:
    """A repository, a collection in it, or a record; str() gives the URI back."""

    authority: AtIdentifier
    collection: Nsid | None = None
    rkey: RecordKey | None = None

    def __str__(self) -> str:
        return _SCHEME + "/".join(part for part in (self.authority, self.collection, self.rkey) if part is not None)


def is_at_uri(raw: str) -> bool:
    """True for a strict AT URI."""
    if len(raw) > MAX_AT_URI or not raw.startswith(_SCHEME):
        return False
    parts = raw[5:].split("/", 3)
    return (
        len(parts) <= 3
        and is_at_identifier(parts[0])
        and (len(parts) < 2 or is_nsid(parts[1]))
        and (len(parts) < 3 or is_record_key(parts[2]))
    )


def parse_at_uri(raw: str) -> AtUri:
    """The parts; a handle comes out in lower case. Raises BadSyntax."""
    parts = raw[5:].split("/", 3)
    if len(raw) > MAX_AT_URI or not raw.startswith(_SCHEME) or len(parts) > 3:
        raise BadSyntax(f"not an AT URI: {raw[:80]!r}")
    return AtUri(
        parse_at_identifier(parts[0]),
        parse_nsid(parts[1]) if len(parts) > 1 else None,
        parse_record_key(parts[2]) if len(parts) > 2 else None,
    )
