"""/.well-known and the plain pages, over a real socket."""

from collections.abc import Iterator

import pytest

from tests.live_box import HANDLE, LiveBox, live_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box")) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "status"), [(HANDLE, 200), ("ALICE.test:8080", 200), ("bob.test", 404), ("localhost", 404), ("", 404)]
)
def test_the_handle_is_proved_for_its_own_name_only(box: LiveBox, host: str, status: int) -> None:
    answer = box.request("GET", "/.well-known/atproto-did", headers={"Host": host})

    assert answer.status == status
    if status == 200:
        assert answer.body == box.did.encode()
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["access-control-allow-origin"] == "*"


def test_the_hosts_own_document_leads_to_it(box: LiveBox) -> None:
    document = box.request("GET", "/.well-known/did.json").json

    assert document["id"] == f"did:web:localhost%3A{box.port}"
    assert document["service"][0]["serviceEndpoint"] == box.url


@pytest.mark.parametrize("path", ["/", "/robots.txt", "/xrpc/_health", "/.well-known/did.json"])
def test_pages_answer_get_and_head(box: LiveBox, path: str) -> None:
    assert box.request("GET", path).status == 200
    head = box.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")


def test_the_home_page_says_who_lives_here(box: LiveBox) -> None:
    assert box.did in box.request("GET", "/").body.decode()
