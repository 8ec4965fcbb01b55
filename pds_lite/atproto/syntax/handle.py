"""Handle syntax (specs/handle): a host name of ASCII labels, and the top-level domains that nobody may use."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Handle = NewType("Handle", str)

MAX_HANDLE = 253
_HANDLE = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", re.ASCII
)
_RESERVED = frozenset(("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion"))


def is_handle(raw: str) -> bool:
    """True for a handle in any case; reserved domains are a matter of policy, not of syntax."""
    return len(raw) <= MAX_HANDLE and _HANDLE.fullmatch(raw) is not None


def parse_handle(raw: str) -> Handle:
    """The handle in lower case, its normal form. Raises BadSyntax."""
    if not is_handle(raw):
        raise BadSyntax(f"not a handle: {raw[:80]!r}", error="InvalidHandle")
    return Handle(raw.lower())


def is_reserved_handle(handle: Handle, dev: bool = False) -> bool:
    """True if the top-level domain can never be looked up, so the handle must be neither taken nor resolved.

    `.test` is for development: reserved unless `dev`.
    """
    domain = handle.rpartition(".")[2]
    return domain in _RESERVED or (domain == "test" and not dev)
