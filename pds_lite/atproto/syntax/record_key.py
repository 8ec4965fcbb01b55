"""Record key syntax (specs/record-key): the last part of a record's path."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

RecordKey = NewType("RecordKey", str)

_RECORD_KEY = re.compile(r"[a-zA-Z0-9_~.:-]{1,512}", re.ASCII)


def is_record_key(raw: str) -> bool:
    """True for the general form; a lexicon may narrow it (tid, nsid, one literal)."""
    return _RECORD_KEY.fullmatch(raw) is not None and raw not in (".", "..")


def parse_record_key(raw: str) -> RecordKey:
    """Raises BadSyntax."""
    if not is_record_key(raw):
        raise BadSyntax(f"not a record key: {raw[:80]!r}")
    return RecordKey(raw)
