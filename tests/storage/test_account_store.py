"""The account's rows come back as they were stored, and strangers cannot make them grow."""

from dataclasses import replace

import pytest

from pds_lite.atproto import dag_cbor
from pds_lite.errors import StoreBroken, TooLarge
from pds_lite.storage import account_store, session_store
from pds_lite.storage.account_store import Account, AppPassword, PendingCode
from pds_lite.storage.keys import Table
from pds_lite.storage.session_store import Session, Spent
from pds_lite.storage.store import Store

ACCOUNT = Account("did:plc:abc", "alice.test", "a@example.org", False, "$argon2id$...", "active", 17, b"\xa0genesis")
SESSION = Session("id", "phone", True, 1, 2, 3, "id.now", "app", (Spent("id.first", 7), Spent("id.before", 9)))


def test_an_account_comes_back_and_an_empty_box_has_none(checked_store: Store) -> None:
    with checked_store.read() as txn:
        assert account_store.get_account(txn) is None
    for account in (ACCOUNT, replace(ACCOUNT, plc_op=None, email_confirmed=True, status="deactivated")):
        checked_store.write_sync(lambda txn, account=account: account_store.put_account(txn, account))
        with checked_store.read() as txn:
            assert account_store.get_account(txn) == account


def test_fields_that_a_later_version_adds_or_an_earlier_one_lacked_do_no_harm() -> None:
    stored = dag_cbor.decode_own(account_store.encode_row(ACCOUNT))
    assert isinstance(stored, dict)
    stored["added_later"] = 1
    del stored["plc_op"]
    assert account_store.decode_row(Account, dag_cbor.encode(stored)) == replace(ACCOUNT, plc_op=None)


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x01", dag_cbor.encode({"did": "x"})])
def test_a_row_that_is_none_is_named(value: bytes) -> None:
    with pytest.raises(StoreBroken):
        account_store.decode_row(Account, value)


def test_preferences_are_kept_whole_and_bounded(checked_store: Store) -> None:
    with checked_store.read() as txn:
        assert account_store.get_preferences(txn) is None
    checked_store.write_sync(lambda txn: account_store.put_preferences(txn, b'{"a": 1}'))
    with pytest.raises(TooLarge):
        checked_store.write_sync(lambda txn: account_store.put_preferences(txn, bytes(1_000_001)))
    with checked_store.read() as txn:
        assert account_store.get_preferences(txn) == b'{"a": 1}'


def test_a_claim_is_spent_once(checked_store: Store) -> None:
    checked_store.write_sync(lambda txn: account_store.put_claim(txn, b"digest"))
    with checked_store.read() as txn:
        assert account_store.get_claim(txn) == b"digest"
    checked_store.write_sync(account_store.delete_claim)
    with checked_store.read() as txn:
        assert account_store.get_claim(txn) is None


@pytest.mark.parametrize("name", ["phone", "", "ü" * 500, "a/b\0c"])
def test_an_app_password_has_any_name(checked_store: Store, name: str) -> None:
    row = AppPassword(name, b"digest", True, 5)
    checked_store.write_sync(lambda txn: account_store.put_app_password(txn, row))
    with checked_store.read() as txn:
        assert list(account_store.list_app_passwords(txn)) == [row]
    assert checked_store.write_sync(lambda txn: account_store.delete_app_password(txn, name))
    assert not checked_store.write_sync(lambda txn: account_store.delete_app_password(txn, name))


def test_names_that_differ_only_at_their_end_do_not_meet(checked_store: Store) -> None:
    rows = [AppPassword("n" * 600 + end, b"digest", False, 5) for end in "ab"]
    checked_store.write_sync(lambda txn: [account_store.put_app_password(txn, row) for row in rows])
    with checked_store.read() as txn:
        assert sorted(account_store.list_app_passwords(txn), key=lambda row: row.name) == rows


def test_there_is_one_code_for_each_purpose(checked_store: Store) -> None:
    first, second = PendingCode("confirm_email", 1, 2, 0, b"a", b"b"), PendingCode("confirm_email", 3, 4, 0, b"c", b"d")
    for code in (first, second):
        checked_store.write_sync(lambda txn, code=code: account_store.put_code(txn, code))
    with checked_store.read() as txn:
        assert account_store.get_code(txn, "confirm_email") == second
        assert list(account_store.list_codes(txn)) == [second]
        assert account_store.get_code(txn, "plc") is None
    assert checked_store.write_sync(lambda txn: account_store.delete_code(txn, "confirm_email"))


@pytest.mark.parametrize("limit", ["MAX_APP_PASSWORDS", "MAX_CODES"])
def test_rows_are_bounded(checked_store: Store, limit: str) -> None:
    def put(txn, number: int) -> None:
        if limit == "MAX_CODES":
            account_store.put_code(txn, PendingCode(f"purpose {number}", 1, 2))
        else:
            account_store.put_app_password(txn, AppPassword(f"name {number}", b"", False, 1))

    most: int = getattr(account_store, limit)
    checked_store.write_sync(lambda txn: [put(txn, number) for number in range(most)])
    with pytest.raises(TooLarge):
        checked_store.write_sync(lambda txn: put(txn, most))
    checked_store.write_sync(lambda txn: put(txn, 0))


def test_sessions_come_back_and_are_bounded(checked_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_store, "MAX_SESSIONS", 2)
    other = replace(SESSION, id="other", app_password=None, spent=())
    checked_store.write_sync(lambda txn: [session_store.put_session(txn, session) for session in (SESSION, other)])
    checked_store.write_sync(lambda txn: session_store.put_session(txn, replace(SESSION, used_us=8)))
    with pytest.raises(TooLarge):
        checked_store.write_sync(lambda txn: session_store.put_session(txn, replace(SESSION, id="third")))
    with checked_store.read() as txn:
        assert list(session_store.list_sessions(txn)) == [replace(SESSION, used_us=8), other]
        assert session_store.get_session(txn, "other") == other
        assert session_store.get_session(txn, "third") is None
    assert checked_store.write_sync(lambda txn: session_store.delete_session(txn, "id"))
    assert not checked_store.write_sync(lambda txn: session_store.delete_session(txn, "id"))


def test_no_secret_of_the_account_is_stored_in_the_clear_elsewhere(checked_store: Store) -> None:
    """Values are maps by field name: nothing but what was given is in them."""
    checked_store.write_sync(lambda txn: account_store.put_account(txn, ACCOUNT))
    with checked_store.read() as txn:
        value = txn.get(Table.ACCOUNT, b"account")
    assert value is not None
    assert set(dag_cbor.decode_own(value)) == set(Account.__slots__)  # type: ignore[arg-type]
