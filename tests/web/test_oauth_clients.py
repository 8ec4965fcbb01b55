"""Clients with a document of their own: fetched safely, held to their keys, and believed while their host is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pds_lite.atproto.crypto.jwk import format_jwk
from pds_lite.atproto.jwt import encode_jws
from tests.live_box import PASSWORD, LiveBox, live_box
from tests.oauth_app import App, Browser, answer_of, find_form, make_key, walk
from tests.web_client import AppHost, app_host, metadata

CLIENT = "/client.json"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppHost]:
    with app_host(tmp_path_factory.mktemp("app")) as running:
        yield running


@contextmanager
def box_that_finds(host: AppHost, data_dir: Path, **settings: Any) -> Iterator[LiveBox]:
    """A box for which the app's host name is on loopback and its CA trusted."""
    with live_box(data_dir, rate_limits=False, ca_file=str(host.ca_file), **settings) as box:
        assert box.app is not None
        http: Any = box.app.services.http
        ordinary = http._resolve

        async def resolve(name: str, port: int) -> Any:
            return ["127.0.0.1"] if name.endswith(".client.example") else await ordinary(name, port)

        http._resolve = resolve
        yield box


@pytest.fixture(scope="module")
def box(host: AppHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with box_that_finds(host, tmp_path_factory.mktemp("box") / "box", did_cache_s=0) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(host: AppHost) -> None:
    host.documents.clear()
    host.asked.clear()


def public_app(box: LiveBox, host: AppHost, **members: Any) -> App:
    host.documents[CLIENT] = metadata(host, **members)
    redirect = host.documents[CLIENT]["redirect_uris"][0]
    scope = host.documents[CLIENT]["scope"]
    return App(box.url, scope=scope, client_id=host.url + CLIENT, redirect=redirect)


def confidential_app(box: LiveBox, host: AppHost, **members: Any) -> App:
    key = make_key()
    jwks = {"keys": [{**format_jwk(key.public_key), "kid": "key-1", "alg": "ES256", "use": "sig"}]}
    method = {"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256"}
    app = public_app(box, host, **{**method, "jwks": jwks, **members})
    app.client_key = key
    return app


def test_a_public_client_signs_in_and_its_name_is_not_shown(box: LiveBox, host: AppHost) -> None:
    app = public_app(box, host)
    browser = Browser(box.url)
    page = browser.get(app.page_url(app.push()))
    assert host.name.encode() in page.body
    assert app.client_id.encode() in page.body
    assert b"Official Bank" not in page.body
    app.log_in(browser)
    assert app.get("com.atproto.server.getSession").status == 200


def test_a_native_client_comes_back_by_its_own_scheme(box: LiveBox, host: AppHost) -> None:
    app = public_app(box, host, application_type="native", redirect_uris=["example.client.app:/callback"])
    assert app.log_in().tokens["sub"] == box.did


@pytest.mark.parametrize(
    "document",
    [
        (404, {}, b"{}"),
        (500, {}, b"{}"),
        (301, {"location": "/elsewhere.json"}, b""),
        (200, {"content-type": "text/html"}, b"{}"),
        (200, {}, b"not json"),
        (200, {}, b"[]"),
        (200, {}, b'{"client_id": "https://other.example/client.json"}'),
        (200, {}, b" " * 70_000 + b"{}"),
    ],
)
def test_a_document_that_is_not_one_makes_no_client(box: LiveBox, host: AppHost, document: Any) -> None:
    app = public_app(box, host)
    host.documents["/elsewhere.json"] = host.documents[CLIENT]
    app.client_id = f"{host.url}/bad{len(document[2])}-{document[0]}.json"
    host.documents[app.client_id.removeprefix(host.url)] = document
    assert app.push().error == (400, "invalid_client_metadata")
    assert "/elsewhere.json" not in host.asked


@pytest.mark.parametrize(
    "client_id",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/client.json",
        "https://[fd00::1]/client.json",
        "https://0x7f000001/client.json",
        "https://user@app.client.example/client.json",
        "file:///etc/passwd",
        "gopher://localhost/x",
    ],
)
def test_a_client_id_cannot_make_us_call_into_the_home_network(box: LiveBox, client_id: str) -> None:
    refused = App(box.url, client_id=client_id).push()
    assert refused.status == 400
    assert refused.json["error"] in ("invalid_client", "invalid_client_metadata")
    assert "root:" not in refused.body.decode()


