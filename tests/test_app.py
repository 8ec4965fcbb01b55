"""The joined application as a process: it starts, serves, and ends in time with everybody connected."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pds_lite.app import build, listen_at
from pds_lite.config import Config
from pds_lite.errors import ConfigError
from pds_lite.services import passwords

ENVIRONMENT = {**os.environ, "PDS_LITE_MDNS": "off"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    words = ["serve", "--data-dir", str(folder), "--port", str(port), "--dev", *more]
    with (folder.parent / "out").open("wb") as out, (folder.parent / "err").open("ab") as err:
        process = subprocess.Popen([sys.executable, "-m", "pds_lite", *words], env=ENVIRONMENT, stdout=out, stderr=err)
    try:
        deadline = time.monotonic() + 60
        while ask(port, "GET", "/xrpc/_health") is None:
            assert process.poll() is None, (folder.parent / "err").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def ask(port: int, verb: str, path: str, body: Any = None, token: str = "") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request(verb, path, json.dumps(body) if body is not None else None, headers)
        return json.loads(connection.getresponse().read())
    except OSError:
        return None
    finally:
        connection.close()


def subscriber(port: int) -> socket.socket:
    """A raw websocket that never reads."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(
        b"GET /xrpc/com.atproto.sync.subscribeRepos?cursor=0 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert connection.recv(12) == b"HTTP/1.1 101"
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_two_seconds_with_subscribers_and_idle_clients_connected(tmp_path: Path, number: int) -> None:
    port, began = free_port(), time.monotonic()
    with serving(tmp_path / "box", port) as process:
        # On a busy machine everything takes its time; a start, which is many times the work of an end, says how long.
        patience = max(2.0, 4 * (time.monotonic() - began))
        held = [subscriber(port) for _ in range(3)]
        held.append(socket.create_connection(("127.0.0.1", port)))

        process.send_signal(number)

        assert process.wait(patience) == 0
        for connection in held:
            connection.close()
    assert not (tmp_path / "box" / "control.sock").exists()


