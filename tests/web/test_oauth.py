"""OAuth over real sockets: an app signs in, works within its scopes, and is let out; each trick fails by its name."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.crypto.jwk import thumbprint
from pds_lite.services.access import HANDLER_ASKS
from pds_lite.xrpc import methods  # noqa: F401 - fills METHODS
from pds_lite.xrpc.router import METHODS
from tests.live_box import HANDLE, Answer, LiveBox, live_box
from tests.oauth_app import App, Browser, answer_of, ask, find_form, make_key, walk

POST = "app.bsky.feed.post"
LIKE = "app.bsky.feed.like"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    nowhere = {f"{name}_url": "http://localhost:1" for name in ("appview", "report", "chat")}
    with live_box(tmp_path_factory.mktemp("oauth") / "box", rate_limits=False, **nowhere) as running:
        yield running


def post(box: LiveBox, collection: str = POST) -> dict[str, Any]:
    record = {"text": "hello", "createdAt": "2026-01-01T00:00:00Z"}
    return {"repo": box.did, "collection": collection, "record": record, "validate": False}


def press_back(browser: Browser, page: Answer) -> dict[str, str]:
    """Presses "Back to the app" on a page that cannot go on: what the app gets."""
    assert page.status == 200
    assert "location" not in page.headers
    form = find_form(page, "refuse")
    assert form is not None
    return answer_of(browser.request("POST", form.action, [*form.fields, ("decision", "reject")]))


# -- discovery


def test_the_resource_names_its_one_authorization_server(box: LiveBox) -> None:
    answer = box.request("GET", "/.well-known/oauth-protected-resource")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json["resource"] == box.url
    assert answer.json["authorization_servers"] == [box.url]


def test_the_server_says_what_the_profile_demands(box: LiveBox) -> None:
    answer = box.request("GET", "/.well-known/oauth-authorization-server")
    found = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert found["issuer"] == box.url
    for name in ("authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint"):
        assert found[name].startswith(f"{box.url}/oauth/")
    assert found["require_pushed_authorization_requests"] is True
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["client_id_metadata_document_supported"] is True
    assert found["response_types_supported"] == ["code"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert {"authorization_code", "refresh_token"} == set(found["grant_types_supported"])
    assert {"none", "private_key_jwt"} == set(found["token_endpoint_auth_methods_supported"])
    assert "ES256" in found["dpop_signing_alg_values_supported"]
    assert "ES256" in found["token_endpoint_auth_signing_alg_values_supported"]
    assert "atproto" in found["scopes_supported"]
    assert box.request("GET", "/oauth/jwks").json == {"keys": []}


@pytest.mark.parametrize("path", ["/oauth/par", "/oauth/token", "/oauth/revoke"])
def test_the_endpoints_take_posts_only(box: LiveBox, path: str) -> None:
    for verb in ("GET", "PUT", "DELETE"):
        assert box.request(verb, path).status == 405


# -- signing in


def test_an_app_signs_in_works_refreshes_and_leaves(box: LiveBox) -> None:
    app = App(box.url).log_in()
    tokens = app.tokens
    assert tokens["token_type"] == "DPoP"
    assert tokens["sub"] == box.did
    assert tokens["scope"] == "atproto transition:generic"
    assert 0 < tokens["expires_in"] <= 1800
    assert app.post("com.atproto.repo.createRecord", post(box)).status == 200
    again = app.refresh()
    assert again.status == 200
    assert again.headers["cache-control"] == "no-store"
    assert again.json["sub"] == box.did
    assert again.json["refresh_token"] != tokens["refresh_token"]
    app.tokens = again.json
    assert app.get("com.atproto.server.getSession").json["did"] == box.did
    assert app.revoke(app.tokens["refresh_token"]).status == 200
    assert app.get("com.atproto.server.getSession").error == (401, "invalid_token")
    assert app.refresh().error == (400, "invalid_grant")


def test_an_access_token_too_can_be_given_back(box: LiveBox) -> None:
    app = App(box.url).log_in()
    assert app.revoke(app.tokens["access_token"]).status == 200
    assert app.get("com.atproto.server.getSession").status == 401
    assert app.revoke(app.tokens["access_token"]).status == 200, "once more is no error"
    assert app.revoke("nonsense").json == {}


def test_another_app_cannot_give_it_back(box: LiveBox) -> None:
    app, other = App(box.url).log_in(), App(box.url, scope="atproto")
    assert other.revoke(app.tokens["access_token"]).status == 200
    assert App.revoke(app, app.tokens["access_token"], key=make_key()).status == 200
    nobody = app.send("/oauth/revoke", {"token": app.tokens["refresh_token"]})
    assert nobody.error == (400, "invalid_client"), "it would take a 200 for the end of its session"
    assert app.get("com.atproto.server.getSession").status == 200


def test_a_session_outlives_a_restart(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as first:
        app = App(first.url).log_in()
    with live_box(tmp_path / "box", rate_limits=False, hostname=f"localhost:{first.port}") as second:
        app.url = second.url
        moved = ask(second.url, "GET", "/xrpc/_health", None, {})
        assert moved.status == 200
        assert second.app is not None
        assert [grant.sub for grant in second.app.services.oauth().grants.live()] == [first.did]


def test_the_account_page_tells_what_was_let_in_and_when_it_was_used(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as first:
        browser = Browser(first.url)
        app = App(first.url, scope=f"atproto repo:{POST}").log_in(browser)
        assert app.post("com.atproto.repo.createRecord", post(first)).status == 200
        told = browser.get("/account/apps").body
    with live_box(tmp_path / "box", rate_limits=False, hostname=f"localhost:{first.port}") as second:
        browser.url = second.url
        again = browser.get("/account/apps").body
    for page in (told, again):
        assert b"An app on your own device" in page
        assert b"Add, change and delete your posts" in page
        assert re.search(rb"Let in [^<]+ Last used [^<]+\.", page)


@pytest.mark.parametrize(("mode", "part"), [("query", "query"), ("fragment", "fragment"), (None, "query")])
def test_the_answer_comes_back_where_the_app_asked(box: LiveBox, mode: str | None, part: str) -> None:
    app = App(box.url)
    page = walk(Browser(box.url), app.page_url(app.push(response_mode=mode)), "accept", (), "correct horse battery")
    location = urlsplit(page.headers["location"])
    assert page.status == 303
    assert f"{location.scheme}://{location.netloc}{location.path}" == app.redirect
    assert "code=" in getattr(location, part)
    assert not (location.fragment if part == "query" else location.query)
    back = answer_of(page)
    assert back["iss"] == box.url
    assert back["state"] == app.state
    assert app.exchange(back["code"]).status == 200


def test_the_answer_can_be_a_form(box: LiveBox) -> None:
    app = App(box.url)
    page = walk(
        Browser(box.url), app.page_url(app.push(response_mode="form_post")), "accept", (), "correct horse battery"
    )
    form = find_form(page, "answer")
    assert form is not None
    assert form.action == app.redirect
    assert dict(form.fields)["iss"] == box.url
    assert app.exchange(dict(form.fields)["code"]).status == 200
    assert b"<button" in page.body, "it works without JavaScript"


def test_no_is_an_answer(box: LiveBox) -> None:
    app = App(box.url)
    back = app.authorize(decision="reject")
    assert back["error"] == "access_denied"
    assert back["iss"] == box.url
    assert back["state"] == app.state
    assert "code" not in back


def test_a_wrong_password_is_asked_again_and_an_app_password_does_not_do(box: LiveBox) -> None:
    token = box.token()
    app_password = box.server("createAppPassword", {"name": "for oauth"}, token).json["password"]
    app, browser = App(box.url), Browser(box.url)
    page = browser.get(app.page_url(app.push()))
    for wrong in ("guess 4711", "", app_password):
        form = find_form(page, "sign-in")
        assert form is not None
        page = browser.request("POST", form.action, [*form.fields, ("username", HANDLE), ("password", wrong)])
        assert page.status == 200
        assert b"is not right" in page.body
        assert wrong.encode() not in page.body or wrong == ""
    assert find_form(page, "consent") is None


def test_par_takes_json_and_goes_without_a_proof(box: LiveBox) -> None:
    app = App(box.url)
    pushed = app.send("/oauth/par", app.request(), proof=None, as_json=True)
    assert pushed.status == 201
    assert "dpop-nonce" in pushed.headers
    back = answer_of(walk(Browser(box.url), app.page_url(pushed), "accept", (), "correct horse battery"))
    missing = app.send("/oauth/token", app.exchange_parameters(back["code"]), proof=None)
    assert missing.error == (400, "invalid_dpop_proof")
    assert app.exchange(back["code"]).status == 200, "bound to the first key shown"


# -- what an app may not ask


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": None}, "invalid_client"),
        ({"client_id": "nonsense"}, "invalid_client_metadata"),
        ({"client_id": "https://app.invalid/client.json"}, "invalid_client_metadata"),
        ({"client_id": "http://app.example.com/client.json"}, "invalid_client_metadata"),
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:8765/other"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:8765/callback#x"}, "invalid_request"),
        ({"redirect_uri": "http://localhost:8765/callback"}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:8765/callback@evil.example"}, "invalid_request"),
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "web_message"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "transition:generic"}, "invalid_scope"),
        ({"scope": "atproto repo:*"}, "invalid_scope"),
        ({"scope": "atproto " + "x" * 9000}, "invalid_scope"),
        ({"prompt": "sometimes"}, "invalid_request"),
        ({"prompt": "none"}, "invalid_request"),
        ({"login_hint": "not a handle"}, "invalid_request"),
        ({"state": "x" * 3000}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"dpop_jkt": "A" * 43}, "invalid_dpop_proof"),
        ({"request": "eyJ.e30."}, "invalid_request_object"),
        ({"request_uri": "urn:x"}, "invalid_request"),
        ({"nonce": "x"}, "invalid_request"),
        ({"claims": "{}"}, "invalid_request"),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_by_name(box: LiveBox, changes: dict[str, Any], error: str) -> None:
    app = App(box.url)
    refused = app.push(**changes)
    assert (refused.status, refused.json["error"]) == (400, error)
    assert refused.json["error_description"]
    assert refused.headers["cache-control"] == "no-store"
    assert refused.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"client_id=x"),
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b'{"client_id": ["x"]}'),
        ("application/json", b'{"client_id": {}}'),
        ("application/x-www-form-urlencoded", b"client_id=http%3A%2F%2Flocalhost&client_id=http%3A%2F%2Flocalhost"),
        ("application/x-www-form-urlencoded", b"client_id=%ff%fe"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(100))),
        ("application/x-www-form-urlencoded", b"x=" + b"y" * 70_000),
    ],
)
def test_a_body_that_cannot_be_read_is_an_invalid_request(box: LiveBox, kind: str, body: bytes) -> None:
    for path in ("/oauth/par", "/oauth/token", "/oauth/revoke"):
        answer = box.request("POST", path, body, {"Content-Type": kind})
        assert answer.status in (400, 413, 415)
        assert answer.json["error"] == "invalid_request"


def test_scopes_not_understood_fall_away(box: LiveBox) -> None:
    app = App(box.url, scope="atproto repo:app.bsky.feed.post space:com.example.x?action=read").log_in()
    assert app.tokens["scope"] == "atproto repo:app.bsky.feed.post"


def test_whatever_number_of_scopes_may_be_asked_for_can_be_agreed_to(box: LiveBox) -> None:
    """An app under development says them all in its client_id, and the owner's form says them all again."""
    many = " ".join(f"repo:a.b.c{number}" for number in range(399))
    assert len(App(box.url, scope=f"atproto {many}").log_in().tokens["scope"].split(" ")) == 400
    assert App(box.url, scope=f"atproto {many} repo:a.b.d").push().error == (400, "invalid_scope")


