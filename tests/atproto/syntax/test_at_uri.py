import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.syntax import AtUri, Did, Nsid, RecordKey, is_at_uri, parse_at_uri
from pds_lite.errors import BadSyntax

DID = "did:plc:7iza6de2dwap2sbkpav7c6c6"


def test_the_parts_come_apart() -> None:
    assert parse_at_uri(f"at://{DID}") == AtUri(Did(DID))
    assert parse_at_uri(f"at://{DID}/a.b.c") == AtUri(Did(DID), Nsid("a.b.c"))
    assert parse_at_uri(f"at://{DID}/a.b.c/self") == AtUri(Did(DID), Nsid("a.b.c"), RecordKey("self"))
    assert parse_at_uri("at://Alice.Example.com/a.b.c").authority == "alice.example.com"


@given(st.text("at:/did.plcb0#?%a ~", max_size=30).map(lambda tail: "at://" + tail))
def test_asking_and_parsing_agree_and_the_uri_comes_back(raw: str) -> None:
    if is_at_uri(raw):
        assert str(parse_at_uri(raw)) == raw
    else:
        with pytest.raises(BadSyntax):
            parse_at_uri(raw)
