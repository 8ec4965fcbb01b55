"""Which rotation keys an identity keeps when it moves here, and which names."""

from datetime import UTC, datetime

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.services.own_document import with_handle
from pds_lite.services.plc_account import rotation_keys_here

OWNER, HOST, BOX, *MORE = (K256Key.from_bytes(bytes([number]) * 32) for number in range(1, 9))


def audit(keys: list[K256Key], signer: K256Key) -> plc.Audit:
    op = plc.sign_op(
        plc.genesis([key.did_key for key in keys], HOST.did_key, "alice.example.com", "https://old.example.com"), signer
    )
    did = plc.did_of(op)
    created = datetime(2026, 11, 1, tzinfo=UTC).isoformat()
    return plc.audit(
        did, [{"did": did, "operation": op, "cid": str(plc.op_cid(op)), "nullified": False, "createdAt": created}]
    )


def here(keys: list[K256Key], signer: K256Key, recovery_key: str = "") -> list[str]:
    return rotation_keys_here(audit(keys, signer), BOX.did_key, recovery_key)


def dids(*keys: K256Key) -> list[str]:
    return [key.did_key for key in keys]


def test_the_owners_key_stays_first_and_the_old_hosts_goes() -> None:
    assert here([OWNER, HOST], HOST) == dids(OWNER, BOX)
    assert here([OWNER, MORE[0], HOST], HOST) == dids(OWNER, MORE[0], BOX)


def test_what_may_be_the_owners_stays() -> None:
    assert here([OWNER, HOST], OWNER) == dids(OWNER, HOST, BOX)
    assert here([HOST], HOST) == dids(HOST, BOX), "an identity never hangs on the box alone"


def test_a_recovery_key_named_at_sign_up_comes_first() -> None:
    assert here([HOST], HOST, OWNER.did_key) == dids(OWNER, HOST, BOX)
    assert here([OWNER, HOST], HOST, OWNER.did_key) == dids(OWNER, BOX)


def test_once_it_lives_here_nothing_changes() -> None:
    assert here([OWNER, BOX, HOST], BOX) == dids(OWNER, BOX, HOST)


def test_there_are_never_more_than_a_directory_takes() -> None:
    keys = [OWNER, *MORE[:4]]
    assert here(keys, OWNER) == dids(OWNER, *MORE[:3], BOX)
    kept = here([OWNER, *MORE[:3], BOX], BOX, MORE[4].did_key)
    assert kept == dids(MORE[4], OWNER, *MORE[:2], BOX)


def test_a_handle_takes_the_place_of_the_first_one() -> None:
    assert with_handle(["at://old.example.com", "https://x"], "new.example.com") == [
        "at://new.example.com",
        "https://x",
    ]
    assert with_handle(["https://x", "at://old.example.com"], "new.example.com") == [
        "at://new.example.com",
        "https://x",
    ]
    assert with_handle(["at://a.example.com", "at://b.example.com"], "b.example.com") == ["at://b.example.com"]
    assert with_handle([], "new.example.com") == ["at://new.example.com"]
