"""Leaflet's scopes end to end: sets found by DNS, DID and PDS, expanded, kept while their home is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box
from tests.net.dns_server import dns_server
from tests.oauth_app import App, Browser, answer_of, walk

SCOPE = (
    "atproto transition:email account:email?action=read include:pub.leaflet.authFullPermissions "
    "include:site.standard.authFull include:app.bsky.authCreatePosts "
    "include:app.bsky.authViewAll?aud=did:web:api.bsky.app%23bsky_appview rpc:parts.page.mention.search?aud=* blob:*/*"
)
APPVIEW = "did:web:api.bsky.app#bsky_appview"


def permission_set(nsid: str, *permissions: dict[str, Any]) -> dict[str, Any]:
    main = {"type": "permission-set", "title": f"All of {nsid}", "permissions": list(permissions)}
    return {"$type": "com.atproto.lexicon.schema", "lexicon": 1, "id": nsid, "defs": {"main": main}}


def entry(resource: str, **fields: Any) -> dict[str, Any]:
    return {"type": "permission", "resource": resource, **fields}


SETS = {
    "pub.leaflet.authFullPermissions": permission_set(
        "pub.leaflet.authFullPermissions",
        entry("repo", collection=["pub.leaflet.document", "pub.leaflet.comment"]),
        entry("repo", collection=["app.bsky.feed.like"]),
    ),
    "site.standard.authFull": permission_set(
        "site.standard.authFull", entry("repo", collection=["site.standard.document"])
    ),
    "app.bsky.authCreatePosts": permission_set(
        "app.bsky.authCreatePosts", entry("repo", collection=["app.bsky.feed.post"], action=["create"])
    ),
    "app.bsky.authViewAll": permission_set(
        "app.bsky.authViewAll", entry("rpc", lxm=["app.bsky.feed.getTimeline"], inheritAud=True)
    ),
}


def in_own_loop(work: Any) -> Iterator[Any]:
    """Runs an async context manager in a thread of its own: what it gives, while the generator is open."""
    ready, done, given = threading.Event(), threading.Event(), []

    async def run() -> None:
        async with work as value:
            given.append(value)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="own loop")
    thread.start()
    try:
        assert ready.wait(60)
        yield given[0]
    finally:
        done.set()
        thread.join(60)


@contextmanager
def dns(table: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    yield from in_own_loop(dns_server(table))


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    """A host that publishes the sets: another box, whose account is a did:web on localhost."""
    folder = tmp_path_factory.mktemp("publisher") / "box"
    with live_box(folder, account=False, rate_limits=False) as box:
        assert box.app is not None
        from pds_lite.box import setup

        services = box.app.services
        account = setup.make_account(
            services, handle=HANDLE, email="", password=PASSWORD, did_method="web", publish=False
        )
        box.did = box.run(account).did
        token = box.token()
        for nsid, record in SETS.items():
            body = {"repo": box.did, "collection": "com.atproto.lexicon.schema", "rkey": nsid, "record": record}
            assert box.post("com.atproto.repo.createRecord", body, token).status == 200
        yield box


@pytest.fixture
def table(publisher: LiveBox) -> dict[str, Any]:
    """TXT records of the authorities, all of which lead to the publisher."""
    names = ("leaflet.pub", "standard.site", "bsky.app")
    return {f"_lexicon.{name}": [f'"did={publisher.did}"'] for name in names}


def test_leaflets_scopes_become_what_their_sets_say(tmp_path: Path, publisher: LiveBox, table: dict[str, Any]) -> None:
    with dns(table) as (server, asked), live_box(tmp_path / "box", rate_limits=False, dns_server=server) as box:
        app = App(box.url, scope=SCOPE)
        page = Browser(box.url)
        app.log_in(page)
        scopes = app.tokens["scope"].split(" ")
        assert not [scope for scope in scopes if scope.startswith("include:")]
        assert "repo?collection=pub.leaflet.comment&collection=pub.leaflet.document" in scopes
        assert "repo:app.bsky.feed.post?action=create" in scopes
        assert "rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview" in scopes
        assert not [scope for scope in scopes if "feed.like" in scope], "not leaflet's to give"
        assert {"_lexicon.leaflet.pub", "_lexicon.standard.site", "_lexicon.bsky.app"} <= set(asked)
        for collection, allowed in (
            ("pub.leaflet.document", True),
            ("site.standard.document", True),
            ("app.bsky.feed.post", True),
            ("app.bsky.feed.like", False),
        ):
            body = {"repo": box.did, "collection": collection, "record": {"text": "x"}, "validate": False}
            assert (app.post("com.atproto.repo.createRecord", body).status == 200) is allowed, collection
        timeline = {"aud": APPVIEW, "lxm": "app.bsky.feed.getTimeline"}
        assert app.get("com.atproto.server.getServiceAuth", **timeline).status == 200
        assert app.get("com.atproto.server.getServiceAuth", aud=APPVIEW, lxm="app.bsky.feed.getFeed").status == 403
        assert "email" in app.get("com.atproto.server.getSession").json


def test_the_consent_page_tells_what_is_in_a_set(tmp_path: Path, publisher: LiveBox, table: dict[str, Any]) -> None:
    with dns(table) as (server, _), live_box(tmp_path / "box", rate_limits=False, dns_server=server) as box:
        browser = Browser(box.url)
        App(box.url).log_in(browser)
        app = App(box.url, scope=SCOPE)
        text = browser.get(app.page_url(app.push())).body.decode()
        assert "published by leaflet.pub" in text
        assert "pub.leaflet.document" in text
        assert "your posts (app.bsky.feed.post)" in text
        app.log_in(browser, untick=("include:site.standard.authFull",))
        assert "site.standard" not in app.tokens["scope"]


def test_sign_in_goes_on_when_the_sets_are_out_of_reach(
    tmp_path: Path, publisher: LiveBox, table: dict[str, Any]
) -> None:
    data_dir, settings = tmp_path / "box", {"rate_limits": False, "did_cache_s": 0}
    with dns(table) as (server, _), live_box(data_dir, dns_server=server, **settings) as box:
        app = App(box.url, scope=SCOPE).log_in()
        scope, url, port = app.tokens["scope"], box.url, box.port
        table.clear()
        app.tokens = app.refresh().json
        assert app.tokens["scope"] == scope
        assert App(box.url, scope=SCOPE).log_in().tokens["scope"] == scope
    with dns({}) as (server, _), live_box(data_dir, dns_server=server, port=port, **settings):
        again = App(url, scope=SCOPE)
        page = walk(Browser(url), again.page_url(again.push()), "accept", (), PASSWORD)
        assert again.exchange(answer_of(page)["code"]).json["scope"] == scope, "after a restart, too"


def test_a_set_that_changes_changes_what_is_refreshed(
    tmp_path: Path, publisher: LiveBox, table: dict[str, Any]
) -> None:
    nsid = "site.standard.authFull"
    with (
        dns(table) as (server, _),
        live_box(tmp_path / "box", rate_limits=False, dns_server=server, did_cache_s=0) as box,
    ):
        app = App(box.url, scope=f"atproto include:{nsid}").log_in()
        assert app.tokens["scope"] == "atproto repo:site.standard.document"
        wider = permission_set(nsid, entry("repo", collection=["site.standard.document", "site.standard.publication"]))
        body = {"repo": publisher.did, "collection": "com.atproto.lexicon.schema", "rkey": nsid}
        token = publisher.token()
        assert publisher.post("com.atproto.repo.putRecord", {**body, "record": wider}, token).status == 200
        widened = app.refresh().json["scope"]
        assert publisher.post("com.atproto.repo.putRecord", {**body, "record": SETS[nsid]}, token).status == 200
        assert widened == "atproto repo?collection=site.standard.document&collection=site.standard.publication"


@pytest.mark.parametrize(
    "records",
    [
        None,
        [],
        ['"did=did:web:localhost%3A1"'],
        ['"did=did:plc:ewvi7nxzyoun6zhxrhs64oiz"', '"did=did:web:localhost%3A1"'],
        ['"nothing"'],
        ['"did=did:web:10.0.0.1"'],
    ],
)
def test_a_set_nobody_publishes_makes_the_request_invalid(
    tmp_path: Path, table: dict[str, Any], records: list[str] | None
) -> None:
    table = {"_lexicon.bsky.app": records or "NXDOMAIN"}
    with dns(table) as (server, _), live_box(tmp_path / "box", rate_limits=False, dns_server=server) as box:
        pushed = App(box.url, scope="atproto include:app.bsky.authCreatePosts").push()
        assert pushed.error == (400, "invalid_scope")


def test_another_kind_of_lexicon_is_no_set(tmp_path: Path, publisher: LiveBox, table: dict[str, Any]) -> None:
    record = {
        "$type": "com.atproto.lexicon.schema",
        "lexicon": 1,
        "id": "app.bsky.notASet",
        "defs": {"main": {"type": "token"}},
    }
    body = {"repo": publisher.did, "collection": "com.atproto.lexicon.schema", "rkey": "app.bsky.notASet"}
    publisher.post("com.atproto.repo.putRecord", {**body, "record": record}, publisher.token())
    with dns(table) as (server, _), live_box(tmp_path / "box", rate_limits=False, dns_server=server) as box:
        for nsid in ("app.bsky.notASet", "app.bsky.doesNotExist"):
            assert App(box.url, scope=f"atproto include:{nsid}").push().error == (400, "invalid_scope")
