"""@atproto/oauth-client-node signs in to a box: as a public localhost client, and confidential with a document."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.base64url import encode_base64url
from pds_lite.atproto.crypto.jwk import format_jwk
from tests.interop.reference import plc_directory
from tests.live_box import PASSWORD, LiveBox, live_box
from tests.oauth_app import Browser, answer_of, localhost_id, make_key, walk
from tests.web.browser import Browser as AccountBrowser
from tests.web_client import app_host, metadata

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).resolve().parent / "oauth_client.mjs"
REDIRECT = "http://127.0.0.1:8765/callback"
POST = "app.bsky.feed.post"


@pytest.fixture(scope="module")
def directory(reference_node: Any) -> Iterator[str]:
    with plc_directory(reference_node) as url:
        yield url


@contextmanager
def published_box(data_dir: Path, directory: str, **settings: Any) -> Iterator[LiveBox]:
    """A box whose DID leads to it: the client asks the directory after every sign-in."""
    with live_box(data_dir, rate_limits=False, plc_url=directory, **settings) as box:
        assert box.app is not None
        box.run(box.app.services.account.publish())
        yield box


class NpmClient:
    """The client in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url
        self.did = ""

    def do(self, name: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, "did": self.did, **given}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["ok"]

    def sign_in(self, browser: Browser | None = None, *, untick: tuple[str, ...] = (), **options: Any) -> Any:
        page_url = self.do("authorize", server=self.url, **options)
        back = answer_of(walk(browser or Browser(self.url), page_url, "accept", untick, PASSWORD))
        signed_in = self.do("callback", params=back)
        self.did = signed_in["did"]
        return signed_in

    def call(self, verb: str, nsid: str, body: Any = None, query: str = "") -> tuple[int, Any]:
        headers = {"content-type": "application/json"} if body is not None else {}
        init = {"method": verb, "headers": headers, **({"body": json.dumps(body)} if body is not None else {})}
        answer = self.do("call", path=f"/xrpc/{nsid}{query}", init=init)
        return answer["status"], json.loads(answer["body"] or "null")

    def post(self, collection: str) -> tuple[int, Any]:
        record = {"$type": collection, "text": "from npm", "createdAt": "2026-01-01T00:00:00Z"}
        body = {"repo": self.did, "collection": collection, "record": record, "validate": False}
        return self.call("POST", "com.atproto.repo.createRecord", body)


@contextmanager
def npm_client(reference_node: Any, box: LiveBox, directory: str, client: Any, key: Any = None) -> Iterator[NpmClient]:
    node, ref_dir = reference_node
    settings = {
        "REF_DIR": str(ref_dir),
        "CLIENT": json.dumps(client),
        "PLC_URL": directory.replace("127.0.0.1", "localhost"),
    }
    if key is not None:
        secret = {**format_jwk(key.public_key), "d": encode_base64url(key.export()), "kid": "key-1", "alg": "ES256"}
        settings["KEY"] = json.dumps(secret)
    process = subprocess.Popen(
        [node, str(SCRIPT)],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield NpmClient(process, box.url)
    finally:
        process.kill()
        process.communicate()


def public_client(scope: str) -> dict[str, Any]:
    return {
        "client_id": localhost_id(scope, REDIRECT),
        "redirect_uris": [REDIRECT],
        "scope": scope,
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "dpop_bound_access_tokens": True,
    }


def test_a_public_client(reference_node: Any, directory: str, tmp_path: Path) -> None:
    scope = f"atproto repo:{POST} repo:app.bsky.feed.like blob:image/*"
    with (
        published_box(tmp_path / "box", directory) as box,
        npm_client(reference_node, box, directory, public_client(scope)) as app,
    ):
        signed_in = app.sign_in(state="remember me", untick=("repo:app.bsky.feed.like",))
        assert signed_in["did"] == box.did
        assert signed_in["state"] == "remember me"
        assert signed_in["scope"] == f"atproto repo:{POST} blob:image/*"
        assert app.post(POST)[0] == 200
        status, refused = app.post("app.bsky.feed.like")
        assert (status, refused["error"]) == (403, "ScopeMissingError")
        assert app.do("refresh") == signed_in["scope"]
        assert app.post(POST)[0] == 200
        app.do("signOut")
        assert app.do("knows") is False
        assert box.app is not None
        assert box.app.services.oauth().grants.live() == []


def test_a_session_revoked_on_the_account_page_is_over_there(
    reference_node: Any, directory: str, tmp_path: Path
) -> None:
    with (
        published_box(tmp_path / "box", directory) as box,
        npm_client(reference_node, box, directory, public_client("atproto transition:generic")) as app,
    ):
        app.sign_in()
        assert app.post(POST)[0] == 200
        owner = AccountBrowser(box)
        owner.sign_in(PASSWORD)
        page = owner.get("/account/apps")
        owner.send(page, page.form("revoke-grant"))
        assert app.post(POST)[0] == 401
        assert app.do("knows") is False


def test_an_expired_token_is_refreshed_by_the_client(reference_node: Any, directory: str, tmp_path: Path) -> None:
    with (
        published_box(tmp_path / "box", directory, access_ttl_s=1) as box,
        npm_client(reference_node, box, directory, public_client("atproto transition:generic")) as app,
    ):
        app.sign_in()
        for _ in range(3):
            assert app.post(POST)[0] == 200
        assert box.app is not None
        assert box.app.services.oauth().grants.live()[0].refresh_number > 0


def test_a_confidential_client_over_https(reference_node: Any, directory: str, tmp_path: Path) -> None:
    key = make_key()
    with (
        app_host(tmp_path / "app") as host,
        published_box(tmp_path / "box", directory, ca_file=str(host.ca_file)) as box,
    ):
        assert box.app is not None
        http: Any = box.app.services.http
        ordinary = http._resolve

        async def resolve(name: str, port: int) -> Any:
            return ["127.0.0.1"] if name == host.name else await ordinary(name, port)

        http._resolve = resolve
        client = {
            **metadata(host),
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "RS256",  # as the README of the client says, which signs with ES256
            "jwks_uri": f"{host.url}/jwks.json",
        }
        host.documents["/client.json"] = client
        host.documents["/jwks.json"] = {"keys": [{**format_jwk(key.public_key), "kid": "key-1", "alg": "ES256"}]}
        with npm_client(reference_node, box, directory, client, key) as app:
            browser = Browser(box.url)
            app.sign_in(browser)
            assert app.post(POST)[0] == 200
            app.do("refresh")
            assert app.post(POST)[0] == 200
            app.sign_in(browser, prompt="none")
            assert app.post(POST)[0] == 200
            app.do("signOut")
