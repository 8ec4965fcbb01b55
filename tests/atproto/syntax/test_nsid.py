from pds_lite.atproto.syntax import is_nsid, is_record_key, nsid_authority, parse_nsid


def test_the_authority_is_the_domain_turned_round() -> None:
    assert nsid_authority(parse_nsid("com.Example.fooBar")) == "example.com"
    assert nsid_authority(parse_nsid("app.bsky.feed.post")) == "feed.bsky.app"


def test_length_is_limited_at_the_limit_exactly() -> None:
    longest = ("a" * 49 + ".") * 6 + "b" * 17
    assert len(longest) == 317
    assert is_nsid(longest)
    assert not is_nsid(longest + "b")


def test_every_nsid_can_be_a_record_key() -> None:
    assert is_record_key("app.bsky.feed.post")
