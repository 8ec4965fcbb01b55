"""Keys: made once, all or none in the store, and never seen in a repr."""

import pytest

from pds_lite.errors import StoreBroken
from pds_lite.services import key_store
from pds_lite.storage.keys import Table


def load(store):
    with store.read() as txn:
        return key_store.load(txn)


def test_a_new_store_has_no_keys(store):
    assert load(store) is None


def test_keys_come_back_as_they_were_made(store):
    keys = key_store.generate()
    store.write_sync(lambda txn: key_store.save(txn, keys))
    loaded = load(store)

    assert loaded.signing.export() == keys.signing.export()
    assert loaded.rotation.export() == keys.rotation.export()
    assert loaded.box.export() == keys.box.export()
    assert loaded.jwt_secret == keys.jwt_secret


def test_every_key_is_another():
    secrets = [
        secret
        for keys in (key_store.generate(), key_store.generate())
        for secret in (keys.signing.export(), keys.rotation.export(), keys.box.export(), keys.jwt_secret)
    ]
    assert len(set(secrets)) == 8
    assert {len(secret) for secret in secrets} == {32}


@pytest.mark.parametrize("name", [b"signing", b"rotation", b"box", b"jwt_secret"])
def test_a_missing_key_is_a_broken_store(store, name):
    store.write_sync(lambda txn: key_store.save(txn, key_store.generate()))
    store.write_sync(lambda txn: txn.delete(Table.KEYS, name))

    with pytest.raises(StoreBroken, match="missing"):
        load(store)


def test_a_damaged_key_is_a_broken_store(store):
    store.write_sync(lambda txn: key_store.save(txn, key_store.generate()))
    store.write_sync(lambda txn: txn.put(Table.KEYS, b"signing", bytes(32)))

    with pytest.raises(StoreBroken, match="damaged"):
        load(store)


def test_no_secret_is_in_a_repr():
    keys = key_store.generate()
    shown = repr(keys)

    for secret in (keys.signing.export(), keys.rotation.export(), keys.box.export(), keys.jwt_secret):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_what_is_sealed_opens_for_its_purpose_with_the_same_keys_only() -> None:
    keys = key_store.generate()
    sealed = keys.seal("code", "AAAAA-BBBBB")

    assert keys.unseal("code", sealed) == "AAAAA-BBBBB"
    assert b"AAAAA" not in sealed
    assert keys.seal("code", "AAAAA-BBBBB") != sealed, "two of the same cannot be told"
    for broken in (sealed[:-1], sealed[:-1] + bytes((sealed[-1] ^ 1,)), b""):
        with pytest.raises(StoreBroken):
            keys.unseal("code", broken)
    with pytest.raises(StoreBroken):
        keys.unseal("other", sealed)
    with pytest.raises(StoreBroken):
        key_store.generate().unseal("code", sealed)
