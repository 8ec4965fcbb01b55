#!/usr/bin/env python3
"""Times the hot paths of pds-lite on the machine it runs on: codec, lexicons, tree, commit, export, import.

    tools/bench_core.py                        a table
    tools/bench_core.py --json > before.json   the same with machine facts, to compare with later
    tools/bench_core.py --compare before.json  exit 1 if anything takes --factor (1.5) times as long as there
    tools/bench_core.py --only commit --quick  fewer rounds and smaller repositories; rows whose name has that word

Compared is the CPU time of the fastest round: other work on the machine disturbs it least. Figures of two machines say
nothing about the code; the tool warns and compares them none the less.
"""

import argparse
import asyncio
import copy
import json
import statistics
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tools")]

from bench_signing import describe_device, run  # noqa: E402

from pds_lite import ujson  # noqa: E402
from pds_lite.atproto import dag_cbor, data  # noqa: E402
from pds_lite.atproto.cid import Cid  # noqa: E402
from pds_lite.atproto.commit import sign_commit  # noqa: E402
from pds_lite.atproto.crypto.k256 import K256Key  # noqa: E402
from pds_lite.atproto.firehose import check_commit_frame, commit_frame  # noqa: E402
from pds_lite.atproto.lexicon import catalog  # noqa: E402
from pds_lite.atproto.mst.node import Node, Stub  # noqa: E402
from pds_lite.atproto.mst.tree import build_sparse, put, rebuild, seal, sparsify  # noqa: E402
from pds_lite.atproto.repo import Head, Write, build_commit  # noqa: E402
from pds_lite.atproto.tid import Tid, int_to_tid, make_tid, tid_to_int  # noqa: E402
from pds_lite.clock import Clock  # noqa: E402
from pds_lite.services.record_writes import RecordWrite  # noqa: E402
from pds_lite.services.repo_import import RepoImport  # noqa: E402
from pds_lite.services.repo_reader import RepoReader  # noqa: E402
from pds_lite.services.repo_writer import CommitEvent, RepoWriter  # noqa: E402
from pds_lite.services.sequencer import Sequencer, Window  # noqa: E402
from pds_lite.storage import account_store  # noqa: E402
from pds_lite.storage.store import Store  # noqa: E402

Row: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[], object]

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY = K256Key.from_bytes(b"\x11" * 32)
POST = "app.bsky.feed.post"
START_US = 1_700_000_000_000_000
NOW = "2026-11-22T12:44:16.123Z"
SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (1_000, 10_000)
SUBJECT = {
    "uri": f"at://{DID}/{POST}/3kznmn7xqxl22",
    "cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
}
LIKE_JSON = {"$type": "app.bsky.feed.like", "subject": SUBJECT, "createdAt": NOW}
POST_JSON = {
    "$type": POST,
    "text": "A post of the length that people write, with a link to example.com and a #tag; one line, no more. é",
    "createdAt": NOW,
    "langs": ["en"],
    "facets": [
        {
            "index": {"byteStart": 53, "byteEnd": 64},
            "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com/"}],
        },
        {
            "index": {"byteStart": 71, "byteEnd": 75},
            "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "tag"}],
        },
    ],
    "reply": {"root": SUBJECT, "parent": SUBJECT},
    "embed": {
        "$type": "app.bsky.embed.images",
        "images": [
            {
                "alt": "what the picture shows",
                "image": {
                    "$type": "blob",
                    "ref": {"$link": "bafkreibabalobzn6cd366ukcsjycp4yymjymgfxcv6xczmlgpemzkz3cfa"},
                    "mimeType": "image/jpeg",
                    "size": 123_456,
                },
                "aspectRatio": {"width": 1600, "height": 1200},
            }
        ],
    },
}