# -- codes and refresh tokens


def test_a_code_is_good_once_and_shown_twice_ends_the_session(box: LiveBox) -> None:
    app = App(box.url)
    code = app.authorize()["code"]
    app.tokens = app.exchange(code).json
    assert app.get("com.atproto.server.getSession").status == 200
    assert app.exchange(code).error == (400, "invalid_grant")
    assert app.get("com.atproto.server.getSession").error == (401, "invalid_token")
    assert app.refresh().error == (400, "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"redirect_uri": "http://127.0.0.1:8765/other"},
        {"redirect_uri": None},
        {"code": "cod-" + "A" * 43},
        {"code": "x" * 5000},
    ],
)
def test_a_code_with_anything_else_is_worth_nothing(box: LiveBox, changes: dict[str, Any]) -> None:
    app = App(box.url)
    code = app.authorize()["code"]
    assert app.exchange(**{"code": code, **changes}).error == (400, "invalid_grant")
    if "code" not in changes:
        assert app.exchange(code).error == (400, "invalid_grant"), "it was spent by showing it"


def test_a_code_belongs_to_the_key_and_the_client_that_asked(box: LiveBox) -> None:
    app = App(box.url)
    code = app.authorize()["code"]
    assert app.send("/oauth/token", app.exchange_parameters(code), key=make_key()).error == (400, "invalid_grant")
    app = App(box.url)
    code = app.authorize()["code"]
    other = App(box.url, scope="atproto", key=app.key)
    other.verifier = app.verifier
    assert other.exchange(code).error == (400, "invalid_grant")


