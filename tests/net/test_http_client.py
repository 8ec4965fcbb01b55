"""A client that connects only where it may, and that no answer can hold up, fill or fool."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pds_lite.errors import BadInput, UpstreamFailure
from pds_lite.net import http_client
from pds_lite.net.http_client import HttpClient
from tests.net.scripted_server import Script, ScriptedServer, Visit, always, once, scripted

CHUNKED = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def with_server(script: Script, work: Any) -> Any:
    """Runs `work(client, server)` beside a scripted server."""

    async def joined() -> Any:
        client = HttpClient(allow_loopback=True)
        async with scripted(script) as server:
            try:
                return await work(client, server)
            finally:
                await client.close()

    return run(joined())


def get(script: Script, **options: Any) -> Any:
    """One GET; gives the answer or raises."""
    return with_server(script, lambda client, server: client.request("GET", server.url, **options))


def test_a_request_says_what_it_must_and_nothing_else() -> None:
    seen: list[Any] = []

    async def script(visit: Visit) -> None:
        seen.append(await visit.request())
        visit.answer(b"hello", 201, "X-A: 1", "x-a: 2")

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        answer = await client.request("POST", f"{server.url}/a?b=c", {"Content-Type": "text/plain"}, b"body")
        assert (answer.status, answer.body, answer.headers["x-a"]) == (201, b"hello", "1, 2")
        line, headers, body = seen[0]
        assert (line, body) == ("POST /a?b=c HTTP/1.1", b"body")
        assert headers == {
            "host": f"localhost:{server.port}",
            "content-type": "text/plain",
            "user-agent": "pds-lite",
            "accept-encoding": "identity",
            "content-length": "4",
        }

    with_server(script, work)


def test_connections_are_reused_after_clean_answers() -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        for _ in range(5):
            assert (await client.request("GET", server.url)).body == b"hello"
        assert server.connections == 1

    with_server(always(), work)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 x\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 x\r\n\r\nok",
        b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok and more than that",
    ],
)
def test_connections_that_may_not_be_reused_are_not(raw: bytes) -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        for _ in range(2):
            assert (await client.request("GET", server.url)).body == b"ok"
        assert server.connections == 2

    with_server(once(raw), work)


def test_a_resting_connection_that_the_server_closed_is_replaced() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        visit.answer(b"ok")
        await visit.reader.readexactly(1)  # takes the next request's first byte and hangs up

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        for _ in range(3):
            assert (await client.request("GET", server.url)).body == b"ok"
        assert server.connections >= 3

    with_server(script, work)


def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_IDLE", 3)

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        await asyncio.gather(*(client.request("GET", server.url) for _ in range(8)))
        assert len(client._idle) == 3
        assert not client._busy

    with_server(always(), work)


def test_a_resting_connection_closes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IDLE_S", 0.05)

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        await asyncio.gather(*(client.request("GET", server.url) for _ in range(3)))
        first = client._idle[0]
        while client._idle:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        assert not first.reusable
        await client.request("GET", server.url)
        assert server.connections == 4

    with_server(always(), work)


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n", b"abcde"),
        (INTERIM + b"HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 204 x\r\n\r\n", b""),
        (b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 x\r\n\r\nuntil the end", b"until the end"),
    ],
)
def test_every_framing_is_understood(raw: bytes, body: bytes) -> None:
    answer = get(once(raw))
    assert answer.body == body
    assert "x-trailer" not in answer.headers
    assert "link" not in answer.headers


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 x\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 x\r\n\r\n" * 50 + b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01" + b"\xff" * 40,
        b"HTTP/1.1 200 x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 x\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
    ],
    ids=lambda raw: repr(raw[:50]),
)
def test_a_lie_or_nonsense_is_an_upstream_failure(raw: bytes) -> None:
    with pytest.raises(UpstreamFailure):
        get(once(raw))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 x\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 x\r\n\r\n" + b"x" * 5000,
    ],
)
def test_too_large_an_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(UpstreamFailure, match="larger"):
        get(once(raw), max_bytes=4999)
    assert len(get(once(raw), max_bytes=5000).body) == 5000


async def hang(visit: Visit) -> None:
    await visit.reader.read()


async def drip(visit: Visit) -> None:
    while True:
        visit.say(b"x")
        await visit.writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "script",
    [
        once(b"", then=hang),
        once(b"HTTP/1.1 200 x\r\nX: ", then=drip),
        once(b"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\nabc", then=hang),
        once(b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n", then=drip),
    ],
)
def test_slowness_ends_at_the_deadline(script: Script) -> None:
    with pytest.raises(UpstreamFailure):
        get(script, timeout=0.4)


def test_a_stream_gives_pieces_and_holds_the_sender_back() -> None:
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        visit.say(b"HTTP/1.1 200 x\r\nContent-Length: 40000000\r\n\r\n")
        for _ in range(400):
            visit.say(b"x" * 100_000)
            await visit.writer.drain()
            sent += 100_000

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        async with await client.stream("GET", server.url, max_bytes=1 << 30, timeout=60) as answer:
            await anext(answer)
            await asyncio.sleep(0.2)
            assert sent < 20_000_000
            total = sum([len(chunk) async for chunk in answer])
        assert total > 39_000_000

    with_server(script, work)


def test_a_stream_given_up_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_AT_ONCE", 1)

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        for _ in range(3):
            async with await client.stream("GET", server.url):
                pass
        assert not client._busy
        with pytest.raises(UpstreamFailure):
            await client.request("GET", "http://localhost:1/")
        assert (await client.request("GET", server.url)).status == 200

    with_server(always(), work)


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"ab", b"", b"cde"):
        yield piece


def test_a_body_can_be_streamed_up() -> None:
    seen: list[Any] = []

    async def script(visit: Visit) -> None:
        while True:
            seen.append(await visit.request())
            visit.answer(b"ok")

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        await client.request("POST", server.url, {}, pieces())
        await client.request("POST", server.url, {"content-length": "5"}, pieces())
        assert server.connections == 1

    with_server(script, work)
    assert [body for _, _, body in seen] == [b"abcde", b"abcde"]
    assert [headers.get("transfer-encoding") for _, headers, _ in seen] == ["chunked", None]


def test_an_early_answer_ends_the_upload() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0)

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        visit.answer(b"no", 413)
        await visit.reader.read(1_000_000)
        await asyncio.sleep(1)

    async def work(client: HttpClient, server: ScriptedServer) -> None:
        answer = await client.request("POST", server.url, {}, endless())
        assert (answer.status, answer.body) == (413, b"no")

    with_server(script, work)


def test_head_has_no_body_whatever_the_length_says() -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        answer = await client.request("HEAD", server.url)
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "99")

    with_server(once(b"HTTP/1.1 200 x\r\nContent-Length: 99\r\n\r\n", then=hang), work)


def test_a_header_cannot_split_the_request() -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        for headers in ({"x": "a\r\nb: c"}, {"x\r\ny": "z"}, {"x": "a\nb"}, {"x": "a\0"}, {"x": "\u2028"}):
            with pytest.raises(BadInput):
                await client.request("GET", server.url, headers)
        assert (await client.request("GET", server.url)).status == 200

    with_server(always(), work)


# --- where it connects


def resolving(**names: list[str]) -> Any:
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return names[host.replace(".", "_")]

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], ["127.0.0.1"], ["::1"], ["1.1.1.1", "192.168.0.1"], ["::ffff:1.1.1.1"], ["64:ff9b::101:101"], []],
)
def test_a_name_with_any_private_address_is_refused_without_connecting(addresses: list[str]) -> None:
    async def work() -> None:
        client = HttpClient(resolve=resolving(rebind_example_com=addresses))
        with pytest.raises(UpstreamFailure, match=r"not a public server|no address"):
            await client.request("GET", "http://rebind.example.com/")

    run(work())


def test_the_name_is_resolved_once_and_that_address_connected_to() -> None:
    resolve = resolving(a_example_com=["127.0.0.1"])

    async def script(visit: Visit) -> None:
        _, headers, _ = await visit.request()
        visit.answer(headers["host"].encode())

    async def work() -> None:
        client = HttpClient(allow_loopback=True, resolve=resolve)
        async with scripted(script) as server:
            answer = await client.request("GET", f"http://a.example.com:{server.port}/")
            assert answer.body == f"a.example.com:{server.port}".encode()
        await client.close()

    run(work())
    assert resolve.asked == ["a.example.com"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://[::1]/", "http://0x7f.1/", "http://2130706433/", "http://[::ffff:7f00:1]/"]
)
def test_loopback_is_refused_outside_development_however_it_is_spelt(url: str) -> None:
    async def work() -> None:
        with pytest.raises((UpstreamFailure, BadInput)):
            await HttpClient().request("GET", url)

    run(work())


def test_an_odd_port_is_refused() -> None:
    async def work() -> None:
        with pytest.raises(UpstreamFailure, match="port 25"):
            await HttpClient(resolve=resolving(a_example_com=["1.1.1.1"])).request("GET", "http://a.example.com:25/")

    run(work())


def test_the_owners_own_settings_may_point_into_the_lan() -> None:
    async def work() -> None:
        client = HttpClient()
        async with scripted(always()) as server:
            assert (await client.request("GET", server.url, configured=True)).status == 200
            with pytest.raises(UpstreamFailure, match="not a public server"):
                await client.request("GET", server.url)
        await client.close()

    run(work())


def test_the_next_address_is_tried() -> None:
    async def work() -> None:
        client = HttpClient(allow_loopback=True, resolve=resolving(a_example_com=["::1", "127.0.0.1"]))
        async with scripted(always()) as server:
            assert (await client.request("GET", f"http://a.example.com:{server.port}/")).status == 200
        await client.close()

    run(work())


# --- redirects


def redirecting(location: str) -> Script:
    async def script(visit: Visit) -> None:
        while True:
            line, headers, _ = await visit.request()
            if line.startswith("GET / "):
                visit.answer(b"", 302, f"Location: {location}")
            else:
                visit.answer(f"{line} {headers.get('authorization')}".encode())

    return script


def test_redirects_are_followed_only_when_asked() -> None:
    assert get(redirecting("/there")).status == 302
    answer = get(redirecting("/there"), follow=1, headers={"authorization": "Bearer x"})
    assert answer.body == b"GET /there HTTP/1.1 Bearer x"
    assert answer.url.endswith("/there")
    assert get(redirecting("/"), follow=3).status == 302


def test_a_redirect_is_judged_like_a_first_request() -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        with pytest.raises(UpstreamFailure, match="not a public server"):
            await client.request("GET", server.url, follow=3)

    with_server(redirecting("http://192.168.0.1/admin"), work)

    async def configured() -> None:
        client = HttpClient()
        async with scripted(redirecting("http://127.0.0.1:9/x")) as server:
            with pytest.raises(UpstreamFailure, match="not a public server"):
                await client.request("GET", server.url, follow=3, configured=True)
        await client.close()

    run(configured())


def test_credentials_do_not_follow_to_another_origin() -> None:
    async def work(client: HttpClient, server: ScriptedServer) -> None:
        async with scripted(redirecting("/")) as other:
            server.script = redirecting(f"{other.url}/there")
            answer = await client.request("GET", server.url, {"Authorization": "Bearer x"}, follow=2)
            assert answer.body == b"GET /there HTTP/1.1 None"

    with_server(always(), work)


@pytest.mark.parametrize("location", ["ftp://a.b/", "https://user@a.b/", "http://a b/"])
def test_a_redirect_to_nonsense_is_an_error(location: str) -> None:
    with pytest.raises((UpstreamFailure, BadInput)):
        get(redirecting(location), follow=3)


# --- TLS


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name`, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path


def test_tls_is_checked_against_the_name_and_the_trusted_certificates(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "a.example.com")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    resolve = resolving(a_example_com=["127.0.0.1"], b_example_com=["127.0.0.1"])

    async def work() -> None:
        trusting = HttpClient(ca_file=str(cert), allow_loopback=True, resolve=resolve)
        doubting = HttpClient(allow_loopback=True, resolve=resolve)
        async with scripted(always(), tls) as server:
            for _ in range(2):
                assert (await trusting.request("GET", f"https://a.example.com:{server.port}/")).body == b"hello"
            assert server.connections == 1
            with pytest.raises(UpstreamFailure, match="certificate"):
                await trusting.request("GET", f"https://b.example.com:{server.port}/")
            with pytest.raises(UpstreamFailure, match="certificate"):
                await doubting.request("GET", f"https://a.example.com:{server.port}/")
            await trusting.close()

    run(work())


def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "a.example.com")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)

    async def work() -> None:
        client = HttpClient(ca_file=str(cert), allow_loopback=True, resolve=resolving(a_example_com=["127.0.0.1"]))
        async with scripted(redirecting("http://a.example.com/"), tls) as server:
            with pytest.raises(UpstreamFailure, match="https to http"):
                await client.request("GET", f"https://a.example.com:{server.port}/", follow=1)
        await client.close()

    run(work())
