"""repo_verify: a CAR in export order is accepted whole, and refused with anything wrong in it."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from pds_lite.atproto import car, commit, dag_cbor
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.mst import tree
from pds_lite.atproto.mst.node import Node, block_of
from pds_lite.errors import PdsError
from pds_lite.services.repo_verify import Verified, verify_car

KEY = K256Key.from_bytes(bytes(31) + b"\x07")
DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
REV = "3kaaaaaaaaaaa"
Block = tuple[Cid, bytes]


def repository(count: int) -> list[Block]:
    """All blocks of a signed repository of `count` records, in pre-order."""
    records = {
        f"com.example.thing/{number:04d}".encode(): dag_cbor.encode({"$type": "com.example.thing", "n": number})
        for number in range(count)
    }
    root = tree.build([(path, Cid.of_cbor(block)) for path, block in records.items()])
    tree.seal(root, REV)
    signed, block = commit.sign_commit(DID, REV, root.cid, KEY.sign)
    return [(signed, block), *_preorder(root, records)]


def _preorder(node: Node, records: dict[bytes, bytes]) -> list[Block]:
    blocks = [(node.cid, block_of(node))]
    for index, subtree in enumerate(node.trees):
        if isinstance(subtree, Node):
            blocks += _preorder(subtree, records)
        if index < len(node.keys):
            blocks.append((node.values[index], records[node.keys[index]]))
    return blocks


def check(blocks: list[Block], did: str = DID, key: K256Key = KEY) -> Verified:
    data = b"".join(car.write_car(blocks[0][0], blocks))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    return asyncio.run(verify_car(pieces(), did, key.did_key))


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_a_whole_repository_is_accepted(count: int) -> None:
    blocks = repository(count)

    verified = check(blocks)

    assert (verified.records, verified.nodes) == (count, len(blocks) - 1 - count)
    assert (verified.did, verified.rev, verified.commit) == (DID, REV, str(blocks[0][0]))


def test_each_missing_foreign_or_exchanged_block_is_refused() -> None:
    blocks = repository(60)
    chance = random.Random(5)
    foreign = dag_cbor.encode({"$type": "com.example.thing", "n": 99999})
    for position in chance.sample(range(1, len(blocks) - 1), 12):
        without = blocks[:position] + blocks[position + 1 :]
        replaced = [*blocks[:position], (Cid.of_cbor(foreign), foreign), *blocks[position + 1 :]]
        exchanged = [*blocks[:position], blocks[position + 1], blocks[position], *blocks[position + 2 :]]
        for wrong in (without, replaced, exchanged):
            with pytest.raises(PdsError):
                check(wrong)
    with pytest.raises(PdsError):
        check(blocks[:-1])
    with pytest.raises(PdsError):
        check([*blocks, blocks[1]])


def test_another_account_or_key_is_refused() -> None:
    blocks = repository(3)
    with pytest.raises(PdsError, match="repository of"):
        check(blocks, did="did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
    with pytest.raises(PdsError, match="signature"):
        check(blocks, key=K256Key.from_bytes(bytes(31) + b"\x08"))
