#!/usr/bin/env python3
# ruff: noqa: PLC0415 - a library is imported in the process that measures it
"""Measures keys, signatures and password hashing on the device it runs on.

    tools/bench_signing.py               a table
    tools/bench_signing.py --json        JSON for board_configs/; the suggested file name goes to stderr
    tools/bench_signing.py --seconds 3   longer, steadier

Each library runs in a process of its own, so that its memory is its own: what the process holds more after first use
than before the import. A figure that could not be measured is left out (JSON: absent; table: a dash), never guessed.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

DEVICE_TREE_MODEL = Path("/proc/device-tree/model")
LIBRARIES = ("coincurve", "cryptography", "PyNaCl", "orjson", "cbor2")
MESSAGE = bytes(range(150))
SECRET = b"\x11" * 32
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

Operations = dict[str, Callable[[], object]]


def ecdsa(kind: Any, parse: Callable[[bytes], Any]) -> Operations:
    key = kind.from_bytes(SECRET)
    point, signature = key.public_key.point, key.sign(MESSAGE)
    assert key.public_key.verify(MESSAGE, signature)
    return {
        "sign": lambda: key.sign(MESSAGE),
        "verify": lambda: key.public_key.verify(MESSAGE, signature),
        "parse public key": lambda: parse(point),
    }


def k256(back_end: str) -> Operations:
    from pds_lite.atproto.crypto import k256

    if back_end == "coincurve" and back_end != k256.BACKEND:
        raise ImportError("coincurve is not installed")
    k256.BACKEND = back_end
    operations = ecdsa(k256.K256Key, k256.parse_k256)
    try:
        operations["sign a commit"] = commit(k256.K256Key.from_bytes(SECRET).sign)
    except ImportError:
        print("cbor2 is missing: no commit is measured", file=sys.stderr)
    return operations


def commit(sign: Callable[[bytes], bytes]) -> Callable[[], object]:
    from pds_lite.atproto.cid import Cid
    from pds_lite.atproto.commit import sign_commit

    tree = Cid.of_cbor(b"tree")
    return lambda: sign_commit(DID, "3l2nk5swdyk2a", tree, sign)


def p256() -> Operations:
    from pds_lite.atproto.crypto import p256

    return ecdsa(p256.P256Key, p256.parse_p256)


def ed25519() -> Operations:
    from pds_lite.atproto.crypto.ed25519 import Ed25519Key, verify_ed25519

    key = Ed25519Key.from_bytes(SECRET)
    signature = key.sign(MESSAGE)
    return {
        "sign": lambda: key.sign(MESSAGE),
        "verify": lambda: verify_ed25519(key.public_key, MESSAGE, signature),
    }


def session_token() -> Operations:
    from pds_lite.atproto import jwt

    claims = {
        "scope": "com.atproto.access",
        "sub": DID,
        "aud": "did:web:pds.example.com",
        "iat": 1,
        "exp": 2,
        "jti": "3",
    }
    token = jwt.encode_hs256(claims, SECRET, "at+jwt")
    return {
        "make": lambda: jwt.encode_hs256(claims, SECRET, "at+jwt"),
        "check": lambda: jwt.decode_hs256(token, SECRET),
    }


def argon2id() -> Operations:
    from nacl.pwhash import argon2id

    memory_mb, passes = argon2_cost()
    return {
        f"hash, {memory_mb} MiB, {passes} passes": lambda: argon2id.str(
            b"correct horse battery", opslimit=passes, memlimit=memory_mb << 20
        )
    }


def argon2_cost() -> tuple[int, int]:
    from pds_lite.box import board

    limits = board.detect().limits
    return limits.argon2_mb, limits.argon2_ops


GROUPS: dict[tuple[str, str], Callable[[], Operations]] = {
    ("k256", "coincurve"): lambda: k256("coincurve"),
    ("k256", "cryptography"): lambda: k256("cryptography"),
    ("p256", "cryptography"): p256,
    ("ed25519", "PyNaCl"): ed25519,
    ("session token (HS256)", "hashlib"): session_token,
    ("argon2id", "PyNaCl"): argon2id,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time spent on each operation (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--group", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.group:
        print(json.dumps(measure_group(tuple(arguments.group), arguments.seconds)))
        return 0
    report = {**describe_device(), "results": measure_all(arguments.seconds)}
    if arguments.json:
        print(json.dumps(report, indent=2))
        print(f"suggested file: {file_name(report)}", file=sys.stderr)
    else:
        print_table(report)
    return 0 if report["results"] else 1


def measure_all(seconds: float) -> list[dict[str, Any]]:
    """Every group in its own process; one whose library is missing says so on stderr and has no rows."""
    rows: list[dict[str, Any]] = []
    for group in GROUPS:
        command = [sys.executable, __file__, "--seconds", str(seconds), "--group", *group]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode == 0:
            rows += json.loads(child.stdout)
        else:
            reason = child.stderr.strip().splitlines()[-1:] or ["no reason given"]
            print(f"not measured: {' with '.join(group)}: {reason[0]}", file=sys.stderr)
    return rows


def measure_group(group: tuple[str, ...], seconds: float) -> list[dict[str, Any]]:
    """The rows of one group, measured in this very process."""
    before = memory_kib("VmRSS")
    operations = GROUPS[group[0], group[1]]()
    for operation in operations.values():
        operation()
    after, peak = memory_kib("VmRSS"), memory_kib("VmHWM")
    rows = []
    for name, operation in operations.items():
        row = {"what": group[0], "library": group[1], "operation": name, **measure(operation, seconds)}
        if before is not None and after is not None and peak is not None:
            row |= {"memory_kib": after - before, "peak_memory_kib": peak - before}
        rows.append(row)
    return rows


def measure(operation: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Medians over rounds of about a tenth of `seconds`, at least five rounds."""
    count, spent = 1, 0.0
    while spent < min(0.005, seconds / 20):
        spent, _ = run(operation, count)
        count *= 2
    count = max(1, int(count / 2 * seconds / 10 / spent))
    rounds, start = [], time.perf_counter()
    while len(rounds) < 5 or time.perf_counter() - start < seconds:
        rounds.append(run(operation, count))
    walls = [wall / count for wall, _ in rounds]
    wall = statistics.median(walls)
    return {
        "operations_per_s": round(1 / wall, 2),
        "wall_us": round(wall * 1e6, 2),
        "cpu_us": round(statistics.median(cpu for _, cpu in rounds) / count * 1e6, 2),
        "fastest_round_us": round(min(walls) * 1e6, 2),
        "slowest_round_us": round(max(walls) * 1e6, 2),
        "operations_measured": count * len(rounds),
    }


