from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from pds_lite.atproto.cid import Cid, texts
from pds_lite.atproto.multibase import encode_base32, encode_base58
from pds_lite.errors import BadData, BadSyntax

SHA2_512 = bytes((1, 0x71, 0x13, 64))


@given(st.binary(max_size=50))
def test_cids_agree_with_an_independent_implementation(block: bytes) -> None:
    digest = (0x12, sha256(block).digest())
    for ours, codec in ((Cid.of_cbor(block), "dag-cbor"), (Cid.of_raw(block), "raw")):
        theirs = CID("base32", 1, codec, digest)
        assert (str(ours), bytes(ours)) == (str(theirs), bytes(theirs))


@given(st.binary(max_size=20))
def test_every_way_to_make_a_cid_gives_the_same(block: bytes) -> None:
    digest = sha256(block).digest()
    assert Cid.of_cbor(block) == Cid.of_cbor_digest(digest)
    assert Cid.of_raw(block) == Cid.of_raw_digest(digest)
    for cid in (Cid.of_cbor(block), Cid.of_raw(block)):
        assert Cid.parse(str(cid)) == Cid.decode(bytes(cid)) == cid
        assert Cid.parse(encode_base58(cid)) == cid
        assert type(Cid.parse(str(cid))) is Cid
        assert cid.digest == digest
        assert cid.matches(block)
        assert not cid.matches(block + b"x")


@given(st.lists(st.binary(max_size=4), max_size=90), st.lists(st.integers(0, 89), max_size=2))
def test_many_texts_at_once_are_those_of_each(blocks: list[bytes], odd_places: list[int]) -> None:
    cids = [Cid.of_raw(block) if len(block) % 2 else Cid.of_cbor(block) for block in blocks]
    for place in odd_places:
        cids.insert(place, Cid.decode(SHA2_512 + bytes(64)))
    assert texts([bytes(cid) for cid in cids]) == [str(cid) for cid in cids]


def test_the_kind_of_a_cid_shows() -> None:
    cbor, raw, odd = Cid.of_cbor(b""), Cid.of_raw(b""), Cid.decode(SHA2_512 + bytes(64))
    assert [(c.is_blessed, c.is_cbor, c.is_raw) for c in (cbor, raw, odd)] == [
        (True, True, False),
        (True, False, True),
        (False, False, False),
    ]
    assert repr(raw) == f"Cid({raw})"


def test_foreign_kinds_are_kept_byte_for_byte() -> None:
    odd = Cid.decode(SHA2_512 + bytes(64))
    assert bytes(odd) == SHA2_512 + bytes(64)
    assert Cid.parse(str(odd)) == odd
    assert not odd.matches(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x12\x20" + bytes(32),  # version 0
        bytes((2, 0x71, 0x12, 32)) + bytes(32),
        bytes((1, 0x71, 0x12, 32)) + bytes(31),
        bytes((1, 0x71, 0x12, 32)) + bytes(33),
        bytes((1, 0x71, 0x12, 16)) + bytes(16),  # a shortened sha2-256
        bytes((1, 0x71, 0x12)),
        b"\x01\xf1\x00\x12\x20" + bytes(32),  # 0x71 written in two bytes
        bytes((1, 0x71, 0x13, 0x7F)) + bytes(0x7F),
    ],
)
def test_malformed_binary_cids_are_refused(data: bytes) -> None:
    with pytest.raises(BadData):
        Cid.decode(data)
    with pytest.raises(BadSyntax):
        Cid.parse(encode_base32(data))


@given(st.data())
def test_a_changed_letter_is_refused_or_another_cid(data: st.DataObject) -> None:
    """The quick path for usual CIDs must judge as the general one does."""
    text = str(data.draw(st.sampled_from([Cid.of_cbor, Cid.of_raw]))(data.draw(st.binary(max_size=4))))
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567A1_+= ")) + text[place + 1 :]
    try:
        cid = Cid.parse(changed)
    except BadSyntax:
        return
    assert str(cid) == changed


@pytest.mark.parametrize("cid", [Cid.of_cbor(b""), Cid.of_raw(b"1")], ids=str)
def test_spare_bits_must_be_zero_so_that_no_two_texts_mean_the_same(cid: Cid) -> None:
    text, letters = str(cid), "abcdefghijklmnopqrstuvwxyz234567"
    place = letters.index(text[-1])
    assert place % 4 == 0
    for spare in (1, 2, 3):
        with pytest.raises(BadSyntax):
            Cid.parse(text[:-1] + letters[place + spare])


def test_a_letter_across_the_prefix_and_the_hash_is_checked() -> None:
    """The seventh letter holds the last two bits of the hash length and the first three of the hash."""
    text = str(Cid.of_raw(b""))
    for letter in "ijklmnopqrstuvwxyz234567":
        with pytest.raises(BadSyntax):
            Cid.parse(text[:7] + letter + text[8:])


@pytest.mark.parametrize("text", ["", ".", "b", "bafy", "Qm" + "a" * 44, "bafyrei_" + "a" * 51, "bafyrei" + "a" * 53])
def test_texts_that_are_no_cid_are_refused(text: str) -> None:
    with pytest.raises(BadSyntax):
        Cid.parse(text)
