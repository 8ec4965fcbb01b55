"""npm @atproto/repo and @atproto/sync follow a long random life of our repo, frame by frame, verifying everything."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from pds_lite.atproto.car import read_car
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.firehose import commit_frame
from pds_lite.atproto.mst.node import parse_node
from pds_lite.errors import BadTree
from tests.atproto.repos import DID, KEYS, LAYERS, ModelRepo, create, delete, update

pytestmark = pytest.mark.interop
ORACLE = Path(__file__).resolve().parent / "repo_oracle.mjs"
TIME = "2026-11-22T12:44:16.123Z"


HIGH, LOW = LAYERS[3][0], LAYERS[0][0]
CHANGING_HEIGHT = [
    {},
    {HIGH: False},
    {HIGH: True, LOW: False},
    {LOW: True, HIGH: False},
    {HIGH: True},
    {LOW: False},
    {LOW: True},
]
"""The only record is replaced by one of another layer, in one commit and in two."""


def random_life(chance, commits):
    """Batches {key: does it go}: single writes and large ones, growing, shrinking to nothing, growing again."""
    long_key = b"a." + b"b" * 250 + b".c/" + b"r" * 512
    pool = [*KEYS, long_key, *(b"com.example.d/%d" % number for number in range(1500))]
    there = set()
    for number in range(commits):
        shrinking = number % 40 >= 28
        batch = {}
        for _ in range(chance.choice((1, 1, 1, 2, 5, 40, 200))):
            again = there and chance.random() < (0.9 if shrinking else 0.2)
            key = chance.choice(sorted(there) if again else pool)
            if key not in batch:
                batch[key] = key in there and (shrinking or chance.random() < 0.5)
        for key, gone in batch.items():
            (there.discard if gone else there.add)(key)
        yield batch


def write_life(chance, key, commits=120):
    """(plans, lines for the oracle)."""
    repo = ModelRepo(key.sign)
    plans, lines = [], [{"did": DID, "key": key.did_key}]
    for number, batch in enumerate([*CHANGING_HEIGHT, *random_life(chance, commits)]):
        writes = []
        for path, gone in batch.items():
            content = str(chance.random())
            writes.append(delete(path) if gone else (update if path in repo.records else create)(path, content))
        plan = repo.commit(writes)
        plans.append(plan)
        named = [[write.action, write.path.decode(), str(write.cid) if write.cid else None] for write in writes]
        lines.append({"writes": named, "frame": commit_frame(number + 1, TIME, plan).hex()})
    return plans, lines


def is_node(block):
    try:
        parse_node(block)
    except BadTree:
        return False
    return True


def test_npm_verifies_every_commit_and_agrees_on_every_root(reference_node):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    plans, lines = write_life(random.Random(seed), K256Key.from_bytes(b"\x11" * 32))
    assert sum(len(plan.ops) for plan in plans) > 2000

    node, ref_dir = reference_node
    run = subprocess.run(
        [node, str(ORACLE)],
        input="\n".join(map(json.dumps, lines)),
        env={**os.environ, "REF_DIR": str(ref_dir), "LOG_ENABLED": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(plans)

    for plan, answer in zip(plans, answers, strict=True):
        assert "error" not in answer, answer["error"]
        assert answer["header"] == {"op": 1, "t": "#commit"}
        assert answer["root"] == answer["data"] == str(plan.head.data), "npm's tree, our commit's, our head's"
        assert answer.get("prevData") == (str(plan.prev_data) if plan.prev_data else None)
        if plan.prev_data:
            assert answer["inverted"] == str(plan.prev_data)
        blocks = read_car(plan.blocks)[1]
        assert answer["covering"] == sorted(str(cid) for cid, block in blocks.items() if is_node(block))
        assert sorted(op[:2] for op in answer["diff"]) == sorted([op.action, op.path.decode()] for op in plan.ops)
        expected = [[op.action, op.path.decode(), *([str(op.cid)] if op.cid else [])] for op in plan.ops]
        assert [[part for part in op if part is not None] for op in answer["announced"]] == expected
