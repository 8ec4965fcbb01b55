import pytest

from pds_lite.atproto.syntax import Handle, is_handle, is_reserved_handle, parse_at_identifier, parse_handle
from pds_lite.errors import BadSyntax


def test_a_handle_is_kept_in_lower_case() -> None:
    assert parse_handle("Alice.Example.COM") == parse_at_identifier("ALICE.example.com") == "alice.example.com"


def test_a_bad_handle_has_its_own_error_name() -> None:
    with pytest.raises(BadSyntax) as caught:
        parse_handle("no")
    assert caught.value.error == "InvalidHandle"


@pytest.mark.parametrize(
    "domain", ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"]
)
def test_domains_that_cannot_be_looked_up_are_reserved(domain: str) -> None:
    handle = parse_handle(f"alice.{domain}")
    assert is_reserved_handle(handle)
    assert is_reserved_handle(handle, dev=True) == (domain != "test")


@pytest.mark.parametrize("handle", ["alice.com", "local.com", "test.dev", "alice.testing", "a.mylocal"])
def test_other_domains_are_free(handle: str) -> None:
    assert not is_reserved_handle(Handle(handle))


def test_length_is_limited_at_the_limit_exactly() -> None:
    longest = ("a" * 49 + ".") * 5 + "com"
    assert len(longest) == 253
    assert is_handle(longest)
    assert not is_handle("a" + longest)