def run(operation: Callable[[], object], count: int) -> tuple[float, float]:
    """(wall, CPU) seconds of `count` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        operation()
    return time.perf_counter() - wall, time.process_time() - cpu


def memory_kib(field: str) -> int | None:
    """A field of /proc/self/status in KiB, None where there is no such file."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def describe_device() -> dict[str, Any]:
    """What the figures hold for. The board's name comes from the device tree and is absent without one."""
    device: dict[str, Any] = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := installed(name)) is not None},
    }
    model = read_text(DEVICE_TREE_MODEL)
    if model is not None:
        device["board"] = model
    governor = read_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if governor is not None:
        device["cpu_governor"] = governor
    return device


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_text(path: Path) -> str | None:
    """The text of a small kernel file without its closing NUL or newline, None if there is none."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def file_name(report: dict[str, Any]) -> str:
    """Where the JSON of this device belongs in the checkout."""
    board = re.sub(r"[^a-z0-9]+", "-", report.get("board", report["machine"]).lower()).strip("-")
    major_minor = "".join(report["python"].split(".")[:2])
    return f"board_configs/measured/{board}-py{major_minor}-signing.json"


def print_table(report: dict[str, Any]) -> None:
    libraries = ", ".join(f"{name} {version}" for name, version in report["libraries"].items())
    print(f"{report.get('board', report['machine'])}, {report['cpus']} CPUs, Python {report['python']}; {libraries}\n")
    print(f"{'':50} {'per second':>12} {'us each':>10} {'CPU us':>10} {'memory KiB':>11} {'peak KiB':>9}")
    for row in report["results"]:
        name = f"{row['what']}: {row['operation']} ({row['library']})"
        memory, peak = row.get("memory_kib", "-"), row.get("peak_memory_kib", "-")
        print(
            f"{name:50} {row['operations_per_s']:12,.1f} {row['wall_us']:10,.1f} {row['cpu_us']:10,.1f}"
            f" {memory:>11} {peak:>9}"
        )


if __name__ == "__main__":
    sys.exit(main())
