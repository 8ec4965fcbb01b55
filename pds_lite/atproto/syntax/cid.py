"""CID syntax for the lexicon format `cid` (specs/lexicon): any text that could be a CID of version 1.

Deliberately loose, as the interop vectors are: a record may mention CIDs of bases and hash functions that this server
never makes. Links, which must work, are parsed by `pds_lite.atproto.cid` instead.
"""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

CidText = NewType("CidText", str)

_CID = re.compile(r"(?!Qmb)[a-zA-Z0-9+=]{8,256}", re.ASCII)


def is_cid(raw: str) -> bool:
    """True for a text of the letters, length and version that a CID may have."""
    return _CID.fullmatch(raw) is not None


def parse_cid(raw: str) -> CidText:
    """Raises BadSyntax."""
    if not is_cid(raw):
        raise BadSyntax(f"not a CID: {raw[:80]!r}")
    return CidText(raw)
