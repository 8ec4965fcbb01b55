import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.syntax import is_datetime


@given(
    st.datetimes(
        timezones=st.one_of(
            st.just(datetime.UTC),
            st.integers(-1439, 1439).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))),
        )
    )
)
def test_every_moment_that_python_knows_passes(moment: datetime.datetime) -> None:
    assert is_datetime(moment.isoformat().replace("+00:00", "Z"))


@given(
    st.integers(0, 9999),
    st.integers(0, 13),
    st.integers(0, 32),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
)
def test_a_moment_passes_exactly_when_the_calendar_has_it(
    year: int, month: int, day: int, hour: int, minute: int, second: int
) -> None:
    try:
        # The year 0, which Python does not know, was a leap year like 2000.
        datetime.datetime(year or 2000, month, day, hour, minute, second, tzinfo=datetime.UTC)
        exists = True
    except ValueError:
        exists = False
    assert is_datetime(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z") == exists


@pytest.mark.parametrize(
    ("raw", "exists"),
    [
        ("0000-01-01T00:00:00Z", True),
        ("0000-01-01T01:00:00+01:00", True),
        ("0000-01-01T00:59:59+01:00", False),
        ("0000-01-01T01:29:59+01:30", False),
        ("0000-01-01T00:00:00-01:00", True),
        ("2026-01-01T00:00:00+00:00", True),
        ("2026-01-01T00:00:00-00:00", False),
        ("2026-01-01T00:00:00+24:00", False),
        ("2026-01-01T00:00:00+00:60", False),
        ("2026-01-01T24:00:00Z", False),
        ("2026-02-29T00:00:00Z", False),
        ("1900-02-29T00:00:00Z", False),
        ("2000-02-29T00:00:00Z", True),
        ("2026-01-01T00:00:0\N{ARABIC-INDIC DIGIT ZERO}Z", False),
        ("2026-01-01T00:00:00." + "1" * 43 + "Z", True),
        ("2026-01-01T00:00:00." + "1" * 44 + "Z", False),
    ],
)
def test_edges(raw: str, exists: bool) -> None:
    assert is_datetime(raw) == exists
