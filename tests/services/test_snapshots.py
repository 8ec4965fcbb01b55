"""A view keeps what was there when it was taken, within its bounds, also for commits that were not durable yet."""

from types import SimpleNamespace
from typing import Any

import pytest

from pds_lite.atproto.cid import Cid
from pds_lite.services.snapshots import SnapshotLost, Snapshots
from pds_lite.storage.repo_store import Record


def head(rev: str) -> Any:
    return SimpleNamespace(rev=rev)


def record(text: bytes) -> Record:
    return Record(Cid.of_cbor(text), 1, text)


def test_the_first_old_value_of_a_path_is_the_one_of_the_view() -> None:
    views = Snapshots(10_000)
    assert views.take() is None
    views.advance(head("a"))
    view = views.take()
    assert view is not None
    views.changed("b", [(b"k", record(b"one")), (b"new", None)])
    views.changed("c", [(b"k", record(b"two")), (b"new", record(b"later"))])
    assert view.changes_after(b"") == [(b"k", record(b"one")), (b"new", None)]
    assert view.changes_after(b"k") == [(b"new", None)]


def test_a_view_taken_before_a_commit_is_durable_has_the_values_before_it() -> None:
    views = Snapshots(10_000)
    views.advance(head("a"))
    views.changed("b", [(b"k", record(b"one"))])
    view = views.take()
    assert view is not None
    assert (view.head.rev, view.changes_after(b"")) == ("a", [(b"k", record(b"one"))])
    views.advance(head("b"))
    later = views.take()
    assert later is not None
    assert (later.head.rev, later.changes_after(b"")) == ("b", [])


def test_what_was_taken_back_is_forgotten_newest_first() -> None:
    views = Snapshots(10_000)
    views.advance(head("a"))
    views.changed("b", [(b"b", None)])
    views.changed("c", [(b"c", None)])
    views.rewind("c")
    view = views.take()
    assert view is not None
    assert view.changes_after(b"") == [(b"b", None)]


def test_over_the_bound_the_largest_view_is_lost_and_its_room_is_free_again() -> None:
    views = Snapshots(5_000)
    views.advance(head("a"))
    old = views.take()
    views.changed("b", [(b"%d" % number, record(b"x" * 500)) for number in range(7)])
    views.advance(head("b"))
    young = views.take()
    assert old is not None
    assert young is not None
    views.changed("c", [(b"y%d" % number, record(b"x" * 500)) for number in range(3)])
    with pytest.raises(SnapshotLost):
        old.changes_after(b"")
    assert len(young.changes_after(b"")) == 3
    views.release(old)
    views.changed("d", [(b"z%d" % number, record(b"x" * 500)) for number in range(3)])
    assert len(young.changes_after(b"")) == 6


def test_an_import_ends_every_view() -> None:
    views = Snapshots(5_000)
    views.advance(head("a"))
    view = views.take()
    views.replace(head("b"))
    assert view is not None
    with pytest.raises(SnapshotLost):
        view.changes_after(b"")