def test_a_public_box_calls_no_loopback_whatever_the_name_resolves_to(host: AppHost, tmp_path: Path) -> None:
    """Outside development: the guard looks at the address, so a name that points home (rebinding) does not help."""
    from types import SimpleNamespace

    from pds_lite.clock import Clock
    from pds_lite.errors import OAuthError
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.oauth.clients import Clients
    from pds_lite.storage.store import Store

    async def resolve(_name: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async def look() -> None:
        http = HttpClient(ca_file=str(host.ca_file), resolve=resolve)
        config: Any = SimpleNamespace(dev=False, public_url="https://pds.example.com", did_cache_s=0.0)
        clients = Clients(config, Clock(), http, store)
        for client_id in (host.url + CLIENT, "http://app.client.example/client.json", "https://127.0.0.1/client.json"):
            with pytest.raises(OAuthError):
                await clients.get(client_id)
        await http.close()

    host.documents[CLIENT] = metadata(host)
    store = Store.open(tmp_path / "store")
    asyncio.run(look())
    store.close()
    assert host.asked == []


# -- confidential clients


def test_a_confidential_client_signs_in_refreshes_and_leaves(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host).log_in()
    again = app.refresh()
    assert again.status == 200
    app.tokens = again.json
    assert app.get("com.atproto.server.getSession").status == 200
    assert app.revoke(app.tokens["refresh_token"]).status == 200
    assert app.get("com.atproto.server.getSession").status == 401


def test_keys_may_lie_at_a_url_of_their_own(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host)
    host.documents["/jwks.json"] = host.documents[CLIENT]["jwks"]
    document = {**host.documents[CLIENT], "jwks_uri": f"{host.url}/jwks.json"}
    host.documents[CLIENT] = {name: value for name, value in document.items() if name != "jwks"}
    assert app.log_in().refresh().status == 200
    assert "/jwks.json" in host.asked


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example"},
        {"iss": "https://other.example/client.json"},
        {"sub": "https://other.example/client.json"},
        {"iat": 1},
        {"iat": 99_999_999_999},
        {"iat": None},
        {"exp": 1},
        {"jti": None},
        {"jti": 5},
    ],
)
def test_an_assertion_for_something_else_authenticates_nobody(
    box: LiveBox, host: AppHost, claims: dict[str, Any]
) -> None:
    app = confidential_app(box, host)
    given = {"client_assertion": app.assertion(**claims), "client_assertion_type": TYPE}
    assert app.send("/oauth/par", {**app.request(), **given}).error == (400, "invalid_client")


TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def test_an_assertion_is_good_once_and_only_from_the_published_key(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host)
    app.send("/oauth/par", app.request())
    given = {"client_assertion": app.assertion(), "client_assertion_type": TYPE}
    assert app.send("/oauth/par", {**app.request(), **given}).status == 201
    assert app.send("/oauth/par", {**app.request(), **given}).error == (400, "invalid_client")
    assert app.send("/oauth/par", app.request(), authenticate=False).error == (400, "invalid_client")
    wrong_type = {"client_assertion": app.assertion(), "client_assertion_type": "password"}
    assert app.send("/oauth/par", {**app.request(), **wrong_type}).error == (400, "invalid_client")
    app.kid = "key-2"
    assert app.send("/oauth/par", app.request()).error == (400, "invalid_client")
    app.kid, app.client_key = "key-1", make_key()
    assert app.send("/oauth/par", app.request()).error == (400, "invalid_client")


def test_the_key_of_the_client_does_not_sign_proofs(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host)
    app.key = app.client_key or app.key
    assert app.push().error == (400, "invalid_request")


def test_a_code_is_not_fetched_without_the_clients_key(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host)
    code = app.authorize()["code"]
    assert app.send("/oauth/token", app.exchange_parameters(code), authenticate=False).error == (400, "invalid_client")
    assert app.exchange(code).status == 200


def test_a_session_is_held_to_its_key_and_ends_with_it(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host).log_in()
    new = make_key()
    old_keys = host.documents[CLIENT]["jwks"]["keys"]
    new_jwk = {**format_jwk(new.public_key), "kid": "key-2"}
    host.documents[CLIENT] = {**host.documents[CLIENT], "jwks": {"keys": [*old_keys, new_jwk]}}
    app.tokens = app.refresh().json
    app.client_key, app.kid = new, "key-2"
    assert app.refresh().error == (400, "invalid_grant"), "another key of the same client is not the session's"

    app = confidential_app(box, host).log_in()
    assert app.get("com.atproto.server.getSession").status == 200
    host.documents[CLIENT] = {**host.documents[CLIENT], "jwks": {"keys": [new_jwk]}}
    assert app.refresh().error == (400, "invalid_client"), "the key has left"
    assert app.get("com.atproto.server.getSession").status == 401, "and the session with it"
    app.client_key, app.kid = new, "key-2"
    assert app.refresh().error == (400, "invalid_grant")


