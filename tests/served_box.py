"""The box as its owner runs it: `pds-lite serve` as a process, to be asked over HTTP, killed and measured."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pds_lite.services import key_store
from pds_lite.storage.store import STORE_FOLDER, Store
from tests.live_box import WAIT_S, Answer
from tests.store_fixture import assert_clean

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "pds_lite"]
HANDLE = "alice.test"
PASSWORD = "correct horse battery"
SETTINGS = {"PDS_LITE_RATE_LIMITS": "off", "PDS_LITE_DID_CACHE_S": "0", "PDS_LITE_MDNS": "off"}


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a child process that runs this checkout."""
    return {**os.environ, **SETTINGS, "PYTHONPATH": str(CHECKOUT), **(more or {})}


class Client:
    """One keep-alive connection. Raises OSError or HTTPException when the server goes away."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        self._host = f"localhost:{port}"

    def request(self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Answer:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._connection.request(verb, path, body, {"Host": self._host, **bearer, **headers})
        answer = self._connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())

    def get(self, nsid: str, **params: Any) -> Answer:
        return self.request("GET", f"/xrpc/{nsid}?{urlencode(params, doseq=True)}")

    def post(self, nsid: str, body: Any = None, kind: str = "application/octet-stream") -> Answer:
        if body is None:
            return self.request("POST", f"/xrpc/{nsid}")
        if not isinstance(body, bytes):
            body, kind = json.dumps(body).encode(), "application/json"
        return self.request("POST", f"/xrpc/{nsid}", body, {"Content-Type": kind})

    def close(self) -> None:
        self._connection.close()


class ServedBox:
    """A data directory and, between `start` and `kill` or `stop`, the server over it."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.settings = dict(settings or {})
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.did = self.did_key = ""
        self._clients: list[Client] = []

    def init(self, *more: str) -> Any:
        """Prepares the folder with the account alice.test."""
        words = ["init", "--data-dir", str(self.data_dir), "--hostname", f"localhost:{self.port}", "--dev", "--json"]
        words += ["--handle", HANDLE, "--email", "alice@example.com", "--password-stdin", *more]
        made = subprocess.run(
            [*COMMAND, *words],
            input=f"{PASSWORD}\n".encode(),
            env=environment(self.settings),
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        answer = json.loads(made.stdout)
        self.did = answer["did"]
        store = Store.open_readonly(self.data_dir / STORE_FOLDER)
        try:
            with store.read() as txn:
                keys = key_store.load(txn)
        finally:
            store.close()
        assert keys is not None
        self.signing_key = keys.signing
        self.did_key = keys.signing.did_key
        return answer

    def start(self, failpoint: str = "") -> bool:
        """Starts the server and waits until it answers; False if it met the failpoint first."""
        words = ["serve", "--data-dir", str(self.data_dir), "--port", str(self.port), "--dev", "--no-mdns"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *words],
                env=environment({**self.settings, "PDS_LITE_FAILPOINT": failpoint}),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        end = time.monotonic() + WAIT_S
        while not self._answers():
            if failpoint and self.process.poll() == -signal.SIGKILL:
                return False
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log[-2000:]}"
            assert time.monotonic() < end, self.log[-2000:]
            time.sleep(0.02)
        return True

    def _answers(self) -> bool:
        client = Client(self.port)
        try:
            return client.request("GET", "/xrpc/_health").status == 200
        except OSError:
            return False
        finally:
            client.close()

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def kill(self) -> None:
        """What a power cut does to a process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._hang_up()

    def wait_until_dead(self, seconds: float) -> bool:
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert self.process.returncode == -signal.SIGKILL, self.log[-2000:]
        self._hang_up()
        return True

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(WAIT_S)
        self._hang_up()
        return status

    def client(self, token: str | None = None) -> Client:
        """A connection of its own, closed when the server has ended."""
        client = Client(self.port, token)
        self._clients.append(client)
        return client

    def _hang_up(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def token(self) -> str:
        answer = self.client().post("com.atproto.server.createSession", {"identifier": HANDLE, "password": PASSWORD})
        assert answer.status == 200, answer.body
        token: str = answer.json["accessJwt"]
        return token

    def memory_kb(self, what: str = "VmRSS") -> int:
        """The process's memory: VmRSS now, VmHWM at its highest."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def forget_peak(self) -> None:
        """Begins a new measurement of VmHWM."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def check_store(self) -> None:
        """Fails with every broken invariant of the store as it lies on disk."""
        store = Store.open_readonly(self.data_dir / STORE_FOLDER)
        try:
            assert_clean(store, self.data_dir)
        finally:
            store.close()


@contextmanager
def served_box(data_dir: Path, settings: Mapping[str, str] | None = None, *init: str) -> Iterator[ServedBox]:
    """A running box with an account, whose store is checked when it has ended."""
    box = ServedBox(data_dir, settings)
    box.init(*init)
    box.start()
    try:
        yield box
        assert box.stop() == 0, box.log[-2000:]
        box.check_store()
    finally:
        if box.process is not None and box.process.poll() is None:
            box.kill()