def test_dpop_jkt_binds_a_request_without_a_proof(box: LiveBox) -> None:
    from pds_lite.atproto.crypto.jwk import thumbprint

    app = App(box.url)
    parameters = app.request(dpop_jkt=thumbprint(app.key.public_key))
    pushed = app.send("/oauth/par", parameters, proof=None)
    code = answer_of(walk(Browser(box.url), app.page_url(pushed), "accept", (), "correct horse battery"))["code"]
    assert app.send("/oauth/token", app.exchange_parameters(code), key=make_key()).error == (400, "invalid_grant")


def test_a_challenge_is_not_used_twice(box: LiveBox) -> None:
    app = App(box.url).log_in()
    verifier = app.verifier
    parameters = app.request()
    from pds_lite.atproto.pkce import challenge_of

    app.verifier = verifier
    pushed = app.send("/oauth/par", {**parameters, "code_challenge": challenge_of(verifier)})
    code = answer_of(walk(Browser(box.url), app.page_url(pushed), "accept", (), "correct horse battery"))["code"]
    assert app.exchange(code).error == (400, "invalid_grant")


def test_a_refresh_token_is_good_once_and_replayed_ends_the_session(box: LiveBox) -> None:
    app = App(box.url).log_in()
    first = app.tokens["refresh_token"]
    app.tokens = app.refresh().json
    assert app.refresh(first).error == (400, "invalid_grant")
    assert app.get("com.atproto.server.getSession").error == (401, "invalid_token")
    assert app.refresh().error == (400, "invalid_grant")


