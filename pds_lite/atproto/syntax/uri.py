"""URI syntax as lexicons check it (specs/lexicon): a scheme and something behind it, without spaces, at most 8 KiB."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Uri = NewType("Uri", str)

MAX_URI = 8192
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,80}:[^\s\x00-\x1f\x7f]+")


def is_uri(raw: str) -> bool:
    """True for any scheme; letters beyond ASCII pass, since clients do not escape them."""
    return _URI.fullmatch(raw) is not None and (len(raw) <= MAX_URI // 4 or len(raw.encode()) <= MAX_URI)


def parse_uri(raw: str) -> Uri:
    """Raises BadSyntax."""
    if not is_uri(raw):
        raise BadSyntax(f"not a URI: {raw[:80]!r}")
    return Uri(raw)
