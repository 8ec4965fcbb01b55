"""The stream over a real websocket, read by another implementation of websockets."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pds_lite.atproto import firehose
from tests.live_box import LiveBox, live_box

NSID = "com.atproto.sync.subscribeRepos"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        yield running


def stream(box: LiveBox, query: str = "", sock: socket.socket | None = None) -> ClientConnection:
    url = f"ws://127.0.0.1:{box.port}/xrpc/{NSID}{query}"
    return connect(url, sock=sock, compression=None, max_size=None, max_queue=1)


def narrow_socket(box: LiveBox) -> socket.socket:
    """Connected, with a small receive window: by itself the kernel may take 30 MB for a reader who does not read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    raw.connect(("127.0.0.1", box.port))
    return raw


def receive(socket: ClientConnection) -> tuple[dict[str, Any], dict[str, Any]]:
    message = socket.recv(timeout=60)
    assert isinstance(message, bytes)
    return firehose.decode_frame(message)


def create(box: LiveBox, token: str, number: int) -> Any:
    record = {"repo": box.did, "collection": "com.example.thing", "record": {"i": number}}
    return box.post("com.atproto.repo.createRecord", record, token).json


def test_creation_is_told_in_order_and_writes_arrive_live(box: LiveBox) -> None:
    token = box.token()
    with stream(box, "?cursor=0") as replay, stream(box) as live:
        assert [receive(replay)[0]["t"] for _ in range(4)] == ["#identity", "#account", "#commit", "#sync"]
        for i in range(20):
            made = create(box, token, i)
            for socket in (replay, live):
                header, body = receive(socket)
                assert (header["t"], str(body["commit"]), body["rev"]) == ("#commit", *made["commit"].values())


def test_coming_back_is_told_as_the_reference_tells_it(box: LiveBox) -> None:
    token = box.token()
    with stream(box) as live:
        assert box.server("deactivateAccount", {}, token).status == 200
        assert box.server("activateAccount", token=token).status == 200
        told = [receive(live) for _ in range(4)]
    assert [header["t"] for header, _ in told] == ["#account", "#account", "#identity", "#sync"]
    assert [body.get("active") for _, body in told] == [False, True, None, None]


def test_a_cursor_ahead_is_an_error_frame_and_the_end(box: LiveBox) -> None:
    with stream(box, f"?cursor={2**52}") as socket:
        header, body = receive(socket)
        assert (header, body["error"]) == ({"op": -1}, "FutureCursor")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)


@pytest.mark.parametrize("cursor", ["x", "-", "--1", "1.5", "9" * 30])
def test_a_cursor_that_is_no_number_is_refused(box: LiveBox, cursor: str) -> None:
    with stream(box, f"?cursor={cursor}") as socket:
        assert receive(socket)[1]["error"] == "InvalidRequest"
        with pytest.raises(ConnectionClosed) as end:
            socket.recv(timeout=60)
    assert (end.value.rcvd.code, end.value.rcvd.reason) == (1008, "InvalidRequest")


@pytest.mark.parametrize("cursor", ["0", "00", "-1", "-0"])
def test_a_cursor_before_everything_begins_with_the_oldest_event(box: LiveBox, cursor: str) -> None:
    with stream(box, f"?cursor={cursor}") as socket:
        assert receive(socket)[0]["t"] == "#identity"


def test_plain_requests_are_told_to_upgrade(box: LiveBox) -> None:
    assert box.get(NSID).status == 426
    assert box.post(NSID).status == 405