class Bench:
    """Runs operations whose name was asked for and keeps their rows."""

    def __init__(self, only: str, seconds: float, sizes: tuple[int, ...]) -> None:
        self.only = only
        self.seconds = seconds
        self.sizes = sizes
        self.rows: list[Row] = []

    def wants(self, name: str) -> bool:
        return self.only in name

    def time(self, name: str, operation: Operation) -> None:
        """Adds the row of something that takes microseconds and can be repeated."""
        if not self.wants(name):
            return
        count, spent = 1, 0.0
        while spent < self.seconds / 40:
            spent, _cpu = run(operation, count)
            count *= 2
        count = max(1, int(count / 2 * self.seconds / 10 / spent))
        rounds = [run(operation, count) for _ in range(10)]
        self.add(name, [wall / count for wall, _cpu in rounds], [cpu / count for _wall, cpu in rounds])

    def add(self, name: str, walls: list[float], cpus: list[float], **more: float) -> None:
        """Adds the row of rounds that were measured elsewhere, each in seconds for one operation."""
        row = {
            "name": name,
            "best_cpu_us": round(min(cpus) * 1e6, 2),
            "cpu_us": round(statistics.median(cpus) * 1e6, 2),
            "wall_us": round(statistics.median(walls) * 1e6, 2),
            **more,
        }
        self.rows.append(row)


def bench_codec(bench: Bench) -> None:
    for name, sample in (("post", POST_JSON), ("like", LIKE_JSON)):
        text = ujson.dumpb(sample)
        value = data.from_json(copy.deepcopy(sample))
        block = dag_cbor.encode(value)
        bench.time(f"{name}: JSON text to values", lambda text=text: data.from_json(ujson.loads(text)))
        bench.time(f"{name}: encode", lambda value=value: dag_cbor.encode(value))
        bench.time(f"{name}: decode, strict", lambda block=block: dag_cbor.decode(block))
        bench.time(f"{name}: decode, own", lambda block=block: dag_cbor.decode_own(block))
        bench.time(
            f"{name}: block to JSON text",
            lambda block=block: ujson.dumpb(dag_cbor.decode_own(block), data.json_default),
        )


def bench_lexicon(bench: Bench) -> None:
    known = catalog()
    for name, sample in (("post", POST_JSON), ("like", LIKE_JSON)):
        value = data.from_json(copy.deepcopy(sample))
        nsid = str(sample["$type"])
        bench.time(
            f"{name}: validate",
            lambda nsid=nsid, value=value: known.check_record(nsid, "3kznmn7xqxl22", value, None),
        )
    create, listing = known.get("com.atproto.repo.createRecord"), known.get("com.atproto.repo.listRecords")
    assert create is not None
    assert listing is not None
    body = {"repo": DID, "collection": POST, "record": POST_JSON}
    pairs = [("repo", DID), ("collection", POST), ("limit", "100")]
    bench.time("createRecord: validate input", lambda: create.check_input(body))
    bench.time("listRecords: parse parameters", lambda: listing.parse_params(pairs))


class SampleRepo:
    """A repository of posts, in memory as the server keeps it: upper layers there, lower ones rebuilt from records."""

    def __init__(self, size: int) -> None:
        block = dag_cbor.encode(data.from_json(copy.deepcopy(LIKE_JSON)))
        self.cid = Cid.of_cbor(block)
        self.block = block
        self.entries = [(path(number), self.cid) for number in range(size)]
        self.paths = [entry[0] for entry in self.entries]
        self.rev = make_tid(START_US, 1)
        self.root = build_sparse(self.entries, self.rev)
        commit, commit_block = sign_commit(DID, self.rev, self.root.cid, KEY.sign)
        self.head = Head(DID, self.rev, commit, commit_block, self.root.cid, self.root)
        self.next = size

    def load(self, stub: Stub) -> Node:
        low = 0 if stub.low is None else bisect_right(self.paths, stub.low)
        high = len(self.paths) if stub.high is None else bisect_left(self.paths, stub.high)
        return rebuild(stub, self.entries[low:high])

    def new_path(self) -> bytes:
        """A path nobody has used, newer than all others, as a client makes them."""
        self.next += 1
        return path(self.next)


def path(number: int) -> bytes:
    return f"{POST}/{make_tid(START_US + number * 7_654_321, number % 1024)}".encode()


