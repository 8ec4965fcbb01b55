"""An OAuth client for tests: does what a real one does, and everything wrong that a real one does right."""

from __future__ import annotations

import html
import http.client
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from pds_lite.atproto import dpop, pkce
from pds_lite.atproto.client_assertion import ASSERTION_TYPE
from pds_lite.atproto.crypto import P256Key
from pds_lite.atproto.crypto.jwk import format_jwk
from pds_lite.atproto.jwt import encode_jws
from tests.live_box import HANDLE, PASSWORD, Answer

REDIRECT = "http://127.0.0.1:8765/callback"


def make_key() -> P256Key:
    return P256Key.generate(secrets.token_bytes(40))


def localhost_id(scope: str, redirect: str = REDIRECT) -> str:
    return "http://localhost?" + urlencode({"redirect_uri": redirect, "scope": scope})


class Browser:
    """Cookies and forms, no JavaScript."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies: dict[str, str] = {}
        self.headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "User-Agent": "test browser"}

    def request(
        self, verb: str, url: str, form: list[tuple[str, str]] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        parts = urlsplit(urljoin(self.url, url))
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
        sent = {"Host": parts.netloc, **self.headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            body = urlencode(form).encode()
            sent |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
            sent |= {"Sec-Fetch-Site": "same-origin"}
        try:
            connection.request(verb, f"{parts.path}?{parts.query}", body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    key, _, rest = value.partition("=")
                    self.cookies[key] = rest.partition(";")[0]
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def get(self, url: str) -> Answer:
        return self.request("GET", url)


@dataclass
class PageForm:
    action: str
    fields: list[tuple[str, str]]
    scopes: list[str]


def find_form(page: Answer, form_id: str) -> PageForm | None:
    text = page.body.decode()
    for match in re.finditer(r"<form\b([^>]*)>(.*?)</form>", text, re.DOTALL):
        attributes = _attributes(match[1])
        if attributes.get("id") != form_id:
            continue
        fields, scopes = [], []
        for tag in re.findall(r"<input\b([^>]*)>", match[2]):
            found = _attributes(tag)
            if found.get("type") == "checkbox":
                if found["name"] == "scope":
                    scopes.append(found["value"])
            elif found.get("type") == "hidden":
                fields.append((found["name"], found["value"]))
        return PageForm(attributes["action"], fields, scopes)
    return None


def _attributes(tag: str) -> dict[str, str]:
    pairs = re.findall(r'([a-z-]+)(?:="([^"]*)")?', tag)
    return {name: html.unescape(value) for name, value in pairs}


@dataclass
class App:
    """An app at one box. `client_id` is the localhost client unless given."""

    url: str
    scope: str = "atproto transition:generic"
    client_id: str = ""
    redirect: str = REDIRECT
    key: P256Key = field(default_factory=make_key)
    client_key: P256Key | None = None
    """For a confidential client."""
    kid: str = "key-1"
    nonce: str | None = None
    verifier: str = ""
    state: str = ""
    tokens: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client_id = self.client_id or localhost_id(self.scope, self.redirect)

    # -- proofs

    def proof(self, verb: str, url: str, *, token: str | None = None, key: P256Key | None = None, **claims: Any) -> str:
        key = key or self.key
        said: dict[str, Any] = {
            "jti": secrets.token_hex(12),
            "htm": verb,
            "htu": url,
            "iat": int(time.time()),
            "nonce": self.nonce,
            "ath": dpop.token_hash(token) if token else None,
            **claims,
        }
        head = {"typ": "dpop+jwt", "jwk": format_jwk(key.public_key)}
        return encode_jws(head, {name: value for name, value in said.items() if value is not None}, key)

    def assertion(self, **claims: Any) -> str:
        assert self.client_key is not None
        now = int(time.time())
        said = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.url,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(12),
            **claims,
        }
        return encode_jws({"kid": self.kid, "typ": "JWT"}, said, self.client_key)

    # -- requests to the authorization server

    def send(
        self,
        path: str,
        parameters: Mapping[str, Any],
        *,
        proof: str | None = "fresh",
        key: P256Key | None = None,
        as_json: bool = False,
        retry: bool = True,
        authenticate: bool = True,
    ) -> Answer:
        url = self.url + path
        for _attempt in range(2):
            sent = {name: value for name, value in parameters.items() if value is not None}
            if self.client_key is not None and authenticate and "client_assertion" not in sent:
                sent |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.assertion()}
            body = json.dumps(sent).encode() if as_json else urlencode(sent).encode()
            headers = {"Content-Type": "application/json" if as_json else "application/x-www-form-urlencoded"}
            if proof is not None:
                headers["DPoP"] = self.proof("POST", url, key=key) if proof == "fresh" else proof
            answer = ask(self.url, "POST", path, body, headers)
            self.nonce = answer.headers.get("dpop-nonce", self.nonce)
            if not (retry and answer.json.get("error") == "use_dpop_nonce"):
                break
        return answer

    def request(self, **changes: Any) -> dict[str, Any]:
        self.verifier, self.state = secrets.token_urlsafe(32), secrets.token_urlsafe(8)
        return {
            "client_id": self.client_id,
            "response_type": "code",
            "code_challenge": pkce.challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "state": self.state,
            "redirect_uri": self.redirect,
            "scope": self.scope,
            "login_hint": HANDLE,
            **changes,
        }

    def push(self, **changes: Any) -> Answer:
        return self.send("/oauth/par", self.request(**changes))

    def page_url(self, pushed: Answer) -> str:
        assert pushed.status == 201, pushed.body
        return "/oauth/authorize?" + urlencode({"client_id": self.client_id, "request_uri": pushed.json["request_uri"]})

    def authorize(
        self,
        browser: Browser | None = None,
        *,
        decision: str = "accept",
        untick: tuple[str, ...] = (),
        password: str = PASSWORD,
        **changes: Any,
    ) -> dict[str, str]:
        """Walks through the pages as the owner: what comes back to the app."""
        browser = browser or Browser(self.url)
        return answer_of(walk(browser, self.page_url(self.push(**changes)), decision, untick, password))

    def exchange(self, code: str, **changes: Any) -> Answer:
        return self.send("/oauth/token", self.exchange_parameters(code, **changes))

    def exchange_parameters(self, code: str, **changes: Any) -> dict[str, Any]:
        return {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": self.verifier,
            **changes,
        }

    def log_in(self, browser: Browser | None = None, **walk: Any) -> App:
        back = self.authorize(browser, **walk)
        answer = self.exchange(back["code"])
        assert answer.status == 200, answer.body
        self.tokens = answer.json
        return self

    def refresh(self, token: str | None = None, **options: Any) -> Answer:
        parameters = {
            "grant_type": "refresh_token",
            "client_id": self.client_id,
            "refresh_token": token or self.tokens["refresh_token"],
        }
        return self.send("/oauth/token", parameters, **options)

    def revoke(self, token: str, **options: Any) -> Answer:
        return self.send("/oauth/revoke", {"client_id": self.client_id, "token": token}, **options)

    # -- requests to the resource

    def call(
        self,
        verb: str,
        nsid: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        token: str | None = None,
        proof: str | None = "fresh",
        scheme: str = "DPoP",
        headers: Mapping[str, str] | None = None,
        retry: bool = True,
        **claims: Any,
    ) -> Answer:
        token = token or self.tokens["access_token"]
        path = f"/xrpc/{nsid}"
        for _attempt in range(2):
            sent = {"Authorization": f"{scheme} {token}", **(headers or {})}
            if proof is not None:
                sent["DPoP"] = self.proof(verb, self.url + path, token=token, **claims) if proof == "fresh" else proof
            data = body
            if body is not None and not isinstance(body, bytes):
                data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
            answer = ask(self.url, verb, path + (f"?{urlencode(params, doseq=True)}" if params else ""), data, sent)
            self.nonce = answer.headers.get("dpop-nonce", self.nonce)
            if not (retry and answer.status == 401 and answer.json.get("error") == "use_dpop_nonce"):
                break
        return answer

    def get(self, nsid: str, **params: Any) -> Answer:
        return self.call("GET", nsid, params=params)

    def post(self, nsid: str, body: Any = None, **options: Any) -> Answer:
        return self.call("POST", nsid, body, **options)


def ask(url: str, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    try:
        connection.request(verb, path, body, {"Host": parts.netloc, **headers})
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def walk(browser: Browser, url: str, decision: str, untick: tuple[str, ...], password: str) -> Answer:
    """Follows the pages until one leads away: that answer."""
    page = browser.get(url)
    for _step in range(6):
        location = page.headers.get("location")
        if page.status == 303 and location is not None:
            if not location.startswith(("/", browser.url)):
                return page
            page = browser.get(location)
            continue
        if find_form(page, "answer") is not None:
            return page
        assert page.status == 200, page.body
        consent, sign_in = find_form(page, "consent"), find_form(page, "sign-in")
        if consent is not None:
            ticked = [("scope", scope) for scope in consent.scopes if scope not in untick]
            page = browser.request("POST", consent.action, [*consent.fields, *ticked, ("decision", decision)])
        else:
            assert sign_in is not None, page.body
            typed = [("username", HANDLE), ("password", password)]
            page = browser.request("POST", sign_in.action, [*sign_in.fields, *typed])
    raise AssertionError(page.body)


def answer_of(page: Answer) -> dict[str, str]:
    """The parameters that go back to the app."""
    form = find_form(page, "answer")
    if form is not None:
        return dict(form.fields)
    parts = urlsplit(page.headers["location"])
    return dict(parse_qsl(parts.fragment or parts.query))