@pytest.mark.parametrize("tool", ["curl", "python3"])
def test_with_nothing_prepared_it_makes_a_box_and_says_how_to_post(
    tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snippet works as printed, also on a machine without curl, as a fresh Debian is."""
    if tool == "curl" and shutil.which("curl") is None:
        pytest.skip("no curl here")
    if tool == "python3":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python3").symlink_to(Path(sys.executable).resolve())
        monkeypatch.setitem(ENVIRONMENT, "PATH", str(tmp_path / "bin"))
    port = free_port()
    with serving(tmp_path / "box", port):
        said = (tmp_path / "out").read_text()
        snippet = said[said.index("terminal:\n\n") + 11 : said.index("\n\nYour account page: ")]
        assert tool in snippet

        posted = subprocess.run(["/bin/bash", "-c", snippet], env=ENVIRONMENT, capture_output=True, check=True).stdout

        assert json.loads(posted)["uri"].startswith("at://did:plc:")
        assert "recovery key" in said


def test_systemd_is_told_when_it_answers_and_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type=notify: `systemctl restart` must not return before requests are answered."""
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setitem(ENVIRONMENT, "NOTIFY_SOCKET", str(tmp_path / "notify"))
        with serving(tmp_path / "box", port) as process:
            assert manager.recv(100) == b"READY=1"
            assert ask(port, "GET", "/xrpc/_health") is not None
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path / "box", port) as process:
        said = (tmp_path / "out").read_text()
        password = said[said.index("password      ") :].split()[1]
        session = ask(
            port, "POST", "/xrpc/com.atproto.server.createSession", {"identifier": "me.test", "password": password}
        )
        body = {"repo": "me.test", "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
        made = ask(port, "POST", "/xrpc/com.atproto.repo.createRecord", body, session["accessJwt"])
        process.kill()
        process.wait()

    with serving(tmp_path / "box", port):
        rkey = made["uri"].rpartition("/")[2]
        path = f"/xrpc/com.atproto.repo.getRecord?repo=me.test&collection=com.example.thing&rkey={rkey}"
        assert ask(port, "GET", path)["cid"] == made["cid"]
        me = ask(port, "GET", "/xrpc/com.atproto.server.getSession", None, session["accessJwt"])
        assert me["handle"] == "me.test"


@pytest.mark.parametrize("prepared", [False, True])
def test_a_port_in_use_is_said_in_a_sentence(tmp_path: Path, prepared: bool) -> None:
    """Before a box is made for it: the port is part of that box's URL for good."""
    box = tmp_path / "box"
    if prepared:
        words = ["init", "--data-dir", str(box), "--hostname", "localhost:2583", "--dev", "--empty"]
        subprocess.run([sys.executable, "-m", "pds_lite", *words], env=ENVIRONMENT, capture_output=True, check=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["serve", "--data-dir", str(box), "--dev"]
        ended = subprocess.run(
            [sys.executable, "-m", "pds_lite", *words],
            env={**ENVIRONMENT, "PDS_LITE_PORT": str(port)},
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 1
    assert b"cannot listen on 127.0.0.1 port %d: Address already in use\n" % port in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert box.exists() == prepared


def test_a_box_that_listens_elsewhere_than_its_url_says_is_warned_of(tmp_path: Path) -> None:
    words = ["init", "--data-dir", str(tmp_path / "box"), "--hostname", "localhost:2583", "--dev", "--empty"]
    subprocess.run([sys.executable, "-m", "pds_lite", *words], env=ENVIRONMENT, capture_output=True, check=True)
    with serving(tmp_path / "box", free_port()):
        assert "WARNING this box was made for port 2583" in (tmp_path / "err").read_text()


def test_a_unix_socket_of_another_server_or_no_place_for_one_is_told_in_a_sentence(tmp_path: Path) -> None:
    taken = tmp_path / "taken.sock"
    with listen_at(taken), pytest.raises(ConfigError, match=r"unix_socket = '.*taken\.sock'"):
        listen_at(taken)
    with listen_at(taken) as again:
        assert again.getsockname() == str(taken), "one that a server left behind is replaced"
    with pytest.raises(ConfigError, match="No such file"):
        listen_at(tmp_path / "none" / "new.sock")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError):
        listen_at(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_two_daemons_never_share_a_store(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path / "box", port):
        words = ["serve", "--data-dir", str(tmp_path / "box"), "--port", str(free_port()), "--dev"]
        ended = subprocess.run(
            [sys.executable, "-m", "pds_lite", *words], env=ENVIRONMENT, capture_output=True, timeout=60, check=False
        )

    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr


GENERIC = (Path(__file__).resolve().parent.parent / "board_configs" / "generic.toml").read_text()
LIMITS = """
[limits]
map_mb = 128
overlay_mb = 7
event_log_mb = 17
did_cache = 11
argon2_mb = 23
argon2_ops = 3
connections = 19
subscribers = 5
exports = 3
memory_mb = 300
"""


async def test_every_limit_of_the_board_reaches_what_it_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that a board file states and nothing obeys would be a lie on a small board."""
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "generic.toml").write_text(GENERIC + LIMITS)
    monkeypatch.setenv("PDS_LITE_BOARD_CONFIGS", str(tmp_path / "boards"))
    monkeypatch.setattr(passwords, "_cost", passwords._Cost())
    (tmp_path / "box").mkdir(mode=0o700)
    app = build(Config(data_dir=tmp_path / "box", hostname="localhost:2583", dev=True))
    try:
        services = app.services
        in_force = {
            "map_mb": services.store.limits.map_bytes >> 20,
            "overlay_mb": services.repo.snapshots._overlay_bytes >> 20,
            "event_log_mb": services.sequencer._window.max_bytes >> 20,
            "did_cache": services.identity._documents._max_entries,
            "argon2_mb": passwords._cost.memory_mb,
            "argon2_ops": passwords._cost.passes,
            "connections": app._limits.connections,
            "subscribers": services.sequencer._max_subscribers,
            "exports": services.reader._exports._value,
            "memory_mb": app._limits.memory_mb,
        }
    finally:
        await app.stop()

    assert in_force == {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", LIMITS)}
