"""Preferences: what clients keep for their owner in private (saved feeds, muted words, birth date), per account.

A list of objects, each with the `$type` of an app.bsky preference; unknown types and fields are kept as they came. It
is replaced as a whole, with two exceptions: the birth date may be read and written only with the account's own password
and stays when another session replaces the list; the declared age follows from it and is never stored.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.errors import BadInput, StoreBroken
from pds_lite.storage import account_store

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.storage.store import Store, Txn, WriteTxn

Preference = dict[str, Any]

NAMESPACE = "app.bsky"
PERSONAL_DETAILS = "app.bsky.actor.defs#personalDetailsPref"
DECLARED_AGE = "app.bsky.actor.defs#declaredAgePref"
AGES = (13, 16, 18)


class Preferences:
    """The account's preferences."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def get(self, *, full_access: bool) -> list[Preference]:
        """All of them; the personal details only with `full_access`."""
        with self._store.read() as txn:
            stored = _stored(txn)
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        ages = [_declared_age(each["birthDate"], today) for each in stored if _has_birth_date(each)]
        shown = [each for each in stored if full_access or each["$type"] != PERSONAL_DETAILS]
        return [*shown, *(age for age in ages[:1] if age is not None)]

    async def put(self, preferences: list[Any], *, full_access: bool) -> None:
        """Replaces them. Raises BadInput for one that is no preference of app.bsky or may not be set, TooLarge."""
        given = [_checked(each) for each in preferences]
        forbidden = [each["$type"] for each in given if each["$type"] == PERSONAL_DETAILS and not full_access]
        if forbidden:
            raise BadInput(f"Do not have authorization to set preferences: {', '.join(forbidden)}")

        def change(txn: WriteTxn) -> None:
            kept = [] if full_access else [each for each in _stored(txn) if each["$type"] == PERSONAL_DETAILS]
            kept += (each for each in given if each["$type"] != DECLARED_AGE)
            account_store.put_preferences(txn, ujson.dumpb(kept))

        await self._store.write(change, "preferences")


def _stored(txn: Txn) -> list[Preference]:
    text = account_store.get_preferences(txn)
    stored = ujson.loads(text) if text else []
    if not isinstance(stored, list):
        raise StoreBroken("the stored preferences are no list")
    return stored


def _checked(preference: Any) -> Preference:
    kind = preference.get("$type") if isinstance(preference, dict) else None
    if not isinstance(kind, str):
        raise BadInput("Preference is missing a $type")
    if kind != NAMESPACE and not kind.startswith(f"{NAMESPACE}."):
        raise BadInput(f"Some preferences are not in the {NAMESPACE} namespace")
    return dict(preference)


def _has_birth_date(preference: Preference) -> bool:
    return preference["$type"] == PERSONAL_DETAILS and isinstance(preference.get("birthDate"), str)


def _declared_age(birth_date: str, today: date) -> Preference | None:
    try:
        born = date.fromisoformat(birth_date[:10])
    except ValueError:
        return None
    age = today.year - born.year - ((today.month, today.day) < (born.month, born.day))
    return {"$type": DECLARED_AGE, **{f"isOverAge{years}": age >= years for years in AGES}}
