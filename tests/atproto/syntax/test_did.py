import pytest

from pds_lite.atproto.syntax import is_account_did, is_did, is_plc_did, is_web_did, parse_did
from pds_lite.errors import BadSyntax

PLC = "did:plc:7iza6de2dwap2sbkpav7c6c6"


def test_length_is_limited_at_the_limit_exactly() -> None:
    assert is_did("did:web:" + "a" * 2040)
    with pytest.raises(BadSyntax):
        parse_did("did:web:" + "a" * 2041)


def test_only_plc_and_bare_web_dids_name_accounts() -> None:
    assert is_plc_did(PLC)
    assert is_account_did(PLC)
    assert is_account_did("did:web:example.com")
    for did in (
        "did:plc:7iza6de2dwap2sbkpav7c6c",
        "did:plc:7iza6de2dwap2sbkpav7c6c66",
        "did:plc:7iza6de2dwap2sbkpav7c6c0",
        "did:plc:7IZA6DE2DWAP2SBKPAV7C6C6",
        PLC + "\n",
        "did:web:example.com:user",
        "did:web:example.com%3A8080",
        "did:web:localhost",
        "did:web:localhost%3A8080",
        "did:web:-.com",
        "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N",
    ):
        assert not is_account_did(did), did


def test_localhost_is_for_development() -> None:
    for did in ("did:web:localhost", "did:web:localhost%3A2583"):
        assert is_web_did(did, dev=True)
        assert is_account_did(did, dev=True)
        assert not is_web_did(did)
    assert not is_web_did("did:web:localhost%3A", dev=True)
