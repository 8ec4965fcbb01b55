"""Grants and copies of documents: whole, bounded, gone when deleted."""

from dataclasses import replace

import pytest

from pds_lite.errors import TooLarge
from pds_lite.storage import oauth_store
from pds_lite.storage.oauth_store import Document, Grant

GRANT = Grant(
    id="g1", client_id="http://localhost", client_name="", sub="did:plc:ewvi7nxzyoun6zhxrhs64oiz", agreed="atproto",
    scope="atproto", dpop_jkt="j", client_key="", code_hash=b"c", code_challenge="x", created_us=1, used_us=2,
    refreshed_us=3, expires_us=4, ends_us=5,
)  # fmt: skip


def test_a_grant_comes_back_as_it_was(checked_store):
    checked_store.write_sync(lambda txn: oauth_store.put_grant(txn, GRANT))
    later = replace(GRANT, refresh_number=7)
    checked_store.write_sync(lambda txn: oauth_store.put_grant(txn, later))
    with checked_store.read() as txn:
        assert list(oauth_store.list_grants(txn)) == [later]
    assert checked_store.write_sync(lambda txn: oauth_store.delete_grant(txn, "g1"))
    assert not checked_store.write_sync(lambda txn: oauth_store.delete_grant(txn, "g1"))


def test_grants_are_bounded(checked_store, monkeypatch):
    monkeypatch.setattr(oauth_store, "MAX_GRANTS", 3)

    def fill(txn):
        for number in range(3):
            oauth_store.put_grant(txn, replace(GRANT, id=f"g{number}"))
        oauth_store.put_grant(txn, replace(GRANT, id="g1", scope="atproto x"))

    checked_store.write_sync(fill)
    with pytest.raises(TooLarge):
        checked_store.write_sync(lambda txn: oauth_store.put_grant(txn, replace(GRANT, id="g9")))


def test_the_oldest_copy_of_a_document_makes_room(checked_store, monkeypatch):
    monkeypatch.setattr(oauth_store, "MAX_DOCUMENTS", 3)

    def fill(txn):
        for number in (5, 1, 3, 4):
            oauth_store.put_document(txn, Document("client", f"https://{number}.example/c.json", b"{}", number))
        oauth_store.put_document(txn, Document("set", "https://5.example/c.json", b"x" * 200_000, 9))

    checked_store.write_sync(fill)
    with checked_store.read() as txn:
        kept = [oauth_store.get_document(txn, "client", f"https://{number}.example/c.json") for number in (1, 3, 4, 5)]
        assert [row.fetched_us if row else None for row in kept] == [None, 3, 4, 5]
        assert oauth_store.get_document(txn, "set", "https://5.example/c.json") is None, "too big to keep"