def bench_tree(bench: Bench) -> None:
    for size in bench.sizes:
        names = [f"tree: insert into {size} records", f"commit: one create in {size} records"]
        if not any(map(bench.wants, names)):
            continue
        repo = SampleRepo(size)
        rev = int_to_tid(tid_to_int(Tid(repo.rev)) + (1 << 20))

        def insert(repo: SampleRepo = repo, rev: str = rev) -> Node:
            root = put(repo.root, repo.new_path(), repo.cid, repo.load)
            seal(root, rev)
            return sparsify(root)

        bench.time(names[0], insert)
        bench.time(names[1], lambda repo=repo, rev=rev: commit(repo, rev, 1))
        if size == bench.sizes[1]:
            bench_commit_parts(bench, repo, rev)


def commit(repo: SampleRepo, rev: str, count: int) -> None:
    """What a write costs beside store and HTTP: plan, sign, frame, and the frame undone as a relay would."""
    writes = [Write("create", repo.new_path(), repo.cid, repo.block) for _ in range(count)]
    plan = build_commit(DID, repo.head, writes, rev, KEY.sign, repo.load)
    check_commit_frame(commit_frame(START_US, NOW, plan), DID)


def bench_commit_parts(bench: Bench, repo: SampleRepo, rev: str) -> None:
    message = b"m" * 150
    writes = [Write("create", repo.new_path(), repo.cid, repo.block)]
    plan = build_commit(DID, repo.head, writes, rev, KEY.sign, repo.load)
    frame = commit_frame(START_US, NOW, plan)
    bench.time("commit: 200 creates", lambda: commit(repo, rev, 200))
    bench.time("commit: sign 150 bytes", lambda: KEY.sign(message))
    bench.time("commit: encode and sign", lambda: sign_commit(DID, rev, repo.root.cid, KEY.sign))
    bench.time("commit: plan", lambda: build_commit(DID, repo.head, writes, rev, KEY.sign, repo.load))
    bench.time("commit: frame", lambda: commit_frame(START_US, NOW, plan))
    bench.time("commit: undo the frame", lambda: check_commit_frame(frame, DID))


def bench_repository(bench: Bench) -> None:
    """Fills a store, exports it and imports the export: the services as the server runs them, without HTTP."""
    size = bench.sizes[1]
    wanted = ("store: create", f"export: {size} records", f"import: {size} records")
    if any(map(bench.wants, wanted)):
        with tempfile.TemporaryDirectory(prefix="pds-lite-bench-") as folder:
            asyncio.run(fill_export_import(bench, Path(folder), size))


async def fill_export_import(bench: Bench, folder: Path, size: int) -> None:
    async with repository(folder / "from", "active") as (_, writer, reader):
        await bench_fill(bench, writer, size)
        rounds = []
        for _ in range(5):
            start = clocks()
            car = b"".join([piece async for piece in reader.export_car()])
            rounds.append(elapsed(start))
        add_rounds(bench, f"export: {size} records", rounds, len(car))
    if bench.wants(f"import: {size} records"):
        rounds = []
        for number in range(3):
            async with repository(folder / f"to-{number}", "deactivated") as (store, writer, _):
                importer = make_importer(store, writer, folder / f"spool-{number}")
                start = clocks()
                await importer.run(pieces(car))
                rounds.append(elapsed(start))
                await importer.stop()
        add_rounds(bench, f"import: {size} records", rounds, len(car))


async def bench_fill(bench: Bench, writer: RepoWriter, size: int) -> None:
    def like(number: int) -> RecordWrite:
        value = {**LIKE_JSON, "subject": {**SUBJECT, "uri": f"at://{DID}/{POST}/{make_tid(START_US + number, 0)}"}}
        return RecordWrite("create", "app.bsky.feed.like", None, value)

    for start in range(0, size, 200):
        await writer.apply_writes([like(number) for number in range(start, start + 200)])
    rounds = []
    for number in range(size, size + 200):
        start_clocks = clocks()
        await writer.apply_writes([like(number)])
        rounds.append(elapsed(start_clocks))
    if bench.wants("store: create"):
        bench.add(f"store: create in {size} records", [wall for wall, _cpu in rounds], [cpu for _wall, cpu in rounds])


