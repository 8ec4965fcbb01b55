"""Every wait and every buffer of a connection has an end, and what is refused is refused with a real status."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from microdot import Request

from pds_lite.errors import BadInput
from pds_lite.http.asgi import WebApp
from tests.http.http_server import PATIENT, SHORT, Connection, RunningServer, running

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
ASKING = b"Expect: 100-continue\r\n"
"""The answer to it says that the handler has begun and waits for the body."""

ended: list[bool] = []
broken_off: list[str] = []


async def hello(_request: Request) -> str:
    return "hello"


async def count(request: Any) -> str:
    return str(sum([len(chunk) async for chunk in request.stream]))


async def keep(request: Any) -> str:
    try:
        return str(len(await request.stream.read(1 << 20)))
    except BadInput as problem:
        broken_off.append(problem.error)
        raise


async def slow_count(request: Any) -> str:
    total = 0
    async for chunk in request.stream:
        total += len(chunk)
        await asyncio.sleep(0.9)
    return str(total)


async def endless(_request: Request) -> Any:
    async def chunks() -> Any:
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.append(True)

    return chunks()


async def short(_request: Request) -> Any:
    async def chunks() -> Any:
        yield b"half"

    return chunks(), 200, {"Content-Length": "8"}


async def fault(_request: Request) -> str:
    raise RuntimeError("a bug")


async def headers(request: Any) -> str:
    return json.dumps(sorted(request.headers))


async def values(request: Any) -> str:
    return json.dumps([text for _name, text in sorted(request.headers.items())])


async def split(_request: Request) -> Any:
    return "x", 200, {"X-Injected": "a\r\nSet-Cookie: b"}


def make_app() -> WebApp:
    app = WebApp()
    app.route("/hello", methods=["GET", "POST"])(hello)
    app.post("/count")(count)
    app.post("/slow-count")(slow_count)
    app.post("/keep")(keep)
    for handler in (endless, short, fault, headers, values, split):
        app.get(f"/{handler.__name__}")(handler)
    return app


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(make_app()) as started:
        yield started


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningServer]:
    """A server that loses its patience while a test waits."""
    with running(make_app(), limits=SHORT) as started:
        yield started


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a stranger sends may reach the log."""
    with caplog.at_level(logging.INFO):
        yield
    assert caplog.records == []


def error_of(answer: Any) -> str:
    body = json.loads(answer.body)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["connection"] == "close"
    assert isinstance(body["message"], str)
    return str(body["error"])


def test_a_connection_is_kept_for_more_requests(server: RunningServer) -> None:
    with server.connect() as client:
        for _ in range(3):
            assert client.send(GET).answer().body == b"hello"


def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(GET * 3 + POST + b"Content-Length: 3\r\n\r\nabc" + GET)
        assert [client.answer().body for _ in range(5)] == [b"hello"] * 3 + [b"3", b"hello"]


def test_too_many_pipelined_requests_end_the_connection_after_the_first_answers(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(GET * 500)
        assert 1 <= client.rest().count(b"HTTP/1.1 200") <= 40


def test_an_http_1_0_request_is_answered_and_closed(server: RunningServer) -> None:
    with server.connect() as client:
        answer = client.send(b"GET /hello HTTP/1.0\r\n\r\n").answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"hello", "close")
        assert client.closed()