def test_a_confidential_client_known_to_the_owner_comes_back_without_a_question(box: LiveBox, host: AppHost) -> None:
    app, browser = confidential_app(box, host), Browser(box.url)
    assert app.authorize(prompt="none")["error"] == "login_required"
    page = browser.get(app.page_url(app.push()))
    assert find_form(page, "sign-in") is not None
    app.log_in(browser)
    page = browser.get(app.page_url(app.push(prompt="none")))
    assert page.status == 303
    assert "code" in answer_of(page)
    assert "code" in answer_of(browser.get(app.page_url(app.push())))
    assert find_form(browser.get(app.page_url(app.push(prompt="consent"))), "consent") is not None
    wider = {**host.documents[CLIENT], "scope": "atproto transition:generic transition:email"}
    host.documents[CLIENT] = wider
    page = browser.get(app.page_url(app.push(scope="atproto transition:generic transition:email", prompt="none")))
    assert answer_of(page)["error"] == "consent_required"


def request_object(app: App, **claims: Any) -> str:
    said = {**app.request(), "iss": app.client_id, "aud": app.url, "iat": int(time.time()), "jti": app.state, **claims}
    assert app.client_key is not None
    return encode_jws({"kid": app.kid}, said, app.client_key)


def test_a_client_may_sign_what_it_asks_for(box: LiveBox, host: AppHost) -> None:
    app = confidential_app(box, host)
    pushed = app.send("/oauth/par", {"client_id": app.client_id, "request": request_object(app), "state": "not this"})
    back = answer_of(walk(Browser(box.url), app.page_url(pushed), "accept", (), PASSWORD))
    assert back["state"] == app.state, "nothing beside the object counts"
    assert app.exchange(back["code"]).status == 200
    query = {"client_id": app.client_id, "request": request_object(app)}
    url = f"/oauth/authorize?{urlencode(query)}"
    back = answer_of(walk(Browser(box.url), url, "accept", (), PASSWORD))
    assert back["state"] == app.state
    assert app.exchange(back["code"]).status == 200
    assert Browser(box.url).get(url).status == 400, "a request object is good once"
    forged = confidential_app(box, host)
    forged.client_key = make_key()
    query["request"] = request_object(forged)
    assert Browser(box.url).get(f"/oauth/authorize?{urlencode(query)}").status == 400


def test_who_brings_a_request_by_browser_is_not_taken_for_the_client(box: LiveBox, host: AppHost) -> None:
    """The owner is asked, although a request pushed by this very client would be answered without a question."""
    app, browser = confidential_app(box, host), Browser(box.url)
    app.log_in(browser)
    assert "code" in answer_of(browser.get(app.page_url(app.push())))
    page = browser.get(f"/oauth/authorize?{urlencode(app.request())}")
    assert find_form(page, "consent") is not None
    page = browser.get(f"/oauth/authorize?{urlencode(app.request(prompt='none'))}")
    assert answer_of(page)["error"] == "consent_required"


def test_a_clients_host_that_is_down_ends_no_session(host: AppHost, tmp_path: Path) -> None:
    data_dir = tmp_path / "box"
    with box_that_finds(host, data_dir, did_cache_s=0) as box:
        app = confidential_app(box, host).log_in()
        host.documents.clear()
        app.tokens = app.refresh().json
        assert "access_token" in app.tokens
        page = walk(Browser(box.url), app.page_url(app.push()), "accept", (), PASSWORD)
        assert "code" in answer_of(page), "signing in goes on, too"
        port, url = box.port, box.url
    with box_that_finds(host, data_dir, did_cache_s=0, port=port):
        assert app.refresh().status == 200, "after a restart it is known from the store"
        stranger = App(url, client_id=host.url + "/never-seen.json")
        assert stranger.push().error == (400, "invalid_client_metadata")


def test_many_strangers_cause_one_fetch(host: AppHost, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with box_that_finds(host, tmp_path / "box") as box, ThreadPoolExecutor(8) as pool:
        known = public_app(box, host)

        def push(_number: int) -> int:
            return App(box.url, client_id=known.client_id, redirect=known.redirect).push().status

        assert set(pool.map(push, range(16))) == {201}
        assert host.asked == [CLIENT]
        host.asked.clear()
        missing = App(box.url, client_id=host.url + "/missing.json")
        assert {missing.push().status for _ in range(3)} == {400}
        assert host.asked == ["/missing.json"], "a failure is remembered for a while"
