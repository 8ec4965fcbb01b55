"""A running box for hostile input, made once a module, and what must hold after each piece of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.answers import BLOB_LIMIT, MORE_MEMORY_KB, THING, R
from tests.plc_server import plc_server
from tests.served_box import Client, ServedBox, served_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedBox]:
    with plc_server() as directory:
        settings = {"PDS_LITE_BLOB_LIMIT": str(BLOB_LIMIT), "PDS_LITE_PLC_URL": directory.url}
        folder = tmp_path_factory.mktemp("bad") / "box"
        with served_box(folder, settings, "--plc-url", directory.url) as running:
            client = running.client(running.token())
            for number in range(40):
                record = {"$type": THING, "n": number}
                body = {"repo": running.did, "collection": THING, "rkey": f"r{number}", "record": record}
                assert client.post(R + "createRecord", body).status == 200
            yield running


@pytest.fixture(scope="module")
def token(box: ServedBox) -> str:
    return box.token()


@pytest.fixture
def client(box: ServedBox, token: str) -> Iterator[Client]:
    client = Client(box.port, token)
    yield client
    client.close()


def head(box: ServedBox) -> Any:
    client = Client(box.port)
    try:
        return client.get("com.atproto.sync.getLatestCommit", did=box.did).json
    finally:
        client.close()


@pytest.fixture(autouse=True)
def nothing_changes(request: pytest.FixtureRequest, box: ServedBox) -> Iterator[None]:
    """The repository is as it was, memory stayed within bounds, and the log has no traceback."""
    before, memory = head(box), box.memory_kb()
    box.forget_peak()
    yield
    assert request.node.name.startswith("test_good") or head(box) == before
    assert box.memory_kb("VmHWM") - memory < MORE_MEMORY_KB
    assert "Traceback" not in box.log, box.log[-3000:]
