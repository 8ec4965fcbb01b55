"""Single values: each limit holds exactly at its edge, and the shortcuts never accept what the whole rule refuses."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.lexicon import scalars
from pds_lite.atproto.lexicon.definitions import Integer, String
from pds_lite.atproto.lexicon.scalars import Check, Refusal

RAW = Cid.of_raw(b"picture")
FAMILY = "👩‍👩‍👦‍👦"


def text(**limits: Any) -> Check:
    names = (
        "format", "min_length", "max_length", "min_graphemes", "max_graphemes", "enum", "const", "default",
    )  # fmt: skip
    return scalars.string(String(**{name: limits.get(name) for name in names}))


def number(**limits: Any) -> Check:
    names = ("minimum", "maximum", "enum", "const", "default")
    return scalars.integer(Integer(**{name: limits.get(name) for name in names}))


def accepts(check: Check, value: object) -> bool:
    try:
        check(value)
    except Refusal:
        return False
    return True


def test_lengths_count_utf8_bytes() -> None:
    check = text(min_length=4, max_length=8)
    assert [accepts(check, "é" * count) for count in range(1, 6)] == [False, True, True, True, False]
    assert [accepts(check, "x" * count) for count in (3, 4, 8, 9)] == [False, True, True, False]
    assert [accepts(check, "😀" * count) for count in (0, 1, 2, 3)] == [False, True, True, False]


@given(st.text(max_size=12), st.integers(0, 12), st.integers(0, 40))
def test_lengths_agree_with_encoding(value: str, low: int, high: int) -> None:
    size = len(value.encode())
    assert accepts(text(min_length=low, max_length=high), value) == (low <= size <= high)


def test_a_lone_surrogate_is_a_length_not_a_crash() -> None:
    assert accepts(text(max_length=3), "\ud800")
    assert not accepts(text(max_length=2), "\ud800")


def test_graphemes_count_what_a_reader_sees() -> None:
    check = text(min_graphemes=2, max_graphemes=3)
    for one in ("x", "e\u0301", "\r\n", FAMILY, "🇩🇪", "🏳️‍🌈", "각", "नि"):
        counts = [accepts(check, one * count) for count in (1, 2, 3, 4)]
        assert counts == [False, True, True, False], unicodedata.name(one[0], repr(one))


def test_code_points_within_the_limit_need_no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_text: str) -> int:
        raise AssertionError("counted")

    monkeypatch.setattr(scalars, "_count_graphemes", refuse)
    assert accepts(text(max_graphemes=300, max_length=3000), "é" * 300)


def test_300_graphemes_is_a_post_and_301_is_not() -> None:
    check = text(max_graphemes=300, max_length=3000)
    assert accepts(check, "é" * 300)
    with pytest.raises(Refusal, match="must not be longer than 300 graphemes"):
        check("é" * 301)
    assert accepts(check, "e\u0301" * 300)


def test_enum_and_const_are_exact() -> None:
    assert accepts(text(enum=("a", "b")), "a")
    assert not accepts(text(enum=("a", "b")), "A")
    assert accepts(text(const="a"), "a")
    assert not accepts(text(const="a"), "b")
    assert not accepts(text(enum=()), "a")
    assert accepts(number(enum=(4, 9)), 9)
    assert not accepts(number(enum=(4, 9)), 5)
    assert not accepts(number(const=0), 1)
    assert not accepts(number(const=1), True)
    assert accepts(scalars.boolean(None), False)
    assert accepts(scalars.boolean(False), False)
    assert not accepts(scalars.boolean(False), True)
    assert not accepts(scalars.boolean(None), 0)


@pytest.mark.parametrize("value", [None, True, 1.0, "1", [1], {"x": 1}])
def test_an_integer_is_nothing_else(value: object) -> None:
    assert not accepts(number(), value)


def test_an_integer_stays_in_its_range_and_in_what_json_carries() -> None:
    check = number(minimum=-1, maximum=3)
    assert [value for value in range(-4, 8) if accepts(check, value)] == [-1, 0, 1, 2, 3]
    assert accepts(number(), 2**53 - 1)
    assert accepts(number(), 1 - 2**53)
    assert not accepts(number(), 2**53)
    assert not accepts(number(), -(2**53))


@pytest.mark.parametrize("name", sorted(scalars._FORMATS))
def test_every_format_refuses_other_types_and_nonsense(name: str) -> None:
    for value in (None, 1, b"x", ["x"], "", " ", "\n", "\x00", "é", "a b"):
        assert not accepts(text(format=name), value), value


GOOD = {
    "at-identifier": ["did:web:example.com", "alice.example.com"],
    "at-uri": ["at://alice.example.com", "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3kznmn7xqxl22"],
    "cid": [str(RAW)],
    "datetime": ["1985-04-12T23:20:50Z", "2024-02-29T23:59:59.123456+05:30"],
    "did": ["did:web:example.com", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"],
    "handle": ["alice.example.com", "A.B"],
    "language": ["en", "pt-BR", "zh-Hant-TW"],
    "nsid": ["app.bsky.feed.post", "com.example.fooBar2"],
    "record-key": ["self", "3kznmn7xqxl22", "a~b:c_d"],
    "tid": ["3kznmn7xqxl22"],
    "uri": ["https://example.com/a", "at://alice.example.com", "mailto:a@example.com"],
}


def test_every_format_accepts_its_own() -> None:
    assert GOOD.keys() == scalars._FORMATS.keys()
    for name, values in GOOD.items():
        for value in values:
            assert accepts(text(format=name), value), (name, value)
            assert accepts(text(format=name, max_length=200), value), (name, value)


@pytest.mark.parametrize("name", sorted(scalars.COMMON_FORMS))
@given(data=st.data())
def test_the_common_form_of_a_format_holds_valid_values_only(name: str, data: st.DataObject) -> None:
    value = data.draw(st.from_regex(scalars.COMMON_FORMS[name], fullmatch=True))
    assert scalars._FORMATS[name][0](value)


def test_a_cid_text_must_be_the_one_way_to_write_that_cid() -> None:
    check = text(format="cid")
    for good in (str(RAW), str(Cid.of_cbor(b"x"))):
        assert accepts(check, good), good
    for bad in (
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        str(RAW).upper(),
        str(RAW)[:-1],
        str(RAW) + "a",
        str(RAW)[:-1] + "b",
        "b" * 59,
        "zdj7WhuEjrB",
    ):
        assert not accepts(check, bad), bad


def test_bytes_and_links_are_told_apart() -> None:
    check = scalars.byte_string(2, 3)
    assert [accepts(check, b"x" * count) for count in range(5)] == [False, False, True, True, False]
    assert not accepts(scalars.byte_string(0, None), RAW)
    assert not accepts(scalars.byte_string(0, None), "xx")
    assert accepts(scalars.cid_link, RAW)
    assert not accepts(scalars.cid_link, bytes(RAW))
    assert not accepts(scalars.cid_link, str(RAW))


def test_unknown_is_an_object_and_no_other_kind_of_data() -> None:
    assert accepts(scalars.unknown, {})
    assert accepts(scalars.unknown, {"$type": "com.example.thing", "x": None})
    for value in (None, 1, "x", [], b"x", RAW, blob(), {"$link": str(RAW)}, {"$bytes": "AAAA"}):
        assert not accepts(scalars.unknown, value), value


def blob(**changes: Any) -> dict[str, Any]:
    value = {"$type": "blob", "ref": RAW, "mimeType": "image/png", "size": 10, **changes}
    return {key: entry for key, entry in value.items() if entry is not None}


def test_a_blob_has_exactly_its_four_fields() -> None:
    check = scalars.blob(None, None)
    assert accepts(check, blob())
    for broken in (
        None, "x", [], {}, blob(ref=None), blob(size=None), blob(mimeType=None), blob(extra=1),
        blob(**{"$type": "Blob"}), blob(ref=str(RAW)), blob(ref=bytes(RAW)), blob(ref={"$link": str(RAW)}),
        blob(size=-1), blob(size="10"), blob(size=True), blob(mimeType="png"), blob(mimeType=1),
        {"cid": str(RAW), "mimeType": "image/png"},
    ):  # fmt: skip
        assert not accepts(check, broken), broken


def test_a_blob_keeps_to_type_and_size() -> None:
    images = scalars.blob(("image/*", "video/mp4"), 10)
    assert accepts(images, blob())
    assert accepts(images, blob(mimeType="video/mp4"))
    assert not accepts(images, blob(mimeType="video/mp4a"))
    assert not accepts(images, blob(mimeType="video/webm"))
    assert not accepts(images, blob(mimeType="imagex/png"))
    assert not accepts(images, blob(size=11))
    assert accepts(scalars.blob(("*/*",), None), blob(mimeType="text/html"))
    assert not accepts(scalars.blob((), None), blob())
