"""systemd is told how far the service is; whoever did not ask is told nothing."""

import secrets
import socket
from pathlib import Path

import pytest

from pds_lite.box import readiness


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_state_reaches_the_socket_that_systemd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@pds-lite-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        readiness.notify(readiness.READY)

        assert manager.recv(100) == b"READY=1"


def test_nobody_listening_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    readiness.notify(readiness.READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    readiness.notify(readiness.STOPPING)