@asynccontextmanager
async def repository(folder: Path, status: str) -> AsyncIterator[tuple[Store, RepoWriter, RepoReader]]:
    """The services of a fresh repository in `folder`."""
    clock = Clock()
    store = Store.open(folder)
    sequencer = Sequencer(store, clock, Window(3600 * 1_000_000, 1 << 30), 10)
    writer = RepoWriter(store, clock, sequencer, KEY, dev=True, overlay_bytes=4 << 20)
    try:
        sequencer.start()
        writer.start()
        account = account_store.Account(DID, "alice.test", "a@example.com", False, "", status, 1)
        await writer.transact(lambda txn: account_store.put_account(txn, account), [CommitEvent(silent=True)])
        yield store, writer, RepoReader(store, writer.snapshots, clock, 2)
        await writer.stop()
    finally:
        sequencer.stop()
        store.close()


def make_importer(store: Store, writer: RepoWriter, spool: Path) -> RepoImport:
    identity: Any = SimpleNamespace()  # our own key signed: no DID document is asked for
    return RepoImport(store, writer, identity, Clock(), spool)


async def pieces(car: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(car), 1 << 16):
        yield car[start : start + (1 << 16)]


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def elapsed(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = clocks()
    return wall - start[0], cpu - start[1]


def add_rounds(bench: Bench, name: str, rounds: list[tuple[float, float]], size: int) -> None:
    """`size` in bytes: what a round moved."""
    if bench.wants(name):
        megabytes = round(size / 1e6 / min(cpu for _wall, cpu in rounds), 2)
        bench.add(name, [wall for wall, _cpu in rounds], [cpu for _wall, cpu in rounds], mb_per_cpu_s=megabytes)


def print_table(report: dict[str, Any]) -> None:
    libraries = ", ".join(f"{name} {version}" for name, version in report["libraries"].items())
    print(f"{report.get('board', report['machine'])}, {report['cpus']} CPUs, Python {report['python']}; {libraries}\n")
    print(f"{'':42} {'best CPU us':>13} {'CPU us':>13} {'us':>13} {'MB per CPU s':>13}")
    for row in report["results"]:
        speed = f"{row['mb_per_cpu_s']:13,.1f}" if "mb_per_cpu_s" in row else ""
        print(f"{row['name']:42} {row['best_cpu_us']:13,.2f} {row['cpu_us']:13,.2f} {row['wall_us']:13,.2f} {speed}")


def compare(report: dict[str, Any], before: dict[str, Any], factor: float) -> Iterator[str]:
    """Prints each row beside the old one; yields the names of those that take more than `factor` times as long."""
    for fact in ("board", "machine", "cpus", "python"):
        if report.get(fact) != before.get(fact):
            print(f"note: {fact} was {before.get(fact)}, now {report.get(fact)}", file=sys.stderr)
    old = {row["name"]: row["best_cpu_us"] for row in before["results"]}
    for row in report["results"]:
        name, now = row["name"], row["best_cpu_us"]
        if name not in old:
            print(f"{name:42} {'new':>13} {now:13,.2f}")
            continue
        ratio = now / old[name]
        slow = ratio > factor
        print(f"{name:42} {old[name]:13,.2f} {now:13,.2f} {ratio:8.2f} x{'  SLOWER' if slow else ''}")
        if slow:
            yield name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="JSON of an earlier run to compare with")
    parser.add_argument("--factor", type=float, default=1.5, help="how much slower is a regression (default 1.5)")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="shorter rounds, at most 10,000 records")
    arguments = parser.parse_args()
    before = json.loads(arguments.compare.read_text()) if arguments.compare else None
    bench = Bench(arguments.only, 0.1 if arguments.quick else 1.0, QUICK_SIZES if arguments.quick else SIZES)
    for part in (bench_codec, bench_lexicon, bench_tree, bench_repository):
        part(bench)
    if not bench.rows:
        parser.error(f"nothing is called {arguments.only!r}")
    report = {**describe_device(), "results": bench.rows}
    if arguments.json:
        print(json.dumps(report, indent=2))
    slower = list(compare(report, before, arguments.factor)) if before and not arguments.json else []
    if before is None and not arguments.json:
        print_table(report)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
