"""A whole box in a thread of the test's process: real store, real sockets, real services."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pds_lite import config as settings
from pds_lite.app import App, build
from pds_lite.box import setup
from pds_lite.storage.check import check_store
from pds_lite.storage.store import STORE_FOLDER, Store

HANDLE = "alice.test"
PASSWORD = "correct horse battery"
WAIT_S = 60
"""How long a test waits for what takes a moment: ample, since the machine may be busy with something else."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()
    """Set-Cookie headers."""

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.json["error"]


class LiveBox:
    """One running box and a client of it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.did = ""
        self.app: App | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def request(
        self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(verb, path, body, {"Host": f"localhost:{self.port}", **(headers or {})})
            answer = connection.getresponse()
            names = {name.lower(): ", ".join(answer.headers.get_all(name, [])) for name in answer.headers}
            cookies = tuple(answer.headers.get_all("set-cookie") or ())
            return Answer(answer.status, names, answer.read(), cookies)
        finally:
            connection.close()

    def get(self, nsid: str, token: str | None = None, **params: Any) -> Answer:
        from urllib.parse import urlencode

        query = f"?{urlencode(params, doseq=True)}" if params else ""
        return self.request("GET", f"/xrpc/{nsid}{query}", headers=_bearer(token))

    def post(self, nsid: str, body: Any = None, token: str | None = None) -> Answer:
        headers = _bearer(token)
        if body is None:
            return self.request("POST", f"/xrpc/{nsid}", headers=headers)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        return self.request("POST", f"/xrpc/{nsid}", data, {"Content-Type": kind, **headers})

    def server(self, name: str, body: Any = None, token: str | None = None) -> Answer:
        return self.post(f"com.atproto.server.{name}", body, token)

    def log_in(self, password: str = PASSWORD, identifier: str = HANDLE) -> Any:
        answer = self.server("createSession", {"identifier": identifier, "password": password})
        assert answer.status == 200, answer.body
        return answer.json

    def token(self, password: str = PASSWORD) -> str:
        token: str = self.log_in(password)["accessJwt"]
        return token

    def run(self, coroutine: Any) -> Any:
        """Runs a coroutine in the box's own event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    async def _serve(self, ready: threading.Event, account: bool, overrides: Mapping[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        config = settings.load(self.data_dir, environ={}, overrides={"port": self.port, "mdns": False, **overrides})
        self.app = build(config)
        try:
            self.app.start()
            services = self.app.services
            if account and services.account.account is None:
                await setup.make_account(
                    services,
                    handle=HANDLE,
                    email="alice@example.com",
                    password=PASSWORD,
                    did_method="plc",
                    publish=False,
                )
            if services.account.account is not None:
                self.did = services.account.account.did
            await self.app.serve(ready.set)
        finally:
            await self.app.stop()


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def live_box(data_dir: Path, *, account: bool = True, **overrides: Any) -> Iterator[LiveBox]:
    """A development box with the account alice.test, or an empty one. `overrides` are settings."""
    box = LiveBox(data_dir)
    if not (data_dir / settings.FILE_NAME).exists():
        settings.write_initial(data_dir, hostname=f"localhost:{box.port}", dev=True)
    ready, failed = threading.Event(), []

    def work() -> None:
        try:
            asyncio.run(box._serve(ready, account, overrides))
        except BaseException as problem:  # noqa: BLE001 - shown to the test below
            failed.append(problem)
            ready.set()

    thread = threading.Thread(target=work, name="live box")
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        if failed:
            raise failed[0]
        yield box
    finally:
        if box.app is not None:
            box.app.end()
        thread.join(WAIT_S)
    if failed:
        raise failed[0]
    assert not thread.is_alive()
    store = Store.open_readonly(data_dir / STORE_FOLDER)
    try:
        key = box.app.services.keys.signing.did_key if box.app is not None else None
        assert list(check_store(store, data_dir / "blobs", key)) == []
    finally:
        store.close()
