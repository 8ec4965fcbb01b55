"""HandleChange: who vouches for a name while it is proved, and the box's own name."""

from pathlib import Path
from typing import Any

import pytest

from pds_lite.config import Config
from pds_lite.errors import BadInput, NotFound
from pds_lite.services.handle_change import HandleChange
from pds_lite.storage.account_store import Account

DID = "did:plc:" + "a" * 24
ACCOUNT = Account(DID, "alice.example.com", "", False, "", "active", 1)


class World:
    """What the network answers, and whether the box vouched for the name while it was asked."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.vouched: list[bool] = []
        self.changes: HandleChange

    async def resolve_handle(self, handle: str, *, refresh: bool) -> str:
        assert refresh
        self.vouched.append(self.changes.answers_for(handle))
        if self.answer is None:
            raise NotFound(f"nobody knows {handle}")
        return self.answer


def proving(tmp_path: Path, answer: str | None) -> tuple[HandleChange, World]:
    world, accounts = World(answer), type("Accounts", (), {"account": ACCOUNT})()
    config = Config(data_dir=tmp_path, hostname="box.example.com")
    stub: Any = None
    identity: Any = world
    world.changes = HandleChange(config, identity, accounts, stub)
    return world.changes, world


async def test_the_box_vouches_for_a_name_only_while_it_is_proved(tmp_path: Path) -> None:
    changes, world = proving(tmp_path, DID)

    await changes._prove("new.example.com", ACCOUNT)

    assert world.vouched == [True]
    assert not changes.answers_for("new.example.com")
    assert changes.answers_for("alice.example.com")


async def test_the_boxs_own_name_needs_no_way_around_the_router(tmp_path: Path) -> None:
    changes, _world = proving(tmp_path, None)
    await changes._prove("box.example.com", ACCOUNT)
    with pytest.raises(BadInput, match=r"nobody knows other\.example\.com"):
        await changes._prove("other.example.com", ACCOUNT)


async def test_a_name_of_somebody_else_is_refused_even_if_it_is_the_boxs_own(tmp_path: Path) -> None:
    changes, _world = proving(tmp_path, "did:plc:" + "b" * 24)
    with pytest.raises(BadInput, match=f"to did={DID}"):
        await changes._prove("box.example.com", ACCOUNT)
    assert not changes.answers_for("box.example.com")
