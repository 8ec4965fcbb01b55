"""The event loop and the store's writer share a core; what needs no interpreter uses all of them."""

import os
import threading
from pathlib import Path

import pytest

from pds_lite import cores
from tests.served_box import served_box

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core only"
)


def in_thread(work) -> list:
    seen: list = []
    thread = threading.Thread(target=lambda: seen.append(work()))
    thread.start()
    thread.join()
    return seen


@needs_cores
def test_a_thread_stays_with_those_it_starts_until_one_roams():
    everywhere = os.sched_getaffinity(0)

    def stay() -> tuple:
        cores.stay()
        started = in_thread(lambda: os.sched_getaffinity(0))
        roamed = in_thread(lambda: (cores.roam(), os.sched_getaffinity(0))[1])
        return os.sched_getaffinity(0), *started, *roamed

    assert in_thread(stay) == [({max(everywhere)}, {max(everywhere)}, everywhere)]
    assert os.sched_getaffinity(0) == everywhere


def test_a_system_that_forbids_it_changes_nothing(monkeypatch):
    def refuse(_pid, _cores):
        raise PermissionError

    before = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    cores.stay()
    cores.roam()
    assert os.sched_getaffinity(0) == before


@needs_cores
def test_the_server_writes_on_one_core_and_hashes_on_all(tmp_path):
    everywhere = os.sched_getaffinity(0)
    with served_box(tmp_path) as box:
        client = box.client(box.token())
        assert client.post("com.atproto.repo.uploadBlob", os.urandom(100_000)).status == 200
        threads = [int(task.name) for task in Path(f"/proc/{box.process.pid}/task").iterdir()]
        allowed = [os.sched_getaffinity(thread) for thread in threads]
        assert os.sched_getaffinity(box.process.pid) == {max(everywhere)}
    assert allowed.count({max(everywhere)}) >= 2, "loop and writer"
    assert allowed.count(everywhere) >= 2, "argon2id and the blob's file"
