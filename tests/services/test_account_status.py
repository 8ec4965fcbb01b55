"""account_status: the numbers migration tools compare."""

from hypothesis import given
from hypothesis import strategies as st

from pds_lite.atproto.cid import Cid
from pds_lite.atproto.mst import tree
from pds_lite.services.account_status import count_nodes

paths = st.sets(st.integers(0, 2000).map(lambda number: f"app.bsky.feed.post/{number:05d}".encode()), max_size=300).map(
    sorted
)


@given(paths)
def test_nodes_are_counted_without_building_the_tree(keys: list[bytes]) -> None:
    """The count equals the nodes of the real tree, intermediate empty ones included."""
    value = Cid.of_cbor(b"\xa0")
    root = tree.build([(key, value) for key in keys])

    def load(stub: object) -> tree.Node:
        raise AssertionError("a tree built whole has no stubs")

    assert count_nodes(keys) == sum(1 for _ in tree.walk_nodes(root, load))
