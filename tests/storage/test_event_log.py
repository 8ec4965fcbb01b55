"""The log gives back every frame byte for byte, from any place, however much before it was pruned."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pds_lite.errors import BadInput, StoreBroken
from pds_lite.storage import event_log
from pds_lite.storage.keys import Table, event_key
from pds_lite.storage.store import Store
from tests.storage.driver import Driver, record

SHARED = os.urandom(3000)


def frame(number: int, size: int = 3500) -> bytes:
    """Frames of one size class share most of their bytes, as those of neighbouring commits do."""
    return (b"%08d" % number + SHARED * (size // 3000 + 1))[:size]


SIZES = st.sampled_from([10, 300, 1900, 1901, 3500, 3500, 3500, 9000, (16 << 10) - 1, 16 << 10, 40_000])


def append_all(store: Store, events: list[tuple[int, bytes]]) -> None:
    for seq, content in events:
        store.write_sync(lambda txn, seq=seq, content=content: event_log.append(txn, seq, content))


def read_all(store: Store, after: int = 0) -> list[tuple[int, bytes]]:
    with store.read() as txn:
        return list(event_log.events(txn, after))


def clear(store: Store) -> None:
    def run(txn) -> None:
        for key, _ in list(txn.scan(Table.EVENTS)):
            txn.delete(Table.EVENTS, key)

    store.write_sync(run)


@pytest.fixture
def log_store(tmp_path, checked_store: Store):
    """A store whose made-up frames are gone before it is checked."""
    yield checked_store
    clear(checked_store)
    checked_store.write_sync(lambda txn: txn.delete(Table.META, event_log.META_PRUNED))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(SIZES, max_size=90), data=st.data())
def test_frames_come_back_from_any_place_and_after_any_pruning(
    log_store: Store, sizes: list[int], data: st.DataObject
) -> None:
    clear(log_store)
    model = [(100 + 3 * number, frame(number, size)) for number, size in enumerate(sizes)]
    append_all(log_store, model)
    assert read_all(log_store) == model
    for after in data.draw(st.lists(st.integers(0, 400), max_size=5)):
        assert read_all(log_store, after) == [event for event in model if event[0] > after]
    for before, budget in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40)), max_size=5)):
        old = sum(seq < before for seq, _ in model)
        starts = [start for start in chain_starts(log_store) if 0 < start <= old]
        gone = log_store.write_sync(lambda txn, b=before, n=budget: event_log.prune(txn, b, 1 << 40, n))
        assert gone == max((start for start in starts if start <= budget), default=min(starts, default=0))
        model = model[gone:]
        assert read_all(log_store) == model
        with log_store.read() as txn:
            assert event_log.oldest_seq(txn) == (model[0][0] if model else 0)
            assert event_log.last_seq(txn) == (model[-1][0] if model else 0)


def chain_starts(store: Store) -> list[int]:
    """The places of frames that are stored whole."""
    with store.read() as txn:
        return [place for place, (_, value) in enumerate(txn.scan(Table.EVENTS)) if value[0] == 0]


def test_neighbouring_commits_take_a_fraction_of_their_bytes(driver: Driver) -> None:
    driver.fill([b"com.example.note/%05d" % number for number in range(1500)])
    for number in range(200):
        driver.write({b"com.example.note/%05d" % (2000 + number): record("next")})
    with driver.store.read() as txn:
        frames = [frame for _, frame in event_log.events(txn)][-200:]
        stored = [value for _, value in txn.scan(Table.EVENTS)][-200:]
    assert sum(map(len, stored)) < 0.5 * sum(map(len, frames))
    assert {value[0] for value in stored} == set(range(event_log.CHAIN + 1))


def test_what_was_taken_back_is_no_part_of_a_chain(log_store: Store) -> None:
    append_all(log_store, [(1, frame(1))])

    def refused(txn) -> None:
        event_log.append(txn, 2, frame(2, 4000))
        raise BadInput("no")

    with pytest.raises(BadInput):
        log_store.write_sync(refused)
    append_all(log_store, [(3, frame(3)), (4, frame(4))])
    assert read_all(log_store) == [(1, frame(1)), (3, frame(3)), (4, frame(4))]


def test_a_chain_does_not_reach_over_a_restart_wrongly(tmp_path) -> None:
    from tests.store_fixture import small_limits

    for number in range(1, 4):
        store = Store.open(tmp_path / "s", small_limits())
        append_all(store, [(10 * number, frame(number)), (10 * number + 1, frame(number + 100))])
        store.close()
    store = Store.open(tmp_path / "s", small_limits())
    assert len(read_all(store)) == 6
    store.close()


def test_a_seq_goes_up_and_the_newest_event_is_never_pruned(log_store: Store) -> None:
    append_all(log_store, [(5, b"a"), (9, b"b")])  # too small to be chained
    for seq in (1, 5, 9):
        with pytest.raises(StoreBroken):
            append_all(log_store, [(seq, b"again")])
    assert log_store.write_sync(lambda txn: event_log.prune(txn, 1 << 52, 0, 100)) == 1
    assert read_all(log_store) == [(9, b"b")]
    with log_store.read() as txn:
        assert event_log.pruned_through(txn) == 5
        assert not event_log.needs_pruning(txn, 1 << 52, 0)


def test_an_empty_log_says_so(checked_store: Store) -> None:
    with checked_store.read() as txn:
        assert event_log.last_seq(txn) == event_log.oldest_seq(txn) == event_log.pruned_through(txn) == 0
        assert event_log.read_after(txn, 0, 100, 100) == []
        assert not event_log.needs_pruning(txn, 1 << 52, 0)


def test_reading_is_bounded_by_bytes_and_number_but_gives_at_least_one(log_store: Store) -> None:
    model = [(seq, frame(seq, 1000)) for seq in range(1, 21)]
    append_all(log_store, model)
    with log_store.read() as txn:
        assert event_log.read_after(txn, 0, 1, 100) == model[:1]
        assert event_log.read_after(txn, 4, 3500, 100) == model[4:7]
        assert event_log.read_after(txn, 4, 1 << 30, 5) == model[4:9]
        assert event_log.read_after(txn, 20, 1 << 30, 5) == []


def test_retention_by_bytes_brings_the_table_below_its_limit(log_store: Store) -> None:
    append_all(log_store, [(seq, os.urandom(6000)) for seq in range(1, 101)])
    with log_store.read() as txn:
        assert event_log.needs_pruning(txn, 0, 400_000)
    while log_store.write_sync(lambda txn: event_log.prune(txn, 0, 400_000, 7)):
        pass
    with log_store.read() as txn:
        assert not event_log.needs_pruning(txn, 0, 400_000)
        assert 30 < txn.count(Table.EVENTS) < 55


@pytest.mark.parametrize("damage", [b"\x01garbage", b"\x01", b"\x05" + b"\0" * 50])
def test_an_event_that_cannot_be_read_is_named(log_store: Store, damage: bytes) -> None:
    append_all(log_store, [(1, frame(1)), (2, frame(2))])
    log_store.write_sync(lambda txn: txn.put(Table.EVENTS, event_key(2), damage))
    with pytest.raises(StoreBroken):
        read_all(log_store)


def test_an_event_without_the_start_of_its_chain_is_named(log_store: Store) -> None:
    append_all(log_store, [(1, frame(1)), (2, frame(2))])
    log_store.write_sync(lambda txn: txn.delete(Table.EVENTS, event_key(1)))
    with pytest.raises(StoreBroken):
        read_all(log_store)