def test_a_stolen_refresh_token_is_no_use_and_ends_the_session(box: LiveBox) -> None:
    app = App(box.url).log_in()
    assert app.refresh(key=make_key()).error == (400, "invalid_grant")
    assert app.get("com.atproto.server.getSession").status == 401
    app = App(box.url).log_in()
    thief = App(box.url, scope="atproto", key=app.key)
    assert thief.refresh(app.tokens["refresh_token"]).error == (400, "invalid_grant")
    assert app.refresh().error == (400, "invalid_grant")


def test_a_forged_refresh_token_ends_nobodys_session(box: LiveBox) -> None:
    app = App(box.url).log_in()
    good = app.tokens["refresh_token"]
    other_end = "A" if good[-1] != "A" else "B"
    for forged in (good[:-1] + other_end, good.replace(".0.", ".1."), "ref-x.0.y", "ref-", "ref-..", "ref-é.0.x"):
        assert app.refresh(forged).error == (400, "invalid_grant")
    assert app.refresh().status == 200


@pytest.mark.parametrize(("grant_type", "error"), [(None, "invalid_request"), ("password", "unsupported_grant_type")])
def test_other_grants_are_not_served(box: LiveBox, grant_type: str | None, error: str) -> None:
    app = App(box.url)
    parameters = {"grant_type": grant_type, "client_id": app.client_id, "username": HANDLE, "password": "x"}
    assert app.send("/oauth/token", parameters).error == (400, error)


# -- proofs


def test_a_proof_without_the_nonce_is_told_the_nonce(box: LiveBox) -> None:
    app = App(box.url)
    first = app.send("/oauth/par", app.request(), retry=False)
    assert first.error == (400, "use_dpop_nonce")
    assert first.headers["dpop-nonce"]
    assert "dpop-nonce" in first.headers["access-control-expose-headers"]
    app.log_in()
    app.nonce = "old"
    refused = app.call("GET", "com.atproto.server.getSession", retry=False)
    assert refused.error == (401, "use_dpop_nonce")
    assert refused.headers["www-authenticate"].startswith("DPoP ")
    assert 'error="use_dpop_nonce"' in refused.headers["www-authenticate"]
    assert refused.headers["dpop-nonce"]
    assert "www-authenticate" in refused.headers["access-control-expose-headers"]
    fine = app.call("GET", "com.atproto.server.getSession", retry=False)
    assert fine.status == 200
    assert fine.headers["dpop-nonce"]
    app.nonce = "old"
    public = app.call("GET", "com.atproto.repo.describeRepo", params={"repo": box.did}, retry=False)
    assert public.error == (401, "use_dpop_nonce"), "who may be the owner is not taken for a stranger"


@pytest.mark.parametrize(
    "options",
    [
        {"htm": "POST"},
        {"htu": "https://evil.example/xrpc/com.atproto.server.getSession"},
        {"iat": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"ath": "AAAA"},
        {"jti": None},
        {"proof": None},
        {"proof": "nonsense"},
    ],
)
def test_a_proof_for_something_else_is_refused(box: LiveBox, options: dict[str, Any]) -> None:
    app = App(box.url).log_in()
    assert app.call("GET", "com.atproto.server.getSession", **options).error == (401, "invalid_dpop_proof")


def test_a_proof_is_good_once(box: LiveBox) -> None:
    app = App(box.url).log_in()
    url = f"{box.url}/xrpc/com.atproto.server.getSession"
    proof = app.proof("GET", url, token=app.tokens["access_token"])
    assert app.call("GET", "com.atproto.server.getSession", proof=proof).status == 200
    assert app.call("GET", "com.atproto.server.getSession", proof=proof).error == (401, "invalid_dpop_proof")
    par = app.proof("POST", f"{box.url}/oauth/par")
    assert app.send("/oauth/par", app.request(), proof=par).status == 201
    assert app.send("/oauth/par", app.request(), proof=par).error == (400, "invalid_dpop_proof")


def test_a_token_is_bound_to_its_key_and_its_scheme(box: LiveBox) -> None:
    app = App(box.url).log_in()
    thief = App(box.url, key=make_key(), nonce=app.nonce)
    stolen = thief.call("GET", "com.atproto.server.getSession", token=app.tokens["access_token"])
    assert stolen.error == (401, "invalid_token")
    assert app.call("GET", "com.atproto.server.getSession", scheme="Bearer").error == (400, "InvalidToken")
    assert app.call("GET", "com.atproto.server.getSession", token=box.token()).error == (401, "invalid_token")
    assert app.call("GET", "com.atproto.server.getSession", token="nonsense").error == (401, "invalid_token")
    assert app.call("POST", "com.atproto.server.refreshSession").error == (401, "AuthMissing")