def test_an_http_1_0_client_gets_no_chunks(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET /endless HTTP/1.0\r\n\r\n")
        while b"\r\n\r\n" not in client.buffer:
            client.buffer += client.raw.recv(65536)
        head = client.buffer.partition(b"\r\n\r\n")[0]
        assert b"chunked" not in head
        assert b"connection: close" in head


def test_connection_close_is_honoured(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert client.answer().headers["connection"] == "close"
        assert client.closed()


def test_a_client_that_has_said_everything_still_gets_its_answer(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(GET)
        client.raw.shutdown(socket.SHUT_WR)
        assert client.answer().body == b"hello"
        assert client.closed()


def test_expect_100_continue_is_answered_before_the_body(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.answer().status == 100
        assert client.send(b"abc").answer().body == b"3"


def test_expect_100_continue_is_not_answered_when_the_body_is_not_wanted(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.answer().status == 404


def test_another_expectation_is_refused(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(POST + b"Content-Length: 3\r\nExpect: miracles\r\n\r\n")
        answer = client.answer()
        assert (answer.status, error_of(answer)) == (417, "InvalidRequest")


def test_a_chunked_body_is_read(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        assert client.answer().body == b"5"
        assert client.send(GET).answer().body == b"hello"


def test_a_trailer_is_never_a_header(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert client.answer().body == b"0"
        client.send(b"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().body == b'["host"]'


def test_spaces_around_a_headers_value_are_not_part_of_it(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET /values HTTP/1.1\r\nHost: a\r\nX:  one two \t\r\nY: \r\n\r\n")
        assert client.answer().body == b'["a", "one two", ""]'


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: 7\r\nContent-Length: 5\r\n\r\nabcdefg",
        POST + b"Content-Length: 7\r\nContent-Length: 7\r\n\r\nabcdefg",
        POST + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\nabc",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1e3\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /h\xc3\xa9llo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /hello HTTP/3.7\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 50,
        b"GET\r\n\r\n",
        b"HELO mail.example.com\r\n\r\n",
    ],
    ids=repr,
)
def test_a_malformed_request_is_refused_once_and_nothing_after_it_is_read(
    server: RunningServer, quiet: None, request_bytes: bytes
) -> None:
    with server.connect() as client:
        client.send(request_bytes)
        with contextlib.suppress(OSError):
            client.send(GET)
        answers = client.rest()
        assert answers.startswith(b"HTTP/1.1 400 "), answers
        assert answers.count(b"HTTP/1.1") == 1


def test_a_refused_client_learns_at_once_that_nothing_follows_and_may_still_be_sending() -> None:
    with running(make_app(), limits=dataclasses.replace(PATIENT, drain_s=10_000)) as server, server.connect() as client:
        client.send(b"GARBAGE\r\n\r\n")
        assert client.answer().status == 400
        assert client.closed()
        client.send(bytes(200_000))  # a connection closed for good would be reset under this


def test_requests_before_a_malformed_one_are_answered(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(GET + GET + b"nonsense\r\n\r\n")
        answers = client.rest()
        assert answers.count(b"HTTP/1.1 200") == 2
        assert answers.count(b"HTTP/1.1") == 2


def test_a_broken_chunk_is_refused(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        answer = client.answer()
        assert (answer.status, error_of(answer)) == (400, "InvalidRequest")
        assert client.closed()


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 200_000 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"a" * 100) for number in range(20_000)),
        b"".join(b"X-%d: \r\n" % number for number in range(200)),
    ],
    ids=["one-long-line", "2-MB-of-lines", "200-lines"],
)
def test_too_large_a_head_is_431(server: RunningServer, quiet: None, head: bytes) -> None:
    with server.connect() as client:
        with contextlib.suppress(OSError):
            client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
        answer = client.answer()
        assert (answer.status, error_of(answer)) == (431, "InvalidRequest")


def test_a_head_that_never_ends_is_431_without_being_kept(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nX: ")
        with contextlib.suppress(OSError):
            for _ in range(200):
                client.send(b"a" * 10_000)
        assert client.answer().status == 431


def test_too_long_a_url_is_414(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.answer()
        assert (answer.status, error_of(answer)) == (414, "InvalidRequest")


def test_a_silent_connection_is_closed(hasty: RunningServer) -> None:
    with hasty.connect() as client:
        assert client.closed()


def test_an_idle_connection_is_closed(hasty: RunningServer) -> None:
    with hasty.connect() as client:
        client.send(GET).answer()
        assert client.closed()


def drip(client: Connection, piece: bytes, seconds: float = 30) -> None:
    """Sends a piece now and then, never finishing, until the server has had enough."""
    end = time.monotonic() + seconds
    client.raw.settimeout(0.1)
    while time.monotonic() < end:
        try:
            client.send(piece)
            data = client.raw.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return
        client.buffer += data
        if not data:
            return
    raise AssertionError("the server waits forever")


def test_a_slow_head_is_cut(hasty: RunningServer, quiet: None) -> None:
    with hasty.connect() as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n")
        drip(client, b"X: y\r\n")
        assert client.buffer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_second_head_is_cut_too(hasty: RunningServer) -> None:
    with hasty.connect() as client:
        client.send(GET).answer()
        drip(client, b"GET /hello HTTP/1.1\r\nHost: a\r\n"[:1])
        assert client.buffer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))


def test_a_stalled_body_is_cut_with_408(hasty: RunningServer, quiet: None) -> None:
    with hasty.connect() as client:
        client.send(POST + b"Content-Length: 100\r\n\r\nabc")
        answer = client.answer()
        assert (answer.status, error_of(answer)) == (408, "RequestTimeout")
        assert client.closed()


def test_chunk_extensions_alone_are_no_progress(hasty: RunningServer) -> None:
    with hasty.connect() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3")
        drip(client, b";x")
        assert client.buffer.startswith(b"HTTP/1.1 4")


def test_a_slow_but_steady_body_is_not_cut() -> None:
    """It may take longer than a client may be silent."""
    limits = dataclasses.replace(PATIENT, body_idle_s=2)
    with running(make_app(), limits=limits) as server, server.connect() as client:
        client.send(POST + b"Content-Length: 8\r\n\r\n")
        for _ in range(8):
            time.sleep(0.3)
            client.send(b"x")
        assert client.answer().body == b"8"


def test_a_body_is_not_cut_while_the_server_itself_is_slow(hasty: RunningServer) -> None:
    """The handler takes longer over each piece than a client may be silent."""
    size = 700_000
    with hasty.connect(timeout=30) as client:
        client.send(b"POST /slow-count HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.send(b"x" * size)
        assert client.answer().body == str(size).encode()


def test_an_upload_broken_off_ends_the_handler_and_leaves_no_line_in_the_log(
    server: RunningServer, quiet: None
) -> None:
    broken_off.clear()
    client = server.connect()
    client.send(b"POST /keep HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    time.sleep(0.1)
    client.close()
    end = time.monotonic() + 60
    while not broken_off and time.monotonic() < end:
        time.sleep(0.02)
    assert broken_off == ["BodyIncomplete"]


REQUESTS = (
    GET + POST + b"Content-Length: 3\r\n\r\nabc" + POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(REQUESTS) - 1), st.binary(max_size=6), st.integers(0, 6)), max_size=4),
    cuts=st.lists(st.integers(0, len(REQUESTS)), max_size=4),
)
def test_no_bytes_break_a_connection_handler(
    server: RunningServer, quiet: None, edits: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    """Mangled requests, cut anywhere: every answer is whole HTTP, nothing is logged, and the server goes on."""
    data = REQUESTS
    for at, inserted, dropped in edits:
        data = data[:at] + inserted + data[at + dropped :]
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with server.connect() as client:
        with contextlib.suppress(OSError):
            for start, stop in itertools.pairwise(edges):
                client.send(data[start:stop])
            client.raw.shutdown(socket.SHUT_WR)
        answers = client.rest()
    with Connection(socket.socket()) as reader:
        reader.raw.close()
        reader.buffer = answers
        with contextlib.suppress(EOFError, OSError):
            while reader.buffer:
                assert reader.answer().status in (100, 101, 200, 400, 404, 405, 408, 413, 414, 417, 431)
    with server.connect() as client:
        assert client.send(GET).answer().body == b"hello"


def test_an_early_refusal_arrives_although_the_client_is_still_sending() -> None:
    limits = dataclasses.replace(PATIENT, drain_s=30)
    with running(make_app(), limits=limits) as server, server.connect() as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        client.send(b"x" * 2_000_000)
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_a_client_that_sends_much_more_is_held_back_and_not_reset_before_it_has_seen_its_refusal() -> None:
    """A stale nonce or an expired token is told so: many clients look at the answer only when they cannot send on."""
    limits = dataclasses.replace(PATIENT, drain_s=30, drain_bytes=64 << 10)
    with running(make_app(), limits=limits) as server, server.connect() as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        client.send(b"x" * 1_000_000)
        assert client.answer().status == 404
        end = time.monotonic() + 60
        while not any(connection.flow.read_paused for connection in list(server.uvicorn.server_state.connections)):
            assert time.monotonic() < end, "the connection was closed under a client that was still sending"
            time.sleep(0.01)


def test_a_reader_that_does_not_read_is_cut_and_the_generator_ends(hasty: RunningServer) -> None:
    ended.clear()
    with hasty.connect() as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        end = time.monotonic() + 60
        while not ended and time.monotonic() < end:
            time.sleep(0.05)
        assert ended


def test_a_reader_that_leaves_ends_the_generator(server: RunningServer, quiet: None) -> None:
    ended.clear()
    client = server.connect()
    client.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    client.raw.recv(1000)
    client.close()
    end = time.monotonic() + 60
    while not ended and time.monotonic() < end:
        time.sleep(0.05)
    assert ended


def test_a_half_answer_does_not_look_whole(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.answer()


def test_our_own_bug_is_500_and_logged_once(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with server.connect() as client:
        answer = client.send(b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n").answer()
        assert answer.status == 500
        assert b"a bug" not in answer.body
        assert client.send(GET).answer().status == 200
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_header_value_cannot_split_an_answer(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    with server.connect() as client:
        answer = client.send(b"GET /split HTTP/1.1\r\nHost: a\r\n\r\n").answer()
        assert answer.status == 500
        assert "set-cookie" not in answer.headers
    assert len(caplog.records) == 1


def test_an_offer_of_another_protocol_is_answered_as_http_1_1(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
        assert client.answer().body == b"hello"
        assert client.closed()


def test_a_body_lost_to_an_upgrade_offer_is_refused(server: RunningServer, quiet: None) -> None:
    with server.connect() as client:
        client.send(POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc")
        assert client.answer().status == 400


def test_head_has_the_length_and_no_body(server: RunningServer) -> None:
    with server.connect() as client:
        answer = client.send(GET.replace(b"GET", b"HEAD")).answer(head=True)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert client.send(GET).answer().body == b"hello"


def test_an_absolute_url_and_a_star_are_understood(server: RunningServer) -> None:
    with server.connect() as client:
        assert client.send(GET.replace(b"/hello", b"http://a/hello?x=1")).answer().body == b"hello"
        assert client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").answer().status == 204


def test_at_the_cap_the_longest_idle_connection_makes_room() -> None:
    limits = dataclasses.replace(PATIENT, connections=3, keep_alive_s=30)
    with running(make_app(), limits=limits) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.send(GET).answer()
        newcomer = stack.enter_context(server.connect())
        assert newcomer.send(GET).answer().body == b"hello"
        assert clients[0].closed()
        assert clients[1].send(GET).answer().body == b"hello"


def test_above_the_cap_busy_connections_stay_and_a_newcomer_gets_503() -> None:
    limits = dataclasses.replace(PATIENT, connections=2, body_idle_s=20)
    with running(make_app(), limits=limits) as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(server.connect()) for _ in range(2)]
        for client in busy:
            assert client.send(POST + ASKING + b"Content-Length: 2\r\n\r\n").answer().status == 100
            client.send(b"a")
        assert stack.enter_context(server.connect()).answer().status == 503
        for client in busy:
            assert client.send(b"b").answer().body == b"2"


def test_shutdown_closes_idle_connections_and_lets_a_busy_one_finish() -> None:
    with running(make_app()) as server:
        idle, busy = server.connect(), server.connect()
        idle.send(GET).answer()
        assert busy.send(POST + ASKING + b"Content-Length: 2\r\n\r\n").answer().status == 100
        server.uvicorn.should_exit = True
        assert idle.closed()
        assert busy.send(b"ab").answer().body == b"2"
        idle.close()
        busy.close()
