"""A subscriber that believes nothing: it rebuilds the repository from the stream, event by event, across crashes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from pds_lite.atproto import firehose
from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit


class Follower:
    """What the stream has said so far. `take` fails on a gap, a repeat, or anything that does not verify."""

    def __init__(self, url: str, did: str, did_key: str, resync: Callable[[], dict[str, Cid]]) -> None:
        """`resync` fetches all records, which a #sync asks a consumer to do."""
        self._url = f"ws://127.0.0.1:{urlsplit(url).port}/xrpc/com.atproto.sync.subscribeRepos"
        self._did = did
        self._did_key = did_key
        self._resync = resync
        self.seq = 0
        self.rev = ""
        self.data: Cid | None = None
        self.active = True
        self.records: dict[str, Cid] = {}
        self.events = 0
        self.problem: BaseException | None = None
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Connects with the last cursor and takes what comes until the connection ends."""
        self._thread = threading.Thread(target=self._run, name="follower")
        self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(30)
            assert not self._thread.is_alive()
        if self.problem is not None:
            raise self.problem

    def _run(self) -> None:
        try:
            with connect(f"{self._url}?cursor={self.seq}", max_size=5_000_000, compression=None) as socket:
                while True:
                    frame = socket.recv()
                    assert isinstance(frame, bytes)
                    self.take(frame)
        except (OSError, EOFError, WebSocketException):
            return  # the server is gone, which is what these tests are about
        except BaseException as problem:  # noqa: BLE001 - raised in join
            self.problem = problem

    def take(self, frame: bytes) -> None:
        header, body = firehose.decode_frame(frame)
        assert header["op"] == 1, body
        assert body["seq"] > self.seq, f"event {body['seq']} after {self.seq}: a repeat"
        match header["t"]:
            case "#commit":
                self._commit(frame, firehose.parse_commit(body))
            case "#sync":
                self._sync(body["rev"], body["blocks"])
            case "#account":
                self.active = body["active"]
            case kind:
                assert kind == "#identity"
        self.seq = body["seq"]
        self.events += 1

    def _commit(self, frame: bytes, event: firehose.CommitEvent) -> None:
        firehose.check_commit_frame(frame, self._did, self._did_key)
        assert self.active, "a commit of an inactive account"
        assert event.since == (self.rev or None), f"a gap: since {event.since} after {self.rev}"
        assert event.prev_data == self.data
        for op in event.ops:
            path = op.path.decode()
            assert self.records.get(path) == op.prev, f"{path} was not what the event says"
            if op.cid is None:
                del self.records[path]
            else:
                self.records[path] = op.cid
        commit = decode_commit(read_car(event.blocks)[1][event.commit])
        self.rev, self.data = event.rev, commit.data

    def _sync(self, rev: str, car: bytes) -> None:
        root, blocks = read_car(car)
        commit = decode_commit(blocks[root])
        verify_commit(commit, self._did_key)
        assert (commit.did, commit.rev) == (self._did, rev)
        assert rev >= self.rev
        if commit.data != self.data:
            self.records = self._resync()
        self.rev, self.data = rev, commit.data
