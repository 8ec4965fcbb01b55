"""datetime syntax (specs/lexicon): what RFC 3339, ISO 8601 and HTML all accept, with capitals, seconds and a zone."""

import re
from typing import NewType

from pds_lite.errors import BadSyntax

Datetime = NewType("Datetime", str)

MAX_DATETIME = 64
_DATETIME = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):([0-5][0-9]):[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|(?!-00:00)([+-])([01][0-9]|2[0-3]):([0-5][0-9]))",
    re.ASCII,
)
_LONG_MONTHS = frozenset(("01", "03", "05", "07", "08", "10", "12"))


def is_datetime(raw: str) -> bool:
    """True for a moment that exists: correct form, a day that its month has, not before the year 0 in UTC."""
    match = _DATETIME.fullmatch(raw) if len(raw) <= MAX_DATETIME else None
    if match is None:
        return False
    year, month, day, hour, minute, sign, zone_hour, zone_minute = match.groups()
    if day > "28" and not _has_day(int(year), month, int(day)):
        return False
    # Only the first day of the year 0 can lie before it in UTC, in a zone ahead of UTC.
    return not (raw.startswith("0000-01-01") and sign == "+" and (hour, minute) < (zone_hour, zone_minute))


def parse_datetime(raw: str) -> Datetime:
    """Raises BadSyntax."""
    if not is_datetime(raw):
        raise BadSyntax(f"not a datetime: {raw[:80]!r}")
    return Datetime(raw)


def _has_day(year: int, month: str, day: int) -> bool:
    if month == "02":
        return day == 29 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= 30 or month in _LONG_MONTHS
