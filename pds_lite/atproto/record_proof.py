"""One record out of a stranger's repository, believed on a proof: the CAR that com.atproto.sync.getRecord answers.

The commit is signed by the account's key and names the tree; the blocks of the tree lead to the record. So the record
is what the account signed, whoever sent it.
"""

from pds_lite.atproto import dag_cbor
from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.mst.node import decode_node
from pds_lite.atproto.mst.tree import checked_load, get
from pds_lite.errors import BadCommit, BadTree, NotFound

MAX_BLOCKS = 1000


def proven_record(car: bytes, did: str, did_key: str, path: bytes) -> dag_cbor.Value:
    """The record at `path` (collection/rkey) of the repository of `did`, whose commits `did_key` signs.

    Raises BadCar, BadCommit, BadTree or BadData for a proof that proves nothing, NotFound for one that shows the record
    not to exist.
    """
    root, blocks = read_car(car, max_blocks=MAX_BLOCKS)

    def block_of(cid: Cid) -> bytes:
        block = blocks.get(cid)
        if block is None:
            raise BadTree("the proof lacks a block on the way to the record")
        return block

    commit = decode_commit(block_of(root))
    if commit.did != did:
        raise BadCommit(f"the proof is of the repository of {commit.did}")
    verify_commit(commit, did_key)
    found = get(decode_node(block_of(commit.data)), path, checked_load(block_of))
    if found is None:
        raise NotFound("the repository has no such record", error="RecordNotFound")
    return dag_cbor.decode(block_of(found))