def test_what_the_host_header_claims_makes_no_proof_right(box: LiveBox) -> None:
    app = App(box.url).log_in()
    token = app.tokens["access_token"]
    elsewhere = app.proof("GET", "http://evil.example/xrpc/com.atproto.server.getSession", token=token)
    headers = {"Host": "evil.example", "Authorization": f"DPoP {token}", "DPoP": elsewhere}
    assert box.request("GET", "/xrpc/com.atproto.server.getSession", None, headers).error == (401, "invalid_dpop_proof")
    headers["DPoP"] = app.proof("GET", f"{box.url}/xrpc/com.atproto.server.getSession", token=token)
    assert box.request("GET", "/xrpc/com.atproto.server.getSession", None, headers).status == 200


def test_keys_of_either_curve_sign_proofs(box: LiveBox) -> None:
    key: Any = K256Key.from_bytes(b"\x21" * 32)
    app = App(box.url, key=key).log_in()
    assert app.get("com.atproto.server.getSession").status == 200


def test_an_expired_token_says_so_and_refreshes(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False, access_ttl_s=1) as box:
        app = App(box.url).log_in()
        time.sleep(1.1)
        expired = app.get("com.atproto.server.getSession")
        assert expired.error == (401, "invalid_token")
        assert 'error="invalid_token"' in expired.headers["www-authenticate"]
        assert app.refresh().status == 200


# -- requests that were not pushed


def plain_url(app: App, **changes: Any) -> str:
    return "/oauth/authorize?" + urlencode({k: v for k, v in app.request(**changes).items() if v is not None})


def test_a_request_may_come_by_browser_as_at_the_reference(box: LiveBox) -> None:
    app, browser = App(box.url), Browser(box.url)
    back = answer_of(walk(browser, plain_url(app), "accept", (), "correct horse battery"))
    assert (back["iss"], back["state"]) == (box.url, app.state)
    app.tokens = app.exchange(back["code"]).json
    assert app.get("com.atproto.server.getSession").json["did"] == box.did
    assert box.request("GET", "/.well-known/oauth-authorization-server").json["require_pushed_authorization_requests"]


def test_a_request_brought_by_one_browser_is_not_anothers(box: LiveBox) -> None:
    app = App(box.url)
    form = find_form(Browser(box.url).get(plain_url(app)), "sign-in")
    assert form is not None
    query = urlencode([(name, value) for name, value in form.fields if name in ("client_id", "request_uri")])
    assert Browser(box.url).get(f"{form.action}?{query}").status == 400


def test_a_brought_request_is_bound_to_the_key_it_names(box: LiveBox) -> None:
    app = App(box.url)
    url = plain_url(app, dpop_jkt=thumbprint(make_key().public_key))
    back = answer_of(walk(Browser(box.url), url, "accept", (), "correct horse battery"))
    assert app.exchange(back["code"]).error == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": None}, "invalid_scope"),
        ({"scope": "atproto repo:*"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none"}, "invalid_request"),
        ({"login_hint": "not a handle"}, "invalid_request"),
        ({"nonce": "x"}, "invalid_request"),
    ],
)
def test_what_is_wrong_with_a_brought_request_is_told_the_owner_first(
    box: LiveBox, changes: dict[str, Any], error: str
) -> None:
    app, browser = App(box.url), Browser(box.url)
    page = browser.get(plain_url(app, **changes))
    assert find_form(page, "sign-in") is None
    form = find_form(page, "refuse")
    assert form is not None
    consent = [("decision", "accept"), *((name, "consent" if name == "step" else value) for name, value in form.fields)]
    assert "location" not in browser.request("POST", form.action, consent).headers, "no yes leads past it"
    back = press_back(browser, page)
    assert (back["error"], back["iss"], back["state"]) == (error, box.url, app.state)
    assert back["error_description"]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nonsense"},
        {"client_id": "https://app.invalid/client.json"},
        {"redirect_uri": "https://evil.example/"},
        {"response_mode": "web_message"},
        {"state": "x" * 3000},
        {"request": "eyJ.e30."},
    ],
)
def test_a_brought_request_of_doubtful_origin_leads_nowhere(box: LiveBox, changes: dict[str, Any]) -> None:
    page = Browser(box.url).get(plain_url(App(box.url), **changes))
    assert page.status == 400
    assert "location" not in page.headers
    assert b"evil.example" not in page.body
    twice = Browser(box.url).get(plain_url(App(box.url)) + "&state=again")
    assert twice.status == 400


# -- the page


def test_the_page_is_closed_against_everything_else(box: LiveBox) -> None:
    app, browser = App(box.url), Browser(box.url)
    url = app.page_url(app.push())
    page = browser.get(url)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action" not in policy, "it would hold back an app whose callback leads on to another site"
    assert "unsafe" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    framed = browser.request("GET", url, headers={"Sec-Fetch-Dest": "iframe"})
    assert framed.status == 400
    assert find_form(framed, "sign-in") is None
    assert len(page.body) < 30_000