def test_too_many_subscribers_are_told_to_come_back(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert box.app is not None
    monkeypatch.setattr(box.app.services.sequencer, "_max_subscribers", 1)
    with stream(box), pytest.raises(InvalidStatus) as refused, stream(box):
        pass
    assert refused.value.response.status_code == 429
    assert "retry-after" in refused.value.response.headers


def test_a_client_that_talks_and_leaves_frees_its_place(box: LiveBox) -> None:
    assert box.app is not None
    with stream(box) as socket:
        socket.send("hello")
        socket.ping().wait(60)
        create(box, box.token(), 1)
        receive(socket)
    for _ in range(100):
        if not box.app.services.sequencer.subscribers:
            break
        box.get("com.atproto.server.describeServer")
    assert box.app.services.sequencer.subscribers == 0


def rest_of(socket: ClientConnection) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What still comes until the server closes."""
    while True:
        try:
            yield receive(socket)
        except ConnectionClosed:
            return


def big_writes(box: LiveBox, token: str, calls: int) -> None:
    """About 1 MB of events each."""
    for _ in range(calls):
        writes = [
            {
                "$type": "com.atproto.repo.applyWrites#create",
                "collection": "com.example.thing",
                "value": {"fill": secrets.token_hex(4500)},  # equal records would share one block
            }
            for _ in range(100)
        ]
        answer = box.post("com.atproto.repo.applyWrites", {"repo": box.did, "writes": writes}, token)
        assert answer.status == 200


def test_who_stops_reading_is_told_too_slow_and_others_go_on(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pds_lite.services.sequencer.MAX_RECENT_BYTES", 2_000_000)
    token = box.token()
    with stream(box, sock=narrow_socket(box)) as slow, stream(box) as quick:
        create(box, token, 0)
        receive(slow)
        receive(quick)
        for _ in range(30):
            big_writes(box, token, 1)
            assert receive(quick)[0]["t"] == "#commit"
        got = list(rest_of(slow))
        header, body = got[-1]
        assert (header, body["error"]) == ({"op": -1}, "ConsumerTooSlow")
        seqs = [event["seq"] for _header, event in got[:-1]]
        assert seqs == sorted(set(seqs))
        assert len(seqs) < 30


@contextmanager
def deaf_subscriber(box: LiveBox) -> Iterator[socket.socket]:
    """A subscriber who reads nothing but the answer to the upgrade."""
    with narrow_socket(box) as raw:
        raw.sendall(
            f"GET /xrpc/{NSID} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " in raw.recv(4096)
        yield raw


def wait_until_nobody_subscribes(box: LiveBox) -> None:
    assert box.app is not None
    for _ in range(1200):
        if not box.app.services.sequencer.subscribers:
            return
        time.sleep(0.05)
    raise AssertionError("the subscriber is still there")


def test_who_never_reads_again_is_dropped(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pds_lite.services.sequencer.MAX_RECENT_BYTES", 2_000_000)
    monkeypatch.setattr("pds_lite.xrpc.subscribe_repos.FAREWELL_S", 0.2)
    token = box.token()
    with deaf_subscriber(box):
        create(box, token, 0)
        big_writes(box, token, 25)
        wait_until_nobody_subscribes(box)


def test_one_send_that_hangs_too_long_is_enough(box: LiveBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the stream is so quiet that the buffer never overtakes the subscriber."""
    monkeypatch.setattr("pds_lite.xrpc.subscribe_repos.STALL_S", 0.5)
    monkeypatch.setattr("pds_lite.xrpc.subscribe_repos.FAREWELL_S", 0.2)
    token = box.token()
    with stream(box) as quick, deaf_subscriber(box):
        for _ in range(7):
            big_writes(box, token, 1)
            assert receive(quick)[0]["t"] == "#commit"
        assert box.app is not None
        for _ in range(1200):
            if box.app.services.sequencer.subscribers == 1:
                break
            time.sleep(0.05)
        time.sleep(1)  # more than one look of the timer
        create(box, token, 1)
        assert receive(quick)[0]["t"] == "#commit"
        assert box.app.services.sequencer.subscribers == 1
    wait_until_nobody_subscribes(box)


def test_the_end_of_the_server_closes_streams_at_once(tmp_path: Path) -> None:
    with live_box(tmp_path) as box, stream(box) as reader:
        assert box.app is not None
        box.app.end()
        with pytest.raises(ConnectionClosed) as closed:
            reader.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1001, 1012)
