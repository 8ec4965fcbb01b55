"""Keys sort as what they stand for, and come back as what they were made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid
from pds_lite.errors import BadData, StoreBroken, TooLarge
from pds_lite.storage import keys

LENGTHS = st.sampled_from([40, 498, 499, 500, 501, 502, 640, 830])


@st.composite
def paths(draw: st.DrawFn) -> bytes:
    """Paths that differ at their ends, so that many share their first 500 bytes."""
    length = draw(LENGTHS)
    tail = draw(st.binary(max_size=3).map(lambda data: bytes(33 + byte % 90 for byte in data)))
    return (b"com.example.note/" + b"k" * 900)[: length - len(tail)] + tail


def stored_order(some: set[bytes]) -> list[bytes]:
    """The order in which a scan of the store meets these paths."""
    rows: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for path in some:
        bucket = keys.bucket_key(path)
        rows.setdefault(bucket or path, []).append((path, b"12345678"))
    order = []
    for key in sorted(rows):
        if keys.is_bucket(key):
            order += [path for path, _ in keys.decode_bucket(key, keys.encode_bucket(sorted(rows[key])))]
        else:
            order.append(key)
    return order


@given(st.sets(paths(), max_size=40))
def test_paths_of_any_length_are_met_in_mst_order(some: set[bytes]) -> None:
    assert stored_order(some) == sorted(some)


def test_no_key_is_longer_than_lmdb_takes() -> None:
    assert all(len(keys.bucket_key(b"x" * size) or b"x" * size) <= 511 for size in range(1, 1025))


def test_a_bucket_is_bounded() -> None:
    with pytest.raises(TooLarge):
        keys.encode_bucket([(b"x" * 501, b"12345678")] * (keys.MAX_BUCKET_PATHS + 1))


def test_a_bucket_cut_short_is_noticed() -> None:
    value = keys.encode_bucket([(b"x" * 510, b"12345678")])
    with pytest.raises(StoreBroken):
        keys.decode_bucket(b"x" * 500, value[:-1])


def test_revs_keep_their_order_and_leave_the_top_bit_free() -> None:
    revs = ["2222222222222", "3k43tv4rft22g", "3k43tv4rft22h", "bzzzzzzzzzzzz"]
    stored = [keys.rev_bytes(rev) for rev in revs]
    assert stored == sorted(stored)
    assert [keys.rev_text(rev) for rev in stored] == revs
    assert all(rev[0] < 0x80 for rev in stored)


def test_a_rev_that_would_need_the_top_bit_is_refused() -> None:
    with pytest.raises(BadData):
        keys.rev_bytes("c222222222222")


ODD = Cid.decode(b"\x01\x55\x1e\x20" + b"h" * 32)


@pytest.mark.parametrize("cid", [Cid.of_raw(b"x"), Cid.of_cbor(b"x"), ODD], ids=str)
def test_a_blob_key_names_its_cid(cid: Cid) -> None:
    assert keys.blob_cid(keys.blob_key(cid)) == cid
    assert keys.blob_cid(keys.blob_ref_key(cid, b"a/b")) == cid


def test_references_of_one_blob_are_one_range() -> None:
    cids = [Cid.of_raw(bytes([number])) for number in range(50)] + [ODD, Cid.of_cbor(b"x")]
    rows = sorted(keys.blob_ref_key(cid, path) for cid in cids for path in (b"a/b", b"c/d"))
    for cid in cids:
        start, stop = keys.blob_key(cid), keys.key_after(keys.blob_key(cid))
        found = [row for row in rows if row >= start and (stop is None or row < stop)]
        assert {keys.blob_cid(row) for row in found} == {cid}
        assert len(found) == 2


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_key_after_is_the_end_of_a_prefix(prefix: bytes, other: bytes) -> None:
    end = keys.key_after(prefix)
    inside = other >= prefix and (end is None or other < end)
    assert inside == other.startswith(prefix)
