"""The sign-in log: who tried and why not, bounded, and without wearing the card."""

from pds_lite.services.sign_in_log import ASKING, MAX_ASKING, MAX_KNOWN, REFUSALS_EVERY_S, SignInLog
from pds_lite.storage.sign_in_store import MAX_ATTEMPTS
from pds_lite.storage.store import Store
from tests.set_clock import SetClock


def make(clock: SetClock, store: Store) -> SignInLog:
    log = SignInLog(clock, store)
    log.start()
    return log


async def test_it_keeps_the_latest_and_survives_a_restart(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    for number in range(300):
        clock.forward(1)
        log.refused("app", f"Bot/{number}", "203.0.113.9", "alice.test", "The password was wrong")
    clock.forward(1)
    log.let_in("app", "Bluesky", "198.51.100.7", "alice.test")
    await log.save()

    again = make(clock, store)
    assert len(again.attempts()) == MAX_ATTEMPTS
    assert (again.attempts()[0].client, again.attempts()[0].reason) == ("Bluesky", "")
    assert again.attempts()[1].client == "Bot/299"
    assert again.attempts() == log.attempts()
    assert again.is_known("198.51.100.7")
    assert not again.is_known("203.0.113.9")


async def test_a_night_of_guessing_is_one_line(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    log.let_in("app", "Bluesky", "198.51.100.7", "alice.test")
    for _ in range(10_000):
        clock.forward(1)
        log.refused("app", "curl", "203.0.113.9", "alice.test", "The password was wrong")

    newest, oldest = log.attempts()
    assert (newest.count, newest.time_us) == (10_000, clock.now_us())
    assert oldest.client == "Bluesky"


async def test_refusals_alone_are_written_every_ten_minutes_at_most(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    writes = []
    original = store.write

    async def counted(*arguments: object, **options: object) -> object:
        writes.append(clock.monotonic())
        return await original(*arguments, **options)  # type: ignore[arg-type]

    store.write = counted  # type: ignore[method-assign, assignment]
    for _ in range(24 * 60):
        clock.forward(60)
        for number in range(5):
            log.refused("app", f"Bot/{number}", "203.0.113.9", "", "No")
        await log.save()
    assert len(writes) == 24 * 3600 // REFUSALS_EVERY_S

    log.let_in("page", "Browser", "10.0.0.2", "alice.test")
    await log.save()
    assert len(writes) == 24 * 3600 // REFUSALS_EVERY_S + 1
    await log.save()
    assert len(writes) == 24 * 3600 // REFUSALS_EVERY_S + 1


def test_what_is_no_name_is_not_kept(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    for typed in ("hunter2", "p@ss.word", "correct horse", "x" * 5000, "a\nb"):
        log.refused("app", "c", "203.0.113.9", typed, "No")
    log.refused("app", "c", "203.0.113.9", " @Alice.Test", "No")
    log.refused("app", "evil\x1b[31m\nline", "203.0.113.9", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "No")

    names = {row.name for row in log.attempts()}
    assert names == {"", "@Alice.Test", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}
    assert all(row.client.isprintable() and len(row.client) <= 200 for row in log.attempts())


def test_known_addresses_are_bounded_and_ipv6_ones_are_households(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    log.let_in("app", "c", "2001:db8:1:2:3:4:5:6", "alice.test")
    assert log.is_known("2001:db8:1:2::/64")
    for number in range(MAX_KNOWN):
        log.let_in("app", "c", f"198.51.100.{number}", "alice.test")
    assert not log.is_known("2001:db8:1:2::/64")
    assert log.is_known("198.51.100.0")


def test_apps_that_ask_wrongly_push_out_only_each_other(clock: SetClock, store: Store) -> None:
    log = make(clock, store)
    log.let_in("app", "Bluesky", "198.51.100.7", "alice.test")
    for number in range(1000):
        clock.forward(1)
        log.refused(ASKING, f"https://app-{number}.example", "203.0.113.9", "", "invalid_scope: unknown")

    assert len(log.attempts()) == MAX_ASKING + 1
    assert log.attempts()[-1].client == "Bluesky"
    assert any(row.client == "https://app-999.example" for row in log.attempts())
