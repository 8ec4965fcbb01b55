"""Requests and codes wait in bounded memory, for a while, for one browser and one exchange."""

import pytest

from pds_lite.atproto.oauth_scope import ScopeSet
from pds_lite.errors import OAuthError, Unavailable
from pds_lite.services.oauth import authorize, par
from pds_lite.services.oauth.authorize import Agreement, Answer, Authorization, Codes, Spent
from pds_lite.services.oauth.par import Request, Requests
from tests.services.oauth.test_nonces import Hands


def request(clock, name="r", **members):
    now = clock.monotonic()
    values = {
        "id": name, "client_id": "http://localhost", "is_local": True, "client_key": "", "scope": "atproto",
        "redirect_uri": "http://127.0.0.1/", "state": "s", "code_challenge": "c", "response_mode": "query",
        "prompt": None, "login_hint": None, "dpop_jkt": None, "expires": now + par.LIFE_S, "ends": now + par.LONGEST_S,
    }  # fmt: skip
    return Request(**{**values, **members})


def test_a_request_lives_five_minutes_after_each_look_and_an_hour_at_most():
    clock = Hands()
    requests = Requests(clock)
    requests.add(request(clock))
    start = clock.at
    while clock.at < start + par.LONGEST_S - 290:
        clock.at += 290
        assert requests.find(par.PREFIX + "r") is not None
    clock.at = start + par.LONGEST_S + 1
    assert requests.find(par.PREFIX + "r") is None
    requests.add(request(clock, "q"))
    clock.at += 301
    assert requests.find(par.PREFIX + "q") is None


def test_strangers_push_each_other_out_the_unopened_first_and_never_the_owners(monkeypatch):
    monkeypatch.setattr(par, "MAX_REQUESTS", 3)
    clock = Hands()
    requests = Requests(clock)
    requests.add(request(clock, "opened", browser="b"))
    for number in range(10):
        requests.add(request(clock, f"stranger{number}"))
    opened = requests.find(par.PREFIX + "opened")
    assert opened is not None
    assert requests.find(par.PREFIX + "stranger9") is not None
    assert requests.find(par.PREFIX + "stranger0") is None
    opened.is_owners = True
    for number in range(10):
        requests.add(request(clock, f"flood{number}", browser="c"))
    assert requests.find(opened.uri) is opened, "a flood of opened ones pushes out its own kind"
    assert requests.find(par.PREFIX + "flood9") is not None
    for name in ("flood8", "flood9"):
        found = requests.find(par.PREFIX + name)
        assert found is not None
        found.is_owners = True
    with pytest.raises(Unavailable):
        requests.add(request(clock, "late"))


@pytest.mark.parametrize("uri", ["", "r", "urn:x:r", par.PREFIX, par.PREFIX + "x"])
def test_another_uri_names_no_request(uri):
    clock = Hands()
    requests = Requests(clock)
    requests.add(request(clock))
    assert requests.find(uri) is None


class NoGrants:
    def agreed_with(self, client_id, client_key):
        return set()


def test_a_code_is_an_agreement_once_and_a_trace_afterwards():
    clock = Hands()
    codes = Codes(clock)
    code = codes.issue(request(clock), "did:x", ScopeSet(["atproto"]))
    assert isinstance(codes.take(code), Agreement)
    assert isinstance(codes.take(code), Spent)
    assert codes.began(code, "grant") is False, "it was shown again before its grant was there"
    assert codes.take("cod-unknown") is None
    old = codes.issue(request(clock), "did:x", ScopeSet(["atproto"]))
    clock.at += authorize.CODE_LIFE_S + 1
    assert codes.take(old) is None


def test_codes_are_bounded(monkeypatch):
    monkeypatch.setattr(authorize, "MAX_CODES", 3)
    clock = Hands()
    codes = Codes(clock)
    made = [codes.issue(request(clock), "did:x", ScopeSet(["atproto"])) for _ in range(5)]
    assert [isinstance(codes.take(code), Agreement) for code in made] == [False, False, True, True, True]


def test_a_request_is_answered_once():
    clock = Hands()
    requests, codes = Requests(clock), Codes(clock)
    page = Authorization("https://a.example", requests, codes, NoGrants())
    asked = request(clock)
    requests.add(asked)
    assert page.open(asked.uri, "http://localhost", "b") is asked
    with pytest.raises(OAuthError):
        page.open(asked.uri, "http://localhost", "another browser")
    answer = page.agree(asked, "did:x", ["repo:*"])
    assert set(answer.parameters) == {"iss", "state", "code"}
    with pytest.raises(OAuthError):
        page.agree(asked, "did:x", [])
    with pytest.raises(OAuthError):
        page.open(asked.uri, "http://localhost", "b")


def test_another_client_ends_the_request_it_names():
    clock = Hands()
    requests = Requests(clock)
    page = Authorization("https://a.example", requests, Codes(clock), NoGrants())
    asked = request(clock)
    requests.add(asked)
    with pytest.raises(OAuthError):
        page.open(asked.uri, "http://localhost?scope=atproto", "b")
    assert requests.find(asked.uri) is None


@pytest.mark.parametrize(
    ("uri", "mode", "location"),
    [
        ("https://a.example/cb", "query", "https://a.example/cb?code=a+b%26c"),
        ("https://a.example/cb?x=1", "query", "https://a.example/cb?x=1&code=a+b%26c"),
        ("https://a.example/cb?x=1", "fragment", "https://a.example/cb?x=1#code=a+b%26c"),
        ("com.example.app:/cb", "query", "com.example.app:/cb?code=a+b%26c"),
    ],
)
def test_parameters_are_added_to_the_redirect(uri, mode, location):
    assert Answer(uri, mode, {"code": "a b&c"}).location == location
