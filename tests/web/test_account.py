"""The account page over a real socket, by a browser without JavaScript: everything works, and nobody else gets in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.services.oauth.grants import Beginning
from pds_lite.services.second_factor import STEP_S, totp
from pds_lite.storage import identity_store
from pds_lite.storage.identity_store import PlcAlarm, PlcRow
from pds_lite.web.account_visit import SECTIONS
from tests.live_box import HANDLE, PASSWORD, LiveBox, live_box
from tests.web.browser import Browser, Page

GREATEST_PAGE = 30_000


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    with live_box(tmp_path_factory.mktemp("box"), rate_limits=False) as running:
        yield running


@pytest.fixture
def owner(box: LiveBox) -> Browser:
    browser = Browser(box)
    page = browser.sign_in(PASSWORD)
    assert page.answer.status == 200, page.text
    return browser


def services(box: LiveBox) -> Any:
    assert box.app is not None
    return box.app.services


def grow_stale(box: LiveBox) -> None:
    """As if the password had been shown long ago."""
    from dataclasses import replace

    browsers = services(box).browsers
    browsers._live = {name: replace(row, proved_us=0) for name, row in browsers._live.items()}


def switch_factor_on(box: LiveBox) -> tuple[bytes, list[str]]:
    factor = services(box).second_factor
    secret = factor.begin()
    codes = box.run(factor.switch_on(totp(secret, services(box).clock.now() // STEP_S)))
    return secret, codes


def switch_factor_off(box: LiveBox) -> None:
    box.run(services(box).second_factor.switch_off())


def wrong_fields(page: Page) -> list[str | None]:
    return [given["name"] for given in page.reader.inputs if given.get("aria-invalid")]


def links(page: Page) -> list[str]:
    return [given.get("href") or "" for tag, given in page.reader.tags if tag == "a"]


def test_without_sign_in_there_is_only_the_sign_in_page(box: LiveBox) -> None:
    for name in (*SECTIONS, "authenticator", "passkey", "export.car"):
        page = Browser(box).get(f"/account/{name}" if name else "/account", follow=False)
        assert page.answer.status == 303, name
        assert page.answer.headers["location"] == f"/account/sign-in?next={name}"
        assert page.answer.body == b""
    assert Browser(box).get("/account/nonsense").answer.status == 404
    assert Browser(box)._go("POST", "/account/apps", b"action=end-session", False).answer.status == 401


def test_signing_in_leads_back_to_the_section_asked_for_and_nowhere_else(box: LiveBox) -> None:
    page = Browser(box).sign_in(PASSWORD, path="/account/data")
    assert page.url == "/account/data"
    for evil in ("//evil.example", "https://evil.example", "/\\evil.example", "../evil", "javascript:1"):
        browser = Browser(box)
        page = browser.get(f"/account/sign-in?next={evil}")
        done = browser.send(page, page.form(named="sign-in"), False, username=HANDLE, password=PASSWORD, next=evil)
        assert (done.answer.status, done.answer.headers["location"]) == (303, "/account")


def test_a_wrong_password_is_one_sentence_whatever_was_wrong(box: LiveBox) -> None:
    token = box.token()
    app_password = box.server("createAppPassword", {"name": "not for pages"}, token).json["password"]
    texts = set()
    for name, password in ((HANDLE, "wrong"), ("bob.test", PASSWORD), (HANDLE, app_password)):
        page = Browser(box).sign_in(password, name)
        assert page.answer.status == 401
        texts.add(page.reader.words[page.reader.words.index("This did not work") + 2])
    assert texts == {"The handle or the password is not right. An app password does not work here."}
    box.server("revokeAppPassword", {"name": "not for pages"}, token)


def test_every_section_is_whole_small_and_locked_down(box: LiveBox, owner: Browser) -> None:
    box.token()
    style = box.request("GET", re.search(rb'href="(/static/[^"]+)"', owner.get("/account").answer.body)[1].decode())  # type: ignore[index]
    assert style.status == 200
    for name in (*SECTIONS, "authenticator", "passkey"):
        page = owner.get(f"/account/{name}" if name else "/account")
        assert page.answer.status == 200, page.text
        assert len(page.answer.body) + len(style.body) < GREATEST_PAGE, name
        policy = page.answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.answer.headers["x-frame-options"] == "DENY"
        assert page.answer.headers["cache-control"] == "no-store"
        assert page.reader.handlers == [], "no inline handlers or styles"
        assert len(page.reader.ids) == len(set(page.reader.ids)), f"an id twice in {name}"
        seen = [given for given in page.reader.inputs if given.get("type") in ("text", "password", "email", "checkbox")]
        for given in seen:
            assert given.get("id") in page.reader.labels or "hidden" in given, (name, given)
            assert "autocomplete" in given or given.get("type") == "checkbox", (name, given)
        for tag, given in page.reader.tags:
            for address in (given.get("src"), given.get("href") if tag == "link" else None):
                assert address is None or address.startswith("/"), "nothing from elsewhere"


def test_each_answer_has_a_nonce_of_its_own(owner: Browser) -> None:
    policies = {owner.get("/account/passkey").answer.headers["content-security-policy"] for _ in range(3)}
    assert len(policies) == 3
    page = owner.get("/account/passkey")
    nonce = re.search(r"'nonce-([^']+)'", page.answer.headers["content-security-policy"])
    assert nonce is not None
    assert {given.get("nonce") for tag, given in page.reader.tags if tag == "script"} == {nonce[1]}


# -- forms of strangers


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("0" * 40, {}),
        ("another browser's", {}),
        ("right", {"Origin": "https://evil.example"}),
        ("right", {"Origin": "null"}),
    ],
)
def test_a_form_of_another_site_or_browser_does_nothing(
    box: LiveBox, owner: Browser, token: str, headers: dict[str, str]
) -> None:
    page = owner.get("/account/apps")
    form = page.form("make-app-password")
    known = dict(form.fields)
    if token == "another browser's":
        other = Browser(box)
        token = dict(other.get("/account/sign-in").form(named="sign-in").fields)["csrf"]
    owner.headers |= headers
    answer = owner.send(page, form, csrf=known["csrf"] if token == "right" else token, name="evil").answer
    assert answer.status == 403
    assert all(row.name != "evil" for row in services(box).account.list_app_passwords())


def test_signing_in_needs_the_token_too(box: LiveBox) -> None:
    browser = Browser(box)
    page = browser.get("/account/sign-in")
    answer = browser.send(page, page.form(named="sign-in"), username=HANDLE, password=PASSWORD, csrf="").answer
    assert answer.status == 403
    assert "pds-lite-session" not in browser.cookies


def test_cookies_are_kept_from_scripts_and_other_sites(box: LiveBox) -> None:
    browser = Browser(box)
    page = browser.get("/account/sign-in")
    done = browser.send(page, page.form(named="sign-in"), False, username=HANDLE, password=PASSWORD)
    for cookie in (*page.answer.cookies, *done.answer.cookies):
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    before = browser.cookies["pds-lite-session"]
    services(box).browsers.find(before)
    again = Browser(box)
    again.cookies = dict(browser.cookies)
    again.cookies["pds-lite-session"] = "x" * 43
    assert again.get("/account", follow=False).answer.status == 303


def test_over_https_cookies_are_secure_and_bound_to_this_host(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", trusted_proxies=["127.0.0.1"]) as box:
        browser = Browser(box, **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"})
        page = browser.get("/account/sign-in")
        done = browser.send(page, page.form(named="sign-in"), False, username=HANDLE, password=PASSWORD)
        assert done.answer.status == 303, done.text
        for cookie in (*page.answer.cookies, *done.answer.cookies):
            assert cookie.startswith("__Host-")
            assert "; Secure" in cookie


# -- apps and sessions


def test_sessions_are_shown_with_the_app_and_can_be_ended(box: LiveBox, owner: Browser) -> None:
    body = f'{{"identifier": "{HANDLE}", "password": "{PASSWORD}"}}'.encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Skyreader/3 <script>"}
    session = box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers).json
    page = owner.get("/account/apps")
    assert "Skyreader/3 <script>" in page.text
    assert b"<script>" not in page.answer.body.replace(b"<script nonce", b"")
    live = services(box).sessions.live()[0]

    done = owner.send(page, page.form("end-session", id=live.id))

    assert "It is signed out" in done.text
    assert "Skyreader" not in done.text
    assert box.get("com.atproto.server.getSession", session["accessJwt"]).error == (400, "ExpiredToken")


def test_an_app_password_is_made_shown_once_used_and_taken_back(box: LiveBox, owner: Browser) -> None:
    page = owner.get("/account/apps")
    made = owner.send(page, page.form("make-app-password"), name="Tablet", privileged="yes")
    text = re.search(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", made.text)
    assert text is not None
    assert "Nothing is signed in with it." in owner.get("/account/apps").text
    token = box.token(text[0])
    page = owner.get("/account/apps")
    assert "Nothing is signed in with it." not in page.text
    assert text[0] not in page.text
    assert "App password “Tablet”" in page.text
    again = owner.send(page, page.form("make-app-password"), name="Tablet")
    assert again.answer.status == 400
    assert "already" in again.text
    assert wrong_fields(again) == ["name"]

    owner.send(page, page.form("revoke-app-password", name="Tablet"))

    assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")


def let_an_app_in(box: LiveBox) -> Any:
    """A grant, as an app gets it after its owner agreed."""
    from pds_lite.atproto.oauth_scope import ScopeSet
    from pds_lite.services.oauth.grants import Beginning

    scopes = ScopeSet.parse("atproto repo:app.bsky.feed.post blob:image/*")
    beginning = Beginning(
        client_id="https://leaflet.example/client.json",
        client_name="<b>Your Bank</b>",
        sub=box.did,
        agreed=scopes,
        scope=scopes,
        dpop_jkt="jkt",
        client_key="",
        code_hash=b"code",
        code_challenge="challenge",
    )
    return box.run(services(box).oauth().grants.begin(beginning, []))


@pytest.mark.parametrize("ending", ["a new password", "a takedown", "a deletion"])
def test_what_ends_every_session_ends_what_apps_were_let_into(tmp_path: Path, ending: str) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        let_an_app_in(box)
        owner = Browser(box)
        owner.sign_in(PASSWORD)
        token = box.token()
        ends = {
            "a new password": lambda: services(box).account.set_password("another long one"),
            "a takedown": lambda: services(box).takedowns.take_down("case"),
            "a deletion": lambda: services(box).deletion.delete(box.did),
        }
        box.run(ends[ending]())
        assert services(box).oauth().grants.live() == []
        assert services(box).browsers.live() == []
        assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
    with live_box(tmp_path / "box", account=False) as box:
        assert services(box).oauth().grants.live() == []
        assert (services(box).browsers.live(), services(box).sessions.live()) == ([], [])


def test_an_app_let_in_is_shown_with_what_it_may_do_and_revoked(box: LiveBox, owner: Browser) -> None:
    grants = services(box).oauth().grants
    grant = let_an_app_in(box)
    page = owner.get("/account/apps")
    assert "leaflet.example" in page.text
    assert "your posts" in page.text
    assert "Upload" in page.text
    assert "Your Bank" not in page.text, "what an app calls itself proves nothing"

    done = owner.send(page, page.form("revoke-grant", id=grant.id))

    assert "leaflet.example" not in done.text
    assert grants.live() == []


def test_another_browser_is_signed_out_from_here(box: LiveBox, owner: Browser) -> None:
    other = Browser(box, "Stolen laptop")
    other.sign_in(PASSWORD)
    page = owner.get("/account/apps")
    row = next(row for row in services(box).browsers.live() if row.client == "Stolen laptop")

    owner.send(page, page.form("end-browser", id=row.id))

    assert other.get("/account", follow=False).answer.status == 303
    assert owner.get("/account", follow=False).answer.status == 200


def test_signing_out(box: LiveBox, owner: Browser) -> None:
    cookies = dict(owner.cookies)
    page = owner.get("/account")
    owner.send(page, page.form("sign-out"))
    owner.cookies = cookies
    assert owner.get("/account", follow=False).answer.status == 303


# -- security


def test_the_password_is_changed_with_the_old_one_and_everybody_else_is_out(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        owner, other, token = Browser(box), Browser(box), box.token()
        owner.sign_in(PASSWORD)
        other.sign_in(PASSWORD)
        page = owner.get("/account/security")
        form = page.form("password")

        wrong = owner.send(page, form, current_password="wrong", new_password="another long one")
        assert wrong.answer.status == 400
        assert "The password is not right" in wrong.text
        short = owner.send(page, form, current_password=PASSWORD, new_password="short")
        assert short.answer.status == 400
        assert other.get("/account", follow=False).answer.status == 200

        done = owner.send(page, form, current_password=PASSWORD, new_password="another long one")
        assert "Your password is changed" in done.text
        assert other.get("/account", follow=False).answer.status == 303
        assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
        assert Browser(box).sign_in(PASSWORD).answer.status == 401
        assert Browser(box).sign_in("another long one").answer.status == 200


def test_the_second_factor_from_switching_it_on_to_the_last_recovery_code(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        owner = Browser(box)
        owner.sign_in(PASSWORD)
        page = owner.get("/account/authenticator")
        secret = services(box).second_factor.begin()
        assert re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page.text)
        assert b"<svg" in page.answer.body

        wrong = owner.send(page, page.form("factor-on"), code="12345")
        assert wrong.answer.status == 400
        done = owner.send(page, page.form("factor-on"), code=totp(secret, services(box).clock.now() // STEP_S))
        codes = re.findall(r"[A-Z2-7]{5}-[A-Z2-7]{5}", done.text)
        assert len(codes) == 10

        fresh = Browser(box)
        asked = fresh.sign_in(PASSWORD)
        assert "Your password is right" in asked.text
        assert fresh.get("/account", follow=False).answer.status == 303
        assert PASSWORD not in asked.answer.body.decode()
        refused = fresh.send(asked, asked.form(named="sign-in"), code="000000")
        assert refused.answer.status == 400
        assert "The code is not right" in refused.text
        inside = fresh.send(refused, refused.form(named="sign-in"), code=codes[0])
        assert "@alice.test" in inside.text
        again = Browser(box)
        asked = again.sign_in(PASSWORD)
        assert again.send(asked, asked.form(named="sign-in"), code=codes[0]).answer.status == 400

        page = owner.get("/account/security")
        assert "9 recovery codes are left" in page.text
        grow_stale(box)
        page = owner.get("/account/security")
        assert owner.send(page, page.form("factor-off")).answer.status == 400
        done = owner.send(page, page.form("factor-off"), current_password=PASSWORD)
        assert "The second factor is off" in done.text
        assert Browser(box).sign_in(PASSWORD).answer.status == 200


def test_a_code_alone_lets_nobody_in(box: LiveBox) -> None:
    _, codes = switch_factor_on(box)
    try:
        browser = Browser(box)
        page = browser.sign_in("wrong", code=codes[0])
        assert page.answer.status == 401
        page = browser.sign_in("", code=codes[1])
        assert page.answer.status == 401
        with_code = Browser(box).sign_in(PASSWORD, code=codes[2])
        assert with_code.answer.status == 200
    finally:
        switch_factor_off(box)


def test_what_matters_asks_for_the_password_again_after_a_while(box: LiveBox, owner: Browser) -> None:
    grow_stale(box)
    before = services(box).account.require()
    for path, action, fields in (
        ("/account/apps", "make-app-password", {"name": "later"}),
        ("/account/email", "email", {"email": "new@example.com"}),
        ("/account/address", "handle", {"handle": "other.test"}),
        ("/account/danger", "deactivate", {"deactivate_handle": HANDLE}),
        ("/account/danger", "delete", {"delete_handle": HANDLE}),
    ):
        page = owner.get(path)
        for password in (None, "wrong"):
            answer = owner.send(page, page.form(action), current_password=password, **fields)
            assert answer.answer.status == 400, (action, answer.text)
            assert wrong_fields(answer) == ["current-password"]
    for path in ("/account/codes", "/account/authenticator", "/account/passkey"):
        page = owner.get(path)
        assert "Your password first" in page.text
        assert not re.search(r"[A-Z2-7]{5}-[A-Z2-7]{5}", page.text)
    assert services(box).account.require() == before

    page = owner.get("/account/codes")
    through = owner.send(page, page.form("prove"), current_password=PASSWORD)
    assert through.url == "/account/codes"
    assert "Your password first" not in through.text


def test_a_wrong_password_is_shown_at_the_form_it_was_typed_into(box: LiveBox, owner: Browser) -> None:
    grow_stale(box)
    page = owner.get("/account/danger")
    for action, field in (("deactivate", "deactivate_handle"), ("delete", "delete_handle")):
        answer = owner.send(page, page.form(action), current_password="wrong", **{field: HANDLE})
        marked = [given["id"] for given in answer.reader.inputs if given.get("aria-invalid")]
        assert marked == [f"{action}-password"]
        assert f"#{action}-password" in links(answer)


def test_what_was_typed_is_still_there_after_a_refusal_but_no_password(box: LiveBox, owner: Browser) -> None:
    page = owner.get("/account/address")
    answer = owner.send(page, page.form("handle"), handle="nowhere.invalid-tld-of-nobody")
    assert answer.answer.status == 400
    typed = {given.get("id"): given.get("value") for given in answer.reader.inputs}
    assert typed["handle"] == "nowhere.invalid-tld-of-nobody"
    assert "does not lead to you yet" in answer.text
    page = owner.get("/account/security")
    answer = owner.send(page, page.form("password"), current_password="hunter2hunter2", new_password="correct horse 2")
    assert answer.answer.status == 400
    for secret in (b"hunter2hunter2", b"correct horse 2"):
        assert secret not in answer.answer.body


def test_to_stay_signed_in_survives_the_question_for_a_code(box: LiveBox) -> None:
    _, codes = switch_factor_on(box)
    try:
        browser = Browser(box)
        asked = browser.sign_in(PASSWORD, remember="yes")
        done = browser.send(asked, asked.form(named="sign-in"), follow=False, code=codes[0])
        cookie = next(cookie for cookie in done.answer.cookies if "session" in cookie)
        assert "Max-Age=2592000" in cookie
    finally:
        switch_factor_off(box)


def test_an_account_that_is_taken_down_is_told_so_and_offered_nothing_that_fails(tmp_path: Path) -> None:
    with live_box(tmp_path / "box") as box:
        box.run(services(box).takedowns.take_down("case"))
        owner = Browser(box)
        assert "taken down by whoever administers" in owner.sign_in(PASSWORD).text
        page = owner.get("/account/danger")
        assert "only they can give it back" in page.text
        assert "activate" not in [dict(form.fields).get("action") for form in page.reader.forms]
        assert owner.get("/account/export.car").answer.status == 200


def test_an_alarm_about_the_identity_says_what_to_do_and_for_how_long(box: LiveBox, owner: Browser) -> None:
    assert "changed your identity" not in owner.get("/account").text
    now = services(box).clock.now()
    undoable = PlcAlarm("bafyalarm", now - 3600, "did:key:zThief", ("did:key:zOwner",), ("+ name at://thief.example",))
    row = PlcRow(alarms=(undoable, PlcAlarm("bafylate", now - 80 * 3600, "did:key:zThief", ("x",), ())))
    before = services(box).plc_watch.row()
    services(box).store.write_sync(lambda txn: identity_store.put_plc(txn, row))
    try:
        text = owner.get("/account").text
    finally:
        services(box).store.write_sync(lambda txn: identity_store.put_plc(txn, before))
    assert re.search(r"for another (71 hours and 0|70 hours and 59) minutes", text.replace(" ,", ","))
    assert f"pds-lite identity undo --did {box.did}" in text
    assert "+ name at://thief.example" in text
    assert "It cannot be taken back any more" in text


# -- address, e-mail, codes, data


def test_the_handle_and_the_address_are_changed(box: LiveBox, owner: Browser) -> None:
    page = owner.get("/account/address")
    bad = owner.send(page, page.form("handle"), handle="not a handle")
    assert bad.answer.status == 400
    done = owner.send(page, page.form("handle"), handle="@Carol.test")
    assert "Your handle is changed" in done.text
    assert services(box).account.require().handle == "carol.test"
    owner.send(done, done.form("handle"), handle=HANDLE)

    page = owner.get("/account/email")
    assert owner.send(page, page.form("email"), email="nonsense").answer.status == 400
    page = owner.send(page, page.form("email"), email="carol@example.com")
    assert "carol@example.com , not confirmed" in page.text
    page = owner.send(page, page.form("confirm"))
    assert "carol@example.com , confirmed" in page.text
    assert box.log_in()["emailConfirmed"] is True
    owner.send(page, page.form("email"), email="alice@example.com")


def test_codes_that_would_go_by_mail_wait_here(box: LiveBox, owner: Browser) -> None:
    token = box.token()
    assert "None." in owner.get("/account/codes").text
    assert box.server("requestAccountDelete", token=token).status == 200
    page = owner.get("/account/codes")
    assert "Delete your account" in page.text
    assert re.search(r"[A-Z2-7]{5}-[A-Z2-7]{5}", page.text)
    page = owner.send(page, page.form("plc-code"))
    assert "move to another host (PLC operation)" in page.text


def test_the_repository_is_downloaded_whole(box: LiveBox, owner: Browser) -> None:
    token = box.token()
    record = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
    box.post("com.atproto.repo.createRecord", record, token)

    export = owner.get("/account/export.car").answer

    assert export.headers["content-type"] == "application/vnd.ipld.car"
    assert export.headers["content-disposition"] == f'attachment; filename="{HANDLE}.car"'
    assert export.body == box.get("com.atproto.sync.getRepo", did=box.did).body
    assert owner._go("HEAD", "/account/export.car", None, False).answer.status == 200


def test_files_are_listed_in_pages(box: LiveBox, owner: Browser) -> None:
    token = box.token()
    blobs = [box.post("com.atproto.repo.uploadBlob", b"file %d" % number, token).json["blob"] for number in range(60)]
    record = {"$type": "com.example.files", "files": blobs}
    body = {"repo": box.did, "collection": "com.example.files", "record": record}
    assert box.post("com.atproto.repo.createRecord", body, token).status == 200

    first = owner.get("/account/data")
    more = next(link for link in links(first) if "after=" in link)
    second = owner.get(more.partition("#")[0])

    files = [link for page in (first, second) for link in links(page) if "getBlob" in link]
    assert len(files) == len(set(files)) == 60
    assert box.request("GET", files[0]).body.startswith(b"file ")
    assert owner.get("/account/data?after=nonsense").answer.status == 200


# -- leaving


def test_leaving_takes_the_handle_typed(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        owner = Browser(box)
        owner.sign_in(PASSWORD)
        page = owner.get("/account/danger")
        for action, name in (("deactivate", "deactivate_handle"), ("delete", "delete_handle")):
            answer = owner.send(page, page.form(action), current_password=PASSWORD, **{name: "alice"})
            assert answer.answer.status == 400
            assert "type your handle exactly" in answer.text

        done = owner.send(page, page.form("deactivate"), deactivate_handle="@Alice.test")
        assert "Your account is deactivated" in done.text
        assert box.log_in()["status"] == "deactivated"
        assert "deactivated" in owner.get("/account").text
        assert owner.get("/account/export.car").answer.status == 200, "the data can always be taken along"
        back = owner.send(done, done.form("activate"))
        assert "Your account is active" in back.text

        gone = owner.send(back, back.form("delete"), delete_handle=HANDLE, current_password=PASSWORD)
        assert "Your account is deleted" in gone.text
        assert owner.get("/account").answer.status == 404
        assert box.server("createSession", {"identifier": HANDLE, "password": PASSWORD}).status == 401


def test_after_deletion_nothing_of_the_sign_in_is_left(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        switch_factor_on(box)
        Browser(box).sign_in(PASSWORD)
        owner = services(box)
        assert owner.sign_in.log.attempts()
        box.run(owner.deletion.delete(box.did))
        assert not owner.second_factor.required
        assert owner.browsers.live() == []
        assert owner.sign_in.log.attempts() == []
        assert not owner.sign_in.log.is_known("127.0.0.1")
    with live_box(tmp_path / "box", account=False) as box:
        assert services(box).sign_in.log.attempts() == []


# -- the log


def test_the_log_says_who_was_refused_and_exactly_why(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        body = b'{"identifier": "alice.test", "password": "wrong"}'
        headers = {"Content-Type": "application/json", "User-Agent": "Bot/2 <b>"}
        for _ in range(3):
            box.request("POST", "/xrpc/com.atproto.server.createSession", body, headers)
        Browser(box).sign_in(PASSWORD, "bob.test")
        owner = Browser(box, "My phone")
        owner.sign_in(PASSWORD)

        text = owner.get("/account/log").text

        assert re.search(r"Refused 3 times, last .*?: The password was wrong\. App: Bot/2 <b>, as alice.test", text)
        assert "There is no account of that name here. This page: Testbrowser/1, as bob.test, from 127.0.0.1" in text
        assert re.search(r"Let in .*? This page: My phone", text)


def test_an_app_that_asks_wrongly_is_in_the_log_with_the_reason(box: LiveBox, owner: Browser) -> None:
    body = b"client_id=http%3A%2F%2Flocalhost&response_type=code&scope=atproto"
    answer = box.request("POST", "/oauth/par", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 400

    text = owner.get("/account/log").text

    reason = answer.json["error_description"]
    assert f"{answer.json['error']}: {reason}" in text
    assert "App asking: http://localhost, from 127.0.0.1" in text


def test_a_full_log_stays_below_the_size_of_a_page(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        log = services(box).sign_in.log
        for number in range(300):
            log.refused("oauth", f"https://app-{number}.example.com/{'x' * 150}", "2001:db8::1", HANDLE, "y" * 100)
        owner = Browser(box)
        owner.sign_in(PASSWORD)
        seen = 0
        for number in range(4):
            page = owner.get(f"/account/log?page={number}")
            assert len(page.answer.body) < GREATEST_PAGE
            seen += page.text.count("Refused ")
        assert seen == 199


async def let_in(box: LiveBox, number: int) -> None:
    """An app that asks for nearly as much as a request can hold."""
    asked = ScopeSet(["atproto", *(f"repo:com.example{each}.{'x' * 40}.post" for each in range(80))])
    await (
        services(box)
        .oauth()
        .grants.begin(
            Beginning(
                client_id=f"https://app-{number}.example.com/{'x' * 1500}",
                client_name="",
                sub=box.did,
                agreed=ScopeSet([*asked.texts, "include:com.example.all"]),
                scope=asked,
                dpop_jkt="",
                client_key="",
                code_hash=b"",
                code_challenge="",
            ),
            [],
        )
    )


def test_every_app_and_session_can_be_seen_and_signed_out_however_many_there_are(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", rate_limits=False) as box:
        for number in range(10):
            box.run(let_in(box, number))
            box.server("createAppPassword", {"name": f"Password {number}"}, box.token())
        owner = Browser(box)
        owner.sign_in(PASSWORD)
        for name, shown in (("apps", "Let in"), ("sessions", "Signed in"), ("passwords", "Made")):
            pages = [owner.get(f"/account/apps?{name}={number}") for number in range(3)]
            assert [len(re.findall(rf"{shown} \d", page.text)) for page in pages] == [4, 4, 2], name
            assert max(len(page.answer.body) for page in pages) < GREATEST_PAGE - 6000, "the style comes on top"
        assert "2 more apps" in owner.get("/account/apps?apps=1").text
        page = owner.get("/account/apps?apps=2")
        assert "app-0.example.com" in page.text
        assert "more." in page.text, "what has no room on the card is counted"
        for form in [form for form in page.reader.forms if ("action", "revoke-grant") in form.fields]:
            assert owner.send(page, form).answer.status == 200
        assert len(services(box).oauth().grants.live()) == 8
        assert owner.get("/account/apps?apps=2").text.count("Let in ") == 4, "an empty page is the first one"


def test_an_empty_box_says_so(tmp_path: Path) -> None:
    with live_box(tmp_path / "box", account=False) as box:
        page: Page = Browser(box).get("/account")
        assert page.answer.status == 404
        assert "Nobody lives here yet" in page.text
