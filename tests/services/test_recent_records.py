"""Which of the account's records a service that says how far it knows the repository cannot have yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pds_lite.atproto.tid import Tid
from pds_lite.services.recent_records import RecentRecords
from pds_lite.storage import account_store
from tests.services.conftest import POST, account
from tests.set_clock import SetClock

LONG_AGO = Tid("2222222222222")


def _post(text: str) -> dict[str, Any]:
    return {"$type": POST, "text": text, "createdAt": "2026-01-01T00:00:00.000Z"}


async def test_what_is_older_than_the_account_is_here_is_no_news(tmp_path: Path, repo_at: Callable[..., Any]) -> None:
    """So it is after a move: the records came along, and a service that is far behind knows them from elsewhere."""
    clock = SetClock()
    async with repo_at(tmp_path, clock=clock) as repo:
        await repo.create(_post("from the former host"), POST)
        await repo.put({"$type": "app.bsky.actor.profile", "displayName": "A"}, "self", "app.bsky.actor.profile")
        clock.forward(10)
        arrived = replace(account(), created_us=clock.now_us())
        await repo.writer.transact(lambda txn: account_store.put_account(txn, arrived), [])
        clock.forward(10)
        recent = RecentRecords(repo.store, repo.writer)

        assert not recent.since(LONG_AGO)
        await repo.create(_post("from here"), POST)
        new = recent.since(LONG_AGO)

    assert [post.value["text"] for post in new.posts] == ["from here"]
    assert new.profile is None