def test_a_form_from_elsewhere_does_nothing(box: LiveBox) -> None:
    app, browser = App(box.url), Browser(box.url)
    page = browser.get(app.page_url(app.push()))
    form = find_form(page, "sign-in")
    assert form is not None
    typed = [("username", HANDLE), ("password", "correct horse battery")]
    forged = [(name, value) for name, value in form.fields if name != "csrf"]
    assert browser.request("POST", form.action, [*forged, *typed]).status == 403
    assert browser.request("POST", form.action, [*forged, ("csrf", "guess"), *typed]).status == 403
    other_site = {"Origin": "https://evil.example"}
    assert browser.request("POST", form.action, [*form.fields, *typed], headers=other_site).status == 403
    stranger = Browser(box.url).request("POST", form.action, [*form.fields, *typed])
    assert stranger.status == 403, "another browser"
    assert b"Allow cookies" in stranger.body
    assert browser.request("POST", form.action, [*form.fields, *typed]).status == 303


def test_a_request_belongs_to_one_browser_and_one_client(box: LiveBox) -> None:
    app = App(box.url)
    pushed = app.push()
    url = app.page_url(pushed)
    assert Browser(box.url).get(url).status == 200
    assert Browser(box.url).get(url).status == 400
    other = App(box.url, scope="atproto")
    query = urlencode({"client_id": other.client_id, "request_uri": app.push().json["request_uri"]})
    assert Browser(box.url).get(f"/oauth/authorize?{query}").status == 400


def test_a_request_is_answered_once(box: LiveBox) -> None:
    app, browser = App(box.url), Browser(box.url)
    url = app.page_url(app.push())
    assert "code" in answer_of(walk(browser, url, "accept", (), "correct horse battery"))
    assert browser.get(url).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "",
        "request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Areq-x&client_id=http%3A%2F%2Flocalhost",
        "request_uri=https%3A%2F%2Fevil.example&client_id=http%3A%2F%2Flocalhost",
        "client_id=http%3A%2F%2Flocalhost&redirect_uri=https%3A%2F%2Fevil.example%2F&response_type=code&scope=atproto",
    ],
)
def test_nobody_is_redirected_to_where_a_link_says(box: LiveBox, query: str) -> None:
    page = Browser(box.url).get(f"/oauth/authorize?{query}")
    assert page.status == 400
    assert "location" not in page.headers
    assert page.headers["content-type"].startswith("text/html")


def test_what_the_app_says_is_text_on_the_page(box: LiveBox) -> None:
    app = App(
        box.url, scope='atproto repo:app.bsky.feed.post "><script>alert(1)</script>', redirect="http://127.0.0.1/%22%3E"
    )
    pushed = app.push(state='"><script>alert(2)</script>')
    browser = Browser(box.url)
    page = browser.get(app.page_url(pushed))
    assert b"alert(" not in page.body
    signed_in = walk(browser, app.page_url(app.push()), "reject", (), "correct horse battery")
    assert signed_in.status == 303


def test_an_app_that_wants_another_account_gets_none(box: LiveBox) -> None:
    app, browser = App(box.url), Browser(box.url)
    page = browser.get(app.page_url(app.push(login_hint="bob.test")))
    assert page.status == 200
    assert b"bob.test" in page.body
    assert find_form(page, "sign-in") is None
    assert press_back(browser, page)["error"] == "access_denied"


@pytest.mark.parametrize("hint", [HANDLE, "@" + HANDLE, HANDLE.upper(), "did", None])
def test_the_account_is_known_by_handle_and_did(box: LiveBox, hint: str | None) -> None:
    app = App(box.url)
    assert "code" in app.authorize(login_hint=box.did if hint == "did" else hint)


def test_a_signed_in_browser_is_asked_for_consent_only_and_prompt_login_for_the_password(box: LiveBox) -> None:
    browser = Browser(box.url)
    App(box.url).log_in(browser)
    app = App(box.url)
    page = browser.get(app.page_url(app.push()))
    assert find_form(page, "consent") is not None
    assert find_form(page, "sign-in") is None
    page = browser.get(app.page_url(app.push(prompt="login")))
    assert find_form(page, "sign-in") is not None
    assert "code" in app.authorize(browser, prompt="login")


