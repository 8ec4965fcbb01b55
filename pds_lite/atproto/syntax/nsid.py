"""NSID syntax (specs/nsid): a domain in reverse, then a name; it names a lexicon, a collection or a method."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Nsid = NewType("Nsid", str)

MAX_NSID = 317
"""A host name of 253, a dot, a name of 63. Only the sum is checked: the interop vectors hold longer host names."""
_NSID = re.compile(
    r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
    r"\.[a-zA-Z][a-zA-Z0-9]{0,62}",
    re.ASCII,
)


def is_nsid(raw: str) -> bool:
    """True for a syntactically valid NSID."""
    return len(raw) <= MAX_NSID and _NSID.fullmatch(raw) is not None


def parse_nsid(raw: str) -> Nsid:
    """Raises BadSyntax."""
    if not is_nsid(raw):
        raise BadSyntax(f"not an NSID: {raw[:80]!r}")
    return Nsid(raw)


def nsid_authority(nsid: Nsid) -> str:
    """The domain that governs an NSID, in lower case: `com.example.fooBar` belongs to `example.com`."""
    return ".".join(reversed(nsid.split(".")[:-1])).lower()
