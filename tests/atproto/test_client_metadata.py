"""Client metadata: documents that hold to the rules, and each way not to."""

import pytest

from pds_lite.atproto.client_metadata import localhost_client, parse_client_id, parse_document, parse_jwks
from pds_lite.errors import OAuthError

ID = "https://app.example.com/client-metadata.json"
KEY = {"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "kid": "1"}
WEB = {
    "client_id": ID,
    "client_name": "An app",
    "redirect_uris": ["https://app.example.com/callback"],
    "scope": "atproto transition:generic",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "dpop_bound_access_tokens": True,
}
CONFIDENTIAL = {
    **WEB,
    "token_endpoint_auth_method": "private_key_jwt",
    "token_endpoint_auth_signing_alg": "ES256",
    "jwks": {"keys": [KEY]},
}
NATIVE = {**WEB, "application_type": "native", "redirect_uris": ["com.example.app:/callback", "http://127.0.0.1/cb"]}


def changed(base, **members):
    return {name: value for name, value in {**base, **members}.items() if value is not None}


def test_a_public_web_client():
    client = parse_document(ID, WEB)
    assert client.redirect_uris == ("https://app.example.com/callback",)
    assert client.scopes == {"atproto", "transition:generic"}
    assert not client.is_confidential
    assert not client.is_local
    assert client.name == "An app"


def test_a_confidential_client_shows_or_points_to_its_keys():
    assert parse_document(ID, CONFIDENTIAL).jwks == (KEY,)
    client = parse_document(ID, changed(CONFIDENTIAL, jwks=None, jwks_uri="https://app.example.com/jwks.json"))
    assert client.is_confidential
    assert client.jwks_uri == "https://app.example.com/jwks.json"


def test_a_native_client_has_its_own_scheme_and_loopback_ports():
    client = parse_document(ID, NATIVE)
    assert client.takes_redirect("com.example.app:/callback")
    assert client.takes_redirect("http://127.0.0.1:49152/cb")
    assert not client.takes_redirect("http://127.0.0.1:49152/other")
    assert not client.takes_redirect("http://[::1]:49152/cb")
    assert not client.takes_redirect("https://127.0.0.1:49152/cb")


@pytest.mark.parametrize(
    "members",
    [
        {"client_id": "https://evil.example.com/client-metadata.json"}, {"client_id": None}, {"scope": None},
        {"scope": "transition:generic"}, {"scope": 5}, {"grant_types": ["refresh_token"]},
        {"grant_types": ["authorization_code", "implicit"]}, {"grant_types": "authorization_code"},
        {"response_types": ["token"]}, {"dpop_bound_access_tokens": False}, {"dpop_bound_access_tokens": None},
        {"dpop_bound_access_tokens": "true"}, {"application_type": "desktop"}, {"redirect_uris": None},
        {"redirect_uris": []}, {"redirect_uris": [5]}, {"redirect_uris": ["https://a.example/"] * 101},
        {"redirect_uris": ["http://app.example.com/callback"]}, {"redirect_uris": ["http://127.0.0.1/callback"]},
        {"redirect_uris": ["https://localhost/callback"]}, {"redirect_uris": ["https://127.0.0.1/callback"]},
        {"redirect_uris": ["https://box.local/callback"]}, {"redirect_uris": ["com.example.app:/callback"]},
        {"redirect_uris": ["https://u:p@app.example.com/"]}, {"redirect_uris": ["https://app.example.com/#here"]},
        {"redirect_uris": ["javascript:alert(1)"]}, {"redirect_uris": ["data:text/html,x"]}, {"redirect_uris": ["/cb"]},
        {"redirect_uris": ["https://app.example.com/\r\nSet-Cookie: a"]}, {"redirect_uris": ["https://a.example/é"]},
        {"redirect_uris": ["https://a.example\\@evil.example/"]}, {"redirect_uris": ["https://app.example.com:x/"]},
        {"redirect_uris": ["https://a.example;script-src/"]}, {"redirect_uris": ["https://a.example,b.example/"]},
        {"token_endpoint_auth_method": None}, {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_signing_alg": "ES256"},
    ],
)  # fmt: skip
def test_a_document_that_breaks_a_rule_is_refused(members):
    with pytest.raises(OAuthError) as raised:
        parse_document(ID, changed(WEB, **members))
    assert raised.value.error == "invalid_client_metadata"


@pytest.mark.parametrize(
    "members",
    [
        {"jwks": None}, {"jwks_uri": "https://app.example.com/jwks.json"}, {"jwks": {"keys": []}}, {"jwks": {}},
        {"jwks": {"keys": [{**KEY, "d": "secret"}]}}, {"jwks": {"keys": [5]}}, {"jwks": {"keys": [KEY] * 51}},
        {"token_endpoint_auth_signing_alg": None}, {"token_endpoint_auth_signing_alg": "none"},
        {"token_endpoint_auth_signing_alg": "HS256"}, {"token_endpoint_auth_signing_alg": 5},
        {"application_type": "native"},
        {"jwks": None, "jwks_uri": "http://app.example.com/jwks.json"}, {"jwks": None, "jwks_uri": 5},
    ],
)  # fmt: skip
def test_a_confidential_client_without_usable_keys_is_refused(members):
    with pytest.raises(OAuthError):
        parse_document(ID, changed(CONFIDENTIAL, **members))


@pytest.mark.parametrize(
    "uri",
    ["com.example.app://callback", "com.example.app:callback", "com.example.other:/callback", "org.evil:/x", "app:/x"],
)
def test_a_native_client_cannot_take_another_scheme(uri):
    with pytest.raises(OAuthError):
        parse_document(ID, changed(NATIVE, redirect_uris=[uri]))


@pytest.mark.parametrize(
    "client_id",
    [
        "", "app", "http://app.example.com/metadata.json", "https://app.example.com", "https://app.example.com/",
        "https://app.example.com/x/", "https://u@app.example.com/x", "https://app.example.com/x#y", "https://10.0.0.1/x",
        "https://localhost/x", "https://box.local/x", "https://app.example.com/a/../b", "https://app.example.com/./b",
        "https://app.example.com/" + "x" * 2048, "https://app.example.com/a b", "https://app.example.com/é",
        "https://app.example.com:x/y", "http://localhost:80", "http://localhost/path", "https://[::1]/x",
        "https://app.example.com\\.evil.example/x", "ftp://app.example.com/x",
    ],
)  # fmt: skip
def test_a_client_id_of_another_form_is_refused(client_id):
    with pytest.raises(OAuthError) as raised:
        parse_client_id(client_id)
    assert raised.value.error == "invalid_client_metadata"


def test_development_lets_loopback_documents_through():
    assert parse_client_id("https://app.example.com/metadata.json") is False
    assert parse_client_id("http://127.0.0.1:8080/metadata.json", dev=True) is False
    assert parse_client_id("https://localhost:8443/metadata.json", dev=True) is False
    with pytest.raises(OAuthError):
        parse_client_id("http://app.example.com/metadata.json", dev=True)


def test_a_localhost_client_holds_many_scopes_but_not_any_number():
    assert parse_client_id("http://localhost?scope=atproto" + "+repo%3Acom.example.record" * 200) is True
    with pytest.raises(OAuthError):
        parse_client_id("http://localhost?scope=atproto" + "+repo%3Acom.example.record" * 400)


def test_the_localhost_client():
    assert parse_client_id("http://localhost") is True
    client = localhost_client("http://localhost")
    assert client.is_local
    assert client.scopes == {"atproto"}
    assert client.takes_redirect("http://127.0.0.1:3000/")
    assert client.takes_redirect("http://127.0.0.1:3000")
    assert not client.takes_redirect("http://127.0.0.1:3000/callback")
    assert not client.takes_redirect("http://localhost:3000/")
    query = "?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback&scope=atproto+transition%3Ageneric"
    assert parse_client_id("http://localhost/" + query) is True
    client = localhost_client("http://localhost" + query)
    assert client.scopes == {"atproto", "transition:generic"}
    assert client.takes_redirect("http://127.0.0.1:8765/callback")
    assert not client.takes_redirect("http://127.0.0.1:8766/callback"), "a registered port is meant"


@pytest.mark.parametrize(
    "query",
    [
        "scope=transition%3Ageneric", "scope=atproto&scope=atproto", "redirect_uri=https%3A%2F%2Fevil.example%2F",
        "x=y", "&".join(["scope=atproto"] * 60), "&" * 100, "scope=atproto+%ff",
        "redirect_uri=http%3A%2F%2Flocalhost%2F", "redirect_uri=http%3A%2F%2F127.0.0.1.evil.example%2F",
        "redirect_uri=http%3A%2F%2F127.0.0.1%40evil.example%2F", "redirect_uri=com.example.app%3A%2F",
    ],
)  # fmt: skip
def test_a_localhost_client_cannot_reach_beyond_the_machine(query):
    with pytest.raises(OAuthError):
        localhost_client("http://localhost?" + query)


def test_a_key_set_is_a_list_of_public_keys():
    assert parse_jwks({"keys": [KEY]}) == (KEY,)
    for bad in (None, [], {"keys": None}, {"keys": [{"kty": "oct", "k": "x"}]}):
        with pytest.raises(OAuthError):
            parse_jwks(bad)
