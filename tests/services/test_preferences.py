"""Preferences: kept as they came, replaced as a whole, the birth date for the owner's own password only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.clock import Clock
from pds_lite.errors import BadInput
from pds_lite.services.preferences import DECLARED_AGE, PERSONAL_DETAILS, Preferences
from pds_lite.storage.store import Store, StoreLimits

SAVED = {"$type": "app.bsky.actor.defs#savedFeedsPrefV2", "items": [], "later": {"a": [1, None]}}
UNKNOWN = {"$type": "app.bsky.actor.defs#notInventedYet", "x": "ü"}
BIRTH = {"$type": PERSONAL_DETAILS, "birthDate": "2010-06-15T00:00:00.000Z"}


class FrozenClock(Clock):
    def __init__(self, day: str) -> None:
        from datetime import UTC, datetime

        self._now = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())

    def now(self) -> int:
        return self._now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", StoreLimits(map_bytes=64 << 20))
    yield opened
    opened.close()


def _preferences(store: Store, day: str = "2026-06-14T12:00:00") -> Preferences:
    return Preferences(store, FrozenClock(day))


async def test_they_come_back_as_they_were_and_are_replaced_as_a_whole(store: Store) -> None:
    preferences = _preferences(store)
    assert preferences.get(full_access=True) == []

    await preferences.put([SAVED, UNKNOWN, SAVED], full_access=True)
    assert preferences.get(full_access=False) == [SAVED, UNKNOWN, SAVED]
    await preferences.put([UNKNOWN], full_access=False)
    assert _preferences(store).get(full_access=True) == [UNKNOWN]


async def test_the_birth_date_is_for_the_owners_password_and_survives_others(store: Store) -> None:
    preferences = _preferences(store)
    await preferences.put([BIRTH, SAVED], full_access=True)

    shown = preferences.get(full_access=False)
    assert BIRTH not in shown
    assert "2010" not in str(shown)
    with pytest.raises(BadInput, match=r"Do not have authorization to set preferences: .*personalDetailsPref"):
        await preferences.put([BIRTH], full_access=False)
    await preferences.put([UNKNOWN], full_access=False)
    assert preferences.get(full_access=True)[:2] == [BIRTH, UNKNOWN]
    await preferences.put([UNKNOWN], full_access=True)
    assert preferences.get(full_access=True) == [UNKNOWN]


@pytest.mark.parametrize(
    ("day", "ages"),
    [
        ("2023-06-14T12:00:00", (False, False, False)),
        ("2023-06-15T12:00:00", (True, False, False)),
        ("2026-06-15T12:00:00", (True, True, False)),
        ("2028-06-16T12:00:00", (True, True, True)),
    ],
)
async def test_the_declared_age_follows_from_it_and_is_never_stored(
    store: Store, day: str, ages: tuple[bool, bool, bool]
) -> None:
    preferences = _preferences(store, day)
    forged = {"$type": DECLARED_AGE, "isOverAge13": True, "isOverAge16": True, "isOverAge18": True}

    await preferences.put([BIRTH, forged], full_access=True)

    expected = {"$type": DECLARED_AGE, **dict(zip(("isOverAge13", "isOverAge16", "isOverAge18"), ages, strict=True))}
    assert preferences.get(full_access=False) == [expected]
    assert preferences.get(full_access=True) == [BIRTH, expected]


async def test_a_birth_date_that_is_none_gives_no_age(store: Store) -> None:
    preferences = _preferences(store)
    for wrong in ("yesterday", "", "9999-99-99", 7, None):
        await preferences.put([{**BIRTH, "birthDate": wrong}], full_access=True)
        assert preferences.get(full_access=False) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "missing a \\$type"),
        ({"$type": 7}, "missing a \\$type"),
        ("x", "missing a \\$type"),
        ({"$type": "app.bskyx.prefs"}, "not in the app.bsky namespace"),
        ({"$type": "com.example.prefs"}, "not in the app.bsky namespace"),
    ],
)
async def test_what_is_no_preference_is_refused_and_changes_nothing(store: Store, wrong: Any, message: str) -> None:
    preferences = _preferences(store)
    await preferences.put([SAVED], full_access=True)

    with pytest.raises(BadInput, match=message):
        await preferences.put([UNKNOWN, wrong], full_access=True)
    assert preferences.get(full_access=True) == [SAVED]


ENTRY = st.fixed_dictionaries(
    {"$type": st.sampled_from([SAVED["$type"], UNKNOWN["$type"], PERSONAL_DETAILS])},
    optional={"birthDate": st.just("2000-01-01"), "n": st.integers(0, 9)},
)


@settings(deadline=None, max_examples=30)
@given(steps=st.lists(st.tuples(st.booleans(), st.lists(ENTRY, max_size=4)), max_size=6))
async def test_any_sequence_of_replacements_agrees_with_a_list(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, list[dict[str, Any]]]]
) -> None:
    opened = Store.open(tmp_path_factory.mktemp("store"), StoreLimits(map_bytes=64 << 20))
    try:
        preferences, model = _preferences(opened), list[dict[str, Any]]()
        for full, entries in steps:
            personal = [entry for entry in entries if entry["$type"] == PERSONAL_DETAILS]
            if personal and not full:
                with pytest.raises(BadInput):
                    await preferences.put(entries, full_access=full)
            else:
                kept = [] if full else [entry for entry in model if entry["$type"] == PERSONAL_DETAILS]
                model = kept + entries
                await preferences.put(entries, full_access=full)
            shown = [entry for entry in preferences.get(full_access=True) if entry["$type"] != DECLARED_AGE]
            assert shown == model
    finally:
        opened.close()
