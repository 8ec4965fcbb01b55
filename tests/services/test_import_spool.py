"""The spool finds every block by its CID, in any order, and says None for those that did not come."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid
from pds_lite.services.import_spool import ImportSpool


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=200))
def test_it_is_a_dict_of_blocks(tmp_path_factory, blocks: list[bytes]) -> None:
    spool = ImportSpool(tmp_path_factory.mktemp("spool"))
    model = {Cid.of_cbor(block): block for block in blocks}
    for block in blocks:
        spool.add(Cid.of_cbor(block), block)
    spool.seal()
    assert {cid: spool.get(cid) for cid in model} == model
    assert spool.get(Cid.of_cbor(b"never added to it")) is None
    spool.close()


def test_cids_that_differ_only_outside_the_index_are_told_apart(tmp_path: Path) -> None:
    spool = ImportSpool(tmp_path)
    head, tail = b"\x01\x71\x12\x20" + b"a" * 22, b"123456789Z"
    one, two = Cid(head + tail), Cid(b"\x01\x71\x12\x20" + b"b" * 22 + tail)
    spool.add(one, b"first")
    spool.add(two, b"second")
    spool.seal()
    assert (spool.get(one), spool.get(two)) == (b"first", b"second")
    spool.close()


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    spool = ImportSpool(tmp_path / "import")
    spool.add(Cid.of_cbor(b"x"), b"x" * 1_000_000)
    assert list((tmp_path / "import").iterdir()) == []
    spool.close()
