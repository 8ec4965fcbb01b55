#!/usr/bin/env python3
# ruff: noqa: PLC0415 - what only the box needs is imported in its process
"""What passing a call on costs: CPU of the box per request, bytes a second through it, and its memory meanwhile.

    tools/bench_proxy.py            a table
    tools/bench_proxy.py --json     the same with machine facts

Box, AppView and client are processes of their own, and only the box's CPU is counted. The AppView answers with bytes
made beforehand; `read-after-write` has one fresh post to put into a timeline of fifty.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tools")]

from bench_signing import describe_device  # noqa: E402

APPVIEW_DID = "did:web:appview.example"
PASSWORD = "a password for a bench"
TIMELINE_POSTS = 50
LARGE = 64 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def timeline() -> bytes:
    """A timeline of the size apps see."""
    author = {"did": "did:plc:bv6ggog3tya2z3vxsub7hnal", "handle": "bob.example", "displayName": "Bob", "labels": []}
    posts = [
        {
            "uri": f"at://did:plc:bv6ggog3tya2z3vxsub7hnal/app.bsky.feed.post/3k{number:011}",
            "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454",
            "author": author,
            "record": {"$type": "app.bsky.feed.post", "text": "x" * 200, "createdAt": "2024-01-01T00:00:00.000Z"},
            "likeCount": 1,
            "indexedAt": f"2024-01-01T00:{59 - number:02}:00.000Z",
            "viewer": {},
            "labels": [],
        }
        for number in range(TIMELINE_POSTS)
    ]
    return json.dumps({"feed": [{"post": post} for post in posts], "cursor": "c"}).encode()


async def _appview(listener: socket.socket, rev: str) -> None:
    small = b'{"ok":true}'

    def answer(body: bytes, *headers: str) -> bytes:
        lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
        return "\r\n".join(lines).encode() + body

    answers = {
        b"getConfig": answer(small),
        b"getTimeline": answer(timeline(), f"Atproto-Repo-Rev: {rev}"),
        b"getDiscover": answer(timeline()),
        b"getLarge": answer(b"x" * LARGE),
    }

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                name = head.partition(b" HTTP/")[0].rpartition(b".")[2]
                if b"content-length: " in head:
                    left = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
                    while left:
                        left -= len(await reader.read(min(left, 1 << 18)))
                writer.write(answers.get(name, answers[b"getConfig"]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(visited, sock=listener)
    await server.serve_forever()


def _run_appview(listener: socket.socket, rev: Any) -> None:
    asyncio.run(_appview(listener, rev.value.decode()))


async def _box(folder: Path, port: int, appview: str, say: Any) -> None:
    from pds_lite import config as settings
    from pds_lite.app import build
    from pds_lite.box import setup

    settings.write_initial(folder, hostname=f"localhost:{port}", dev=True)
    given = {"port": port, "mdns": False, "appview_url": appview, "appview_did": APPVIEW_DID, "rate_limits": False}
    app = build(settings.load(folder, environ={}, overrides=given))
    app.start()
    services = app.services
    await setup.make_account(
        services, handle="alice.test", email="a@example.com", password=PASSWORD, did_method="plc", publish=False
    )
    head = services.repo.head
    account = services.account.require()
    assert head is not None
    tokens = await services.sessions.open(account.did, None, privileged=True)
    await app.serve(lambda: say.send((account.did, tokens.access_jwt, head.rev)))
    await app.stop()


def _run_box(folder: Path, port: int, appview: str, say: Any) -> None:
    asyncio.run(_box(folder, port, appview, say))


class Client:
    """One connection to the box that asks one thing after the other."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = port
        self._token = token

    def ask(self, verb: str, nsid: str, body: bytes = b"", pieces: int = 1) -> int:
        """Bytes of the answer's body; the request's body is sent `pieces` times."""
        length = f"Content-Length: {len(body) * pieces}\r\nContent-Type: application/json\r\n" if body else ""
        head = f"{verb} /xrpc/{nsid} HTTP/1.1\r\nHost: localhost:{self._port}\r\n{length}"
        self._socket.sendall(f"{head}Authorization: Bearer {self._token}\r\n\r\n".encode())
        for _ in range(pieces if body else 0):
            self._socket.sendall(body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(1 << 18)
        head_bytes, _, rest = answer.partition(b"\r\n\r\n")
        if not head_bytes.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{nsid}: {answer[:300]!r}")
        size = int(head_bytes.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        buffer, received = bytearray(1 << 18), len(rest)
        while received < size:
            received += self._socket.recv_into(buffer)
        return size


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / _TICKS


def resident_kb(pid: int) -> int:
    """Memory a process has in RAM now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class MemoryWatch(threading.Thread):
    """The most that a process holds while this runs, in kB. (VmHWM would still tell of the password hash at start.)"""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, resident_kb(self._pid))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.most


def measure(pid: int, client: Client, rounds: int) -> list[dict[str, Any]]:
    """One row per kind of call."""
    rows = []
    kinds = (
        ("not passed on: getSession", "GET", "com.atproto.server.getSession", b"", rounds),
        ("small GET", "GET", "app.bsky.unspecced.getConfig", b"", rounds),
        ("small POST", "POST", "app.bsky.notification.updateSeen", b'{"seenAt":"2026-01-01T00:00:00Z"}', rounds),
        ("timeline, passed", "GET", "app.bsky.feed.getDiscover", b"", rounds // 2),
        ("timeline, read-after-write", "GET", "app.bsky.feed.getTimeline", b"", rounds // 4),
    )
    for name, verb, nsid, body, times in kinds:
        client.ask(verb, nsid, body)
        cpu, begun = cpu_s(pid), time.perf_counter()
        for _ in range(times):
            size = client.ask(verb, nsid, body)
        used, passed = cpu_s(pid) - cpu, time.perf_counter() - begun
        rows.append({"name": name, "cpu_us": round(used / times * 1e6), "per_s": round(times / passed), "bytes": size})
    for name, verb, pieces in (("64 MiB down", "GET", 0), ("64 MiB up", "POST", LARGE >> 18)):
        nsid = "com.example.getLarge" if verb == "GET" else "com.example.putLarge"
        cpu, begun = cpu_s(pid), time.perf_counter()
        client.ask(verb, nsid, b"x" * (1 << 18) if pieces else b"", pieces or 1)
        passed = time.perf_counter() - begun
        rows.append({"name": name, "cpu_s": round(cpu_s(pid) - cpu, 3), "mib_per_s": round((LARGE >> 20) / passed)})
    return rows


def bench(rounds: int) -> dict[str, Any]:
    """Starts the three and measures."""
    context = multiprocessing.get_context("spawn")
    rev = context.Array("c", 64)
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        hear, say = context.Pipe(duplex=False)
        appview = f"http://localhost:{listener.getsockname()[1]}"
        box = context.Process(target=_run_box, args=(Path(folder) / "box", port, appview, say))
        box.start()
        did, token, head = hear.recv()
        rev.value = head.encode()
        service = context.Process(target=_run_appview, args=(listener, rev), daemon=True)
        service.start()
        try:
            pid = box.pid or 0
            client = Client(port, token)
            record = {"$type": "app.bsky.feed.post", "text": "fresh", "createdAt": "2026-01-01T00:00:00Z"}
            body = {"repo": did, "collection": "app.bsky.feed.post", "record": record}
            client.ask("POST", "com.atproto.repo.createRecord", json.dumps(body).encode())
            before = resident_kb(pid)
            watch = MemoryWatch(pid)
            watch.start()
            rows = measure(pid, client, rounds)
            peak = watch.end()
        finally:
            box.terminate()
            service.terminate()
            box.join(10)
    return {"device": describe_device(), "rows": rows, "rss_before_kb": before, "rss_peak_kb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = bench(given.rounds)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    for row in result["rows"]:
        print(f"{row['name']:28}", "  ".join(f"{name} {value}" for name, value in row.items() if name != "name"))
    print(f"{'memory':28} {result['rss_before_kb']} kB before, {result['rss_peak_kb']} kB at most")


if __name__ == "__main__":
    main()