def test_a_deactivated_account_lets_no_app_in(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        app, browser = App(box.url), Browser(box.url)
        assert box.server("deactivateAccount", {}, box.token()).status == 200
        assert browser.get(app.page_url(app.push())).status == 200, "who is not signed in is not sent on"
        back = app.authorize()
        assert back["error"] == "access_denied"
        assert "deactivated" in back["error_description"]


def test_the_second_factor_is_asked_after_the_password(tmp_path: Path) -> None:
    from pds_lite.services.second_factor import STEP_S, totp

    with live_box(tmp_path / "box", rate_limits=False) as box:
        assert box.app is not None
        factor = box.app.services.second_factor

        async def begin() -> bytes:
            return factor.begin()

        secret = box.run(begin())
        step = int(time.time()) // STEP_S
        box.run(factor.switch_on(totp(secret, step)))
        app, browser = App(box.url), Browser(box.url)
        page = browser.get(app.page_url(app.push()))
        assert b'name="code"' not in page.body, "nobody learns of it without the password"
        form = find_form(page, "sign-in")
        assert form is not None
        typed = [("username", HANDLE), ("password", "correct horse battery")]
        page = browser.request("POST", form.action, [*form.fields, *typed])
        form = find_form(page, "sign-in")
        assert form is not None
        assert b'name="code"' in page.body
        assert b"correct horse" not in page.body
        page = browser.request("POST", form.action, [*form.fields, ("code", "000000")])
        form = find_form(page, "sign-in")
        assert form is not None
        assert b"The code is not right" in page.body
        page = browser.request("POST", form.action, [*form.fields, ("code", totp(secret, step + 1))])
        assert page.status == 303
        assert find_form(browser.get(page.headers["location"]), "consent") is not None


# -- scopes


def test_the_owner_unticks_what_the_app_shall_not_do(box: LiveBox) -> None:
    app = App(box.url, scope=f"atproto repo:{POST} repo:{LIKE} account:email")
    app.log_in(untick=(f"repo:{LIKE}", "account:email"))
    assert app.tokens["scope"] == f"atproto repo:{POST}"
    assert app.post("com.atproto.repo.createRecord", post(box)).status == 200
    assert app.post("com.atproto.repo.createRecord", post(box, LIKE)).error == (403, "ScopeMissingError")
    assert "email" not in app.get("com.atproto.server.getSession").json


def test_more_than_was_asked_cannot_be_ticked(box: LiveBox) -> None:
    app, browser = App(box.url, scope=f"atproto repo:{POST}"), Browser(box.url)
    App(box.url).log_in(browser)
    page = browser.get(app.page_url(app.push()))
    form = find_form(page, "consent")
    assert form is not None
    more = [("scope", "transition:generic"), ("scope", "repo:*"), ("scope", f"repo:{POST}"), ("decision", "accept")]
    back = answer_of(browser.request("POST", form.action, [*form.fields, *more]))
    assert app.exchange(back["code"]).json["scope"] == f"atproto repo:{POST}"


@pytest.mark.parametrize(
    ("scope", "verdict"),
    [
        ("atproto", (403, "ScopeMissingError")),
        ("atproto rpc:app.bsky.feed.getFeed?aud=*", (403, "ScopeMissingError")),
        ("atproto rpc:*?aud=did:web:other.example%23bsky_appview", (403, "ScopeMissingError")),
        ("atproto rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview", (502, "UpstreamFailure")),
        ("atproto transition:generic", (502, "UpstreamFailure")),
    ],
)
def test_calls_that_are_passed_on_need_their_scope(box: LiveBox, scope: str, verdict: tuple[int, str]) -> None:
    """The AppView of this box does not answer, so what gets through fails there."""
    app = App(box.url, scope=scope).log_in()
    assert app.get("app.bsky.feed.getTimeline").error == verdict
    if "generic" in scope:
        assert app.get("chat.bsky.convo.listConvos").error == (403, "ScopeMissingError")
        assert app.get("Chat.Bsky.convo.listConvos").status in (400, 403)


def test_a_scope_is_a_ceiling_for_every_write_of_a_batch(box: LiveBox) -> None:
    app = App(box.url, scope=f"atproto repo:{POST}?action=create").log_in()
    kind, path = "com.atproto.repo.applyWrites", {"collection": POST, "rkey": "batch"}
    create = {"$type": f"{kind}#create", **path, "value": {"text": "x"}}
    delete = {"$type": f"{kind}#delete", **path}
    other = {**create, "collection": LIKE}
    for writes in ([create, delete], [create, other], [other]):
        body = {"repo": box.did, "writes": writes, "validate": False}
        assert app.post("com.atproto.repo.applyWrites", body).error == (403, "ScopeMissingError")
    assert box.get("com.atproto.repo.getRecord", repo=box.did, collection=POST, rkey="batch").status == 400
    body = {"repo": box.did, "writes": [create], "validate": False}
    assert app.post("com.atproto.repo.applyWrites", body).status == 200


KINDS = {
    "nothing": "atproto",
    "generic": "atproto transition:generic",
    "chat": "atproto transition:chat.bsky",
    "email": "atproto transition:email",
    "all records": "atproto repo:*",
    "creating": "atproto repo:*?action=create",
    "any file": "atproto blob:*/*",
    "pictures": "atproto blob:image/*",
    "a service": "atproto rpc:*?aud=did:web:api.bsky.app%23bsky_appview",
    "a method": "atproto rpc:app.bsky.feed.getTimeline?aud=*",
    "reading the address": "atproto account:email",
    "managing the address": "atproto account:email?action=manage",
    "managing the repository": "atproto account:repo?action=manage",
    "managing the status": "atproto account:status?action=manage",
    "the handle": "atproto identity:handle",
    "the identity": "atproto identity:*",
}
"""Every kind of scope there is."""
OPENS = {
    "account:email?action=manage": {"managing the address"},
    "account:repo?action=manage": {"managing the repository"},
    "account:status?action=manage": {"managing the status"},
    "identity:handle": {"the handle", "the identity"},
    "identity:*": {"the identity"},
}
"""What a method's row names -> the kinds that open it."""
IN_THE_HANDLER = {
    "app.bsky.actor.getPreferences": {"generic", "a service"},
    "app.bsky.actor.putPreferences": {"generic", "a service"},
    "com.atproto.moderation.createReport": {"generic"},
    "com.atproto.repo.createRecord": {"generic", "all records", "creating"},
    "com.atproto.repo.putRecord": {"generic", "all records"},
    "com.atproto.repo.deleteRecord": {"generic", "all records"},
    "com.atproto.repo.applyWrites": {"generic", "all records"},
    "com.atproto.repo.uploadBlob": {"generic", "any file", "pictures"},
    "com.atproto.server.getServiceAuth": {"generic", "a service", "a method"},
}
"""Methods whose scope depends on what is asked -> the kinds that open what `asked` asks."""


def asked(nsid: str, box: LiveBox) -> tuple[Any, dict[str, Any]]:
    """A body and parameters that get past the lexicon, so that only the scope can refuse."""
    inputs: dict[str, Any] = {
        "com.atproto.repo.createRecord": post(box),
        "com.atproto.repo.putRecord": {**post(box), "rkey": "self"},
        "com.atproto.repo.deleteRecord": {"repo": box.did, "collection": POST, "rkey": "none"},
        "com.atproto.repo.applyWrites": {
            "repo": box.did,
            "writes": [
                {"$type": "com.atproto.repo.applyWrites#create", "collection": POST, "rkey": "x", "value": {}},
                {"$type": "com.atproto.repo.applyWrites#delete", "collection": POST, "rkey": "x"},
            ],
        },
        "com.atproto.repo.uploadBlob": b"\x89PNG\r\n\x1a\n0000",
        "com.atproto.repo.importRepo": b"not a CAR",
        "com.atproto.server.deactivateAccount": {"deleteAfter": 5},
        "com.atproto.moderation.createReport": {
            "reasonType": "com.atproto.moderation.defs#reasonSpam",
            "subject": {"$type": "com.atproto.admin.defs#repoRef", "did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"},
        },
        "app.bsky.actor.putPreferences": {"preferences": []},
    }
    params: dict[str, Any] = {
        "com.atproto.server.getServiceAuth": {
            "aud": "did:web:api.bsky.app#bsky_appview",
            "lxm": "app.bsky.feed.getTimeline",
        }
    }
    return inputs.get(nsid), params.get(nsid, {})


@pytest.fixture(scope="module")
def apps(box: LiveBox) -> dict[str, App]:
    browser = Browser(box.url)
    return {kind: App(box.url, scope=scope).log_in(browser) for kind, scope in KINDS.items()}


@pytest.mark.parametrize("nsid", sorted(METHODS))
def test_every_method_against_every_kind_of_scope(box: LiveBox, apps: dict[str, App], nsid: str) -> None:
    """Allowed is whatever is not refused for its credentials; deactivation and import are probed with bad input."""
    method = METHODS[nsid]
    body, params = asked(nsid, box)
    headers = {"Content-Type": "image/png" if nsid.endswith("uploadBlob") else "application/vnd.ipld.car"}
    verdicts = {}
    for kind, app in apps.items():
        answer = app.call(
            method.verb, nsid, body if method.verb == "POST" else None, params=params,
            headers=headers if isinstance(body, bytes) else None,
        )  # fmt: skip
        name = answer.json.get("error", "") if answer.status >= 400 and answer.body else ""
        refused = answer.status == 403 and name in ("ScopeMissingError", "Forbidden")
        wrong_kind = answer.status in (400, 401) and name in ("InvalidToken", "AuthMissing", "AuthenticationRequired")
        verdicts[kind] = not refused and not wrong_kind
    assert {kind for kind, allowed in verdicts.items() if allowed} == expected(nsid)


def expected(nsid: str) -> set[str]:
    from pds_lite.services.access import ANY_SCOPE, Access

    method = METHODS[nsid]
    if method.access is Access.PUBLIC or method.oauth == ANY_SCOPE:
        return set(KINDS)
    if method.oauth == HANDLER_ASKS:
        return IN_THE_HANDLER[nsid]
    return OPENS[method.oauth] if method.oauth is not None else set()
