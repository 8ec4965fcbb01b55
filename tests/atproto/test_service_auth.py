"""Service tokens: each claim decides on its own, with the reference's error names, and only the issuer's key signs."""

import pytest

from pds_lite.atproto import jwt, service_auth
from pds_lite.atproto.crypto import K256Key, P256Key
from pds_lite.errors import Unauthorized

KEY = K256Key.from_bytes(b"\x11" * 32)
OTHER = K256Key.from_bytes(b"\x12" * 32)
ISS = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OURS = "did:web:pds.example.com"
AUDIENCES = (OURS, OURS + "#atproto_pds")
LXM = "com.atproto.repo.uploadBlob"
NOW = 1_800_000_000


def minted(key=KEY, header=None, **changes) -> str:
    """A token whose claims are all right but for `changes`; None leaves one out."""
    claims = {"iss": ISS, "aud": OURS, "lxm": LXM, "iat": NOW, "exp": NOW + 60, "jti": "1", **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode_jws(header or {"typ": "JWT"}, claims, key)


def check(token: str):
    return service_auth.check(token, AUDIENCES, LXM, NOW, lambda iss, key_id: KEY.did_key)


def test_a_minted_token_is_accepted_and_says_what_it_was_given():
    token = service_auth.mint(KEY, ISS, OURS, LXM, NOW, NOW + 60, "nonce")
    checked = check(token)

    assert (checked.iss, checked.aud, checked.lxm, checked.exp) == (ISS, OURS, LXM, NOW + 60)
    assert (checked.jti, checked.key_id) == ("nonce", "#atproto")
    assert checked.jws.header == {"typ": "JWT", "alg": "ES256K"}


def test_a_token_without_a_method_names_none():
    assert "lxm" not in jwt.decode_jws(service_auth.mint(KEY, ISS, OURS, None, NOW, NOW + 60, "n")).claims


def test_both_forms_of_our_name_are_audiences():
    assert check(minted(aud=OURS + "#atproto_pds")).aud == OURS + "#atproto_pds"


def test_the_key_is_asked_for_by_issuer_and_key_id():
    asked = []

    def key_of(iss, key_id):
        asked.append((iss, key_id))
        return KEY.did_key

    for kid in ("#atproto", ISS + "#atproto"):
        service_auth.check(minted(header={"kid": kid}), AUDIENCES, LXM, NOW, key_of)
    assert asked == [(ISS, "#atproto")] * 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"exp": NOW}, "JwtExpired"),
        ({"exp": NOW - 1}, "JwtExpired"),
        ({"nbf": NOW + 1}, "JwtExpired"),
        ({"aud": "did:web:other.example.com"}, "BadJwtAudience"),
        ({"aud": OURS + "#other"}, "BadJwtAudience"),
        ({"lxm": "com.atproto.repo.createRecord"}, "BadJwtLexiconMethod"),
        ({"lxm": None}, "BadJwtLexiconMethod"),
        ({"iss": "alice.example.com"}, "BadJwtIss"),
        ({"iss": ISS + "#atproto_labeler"}, "BadJwtIss"),
        ({"iss": None}, "BadJwt"),
        ({"iss": 1}, "BadJwt"),
        ({"aud": None}, "BadJwt"),
        ({"aud": [OURS]}, "BadJwt"),
        ({"exp": None}, "BadJwt"),
        ({"exp": "1900000000"}, "BadJwt"),
        ({"exp": 1.9e9 + 0.5}, "BadJwt"),
        ({"exp": True}, "BadJwt"),
        ({"lxm": 1}, "BadJwt"),
        ({"jti": 1}, "BadJwt"),
    ],
)
def test_a_wrong_claim_is_refused_by_name(changes, error):
    with pytest.raises(Unauthorized) as caught:
        check(minted(**changes))
    assert caught.value.error == error
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"typ": "at+jwt"}, "BadJwtType"),
        ({"typ": "refresh+jwt"}, "BadJwtType"),
        ({"typ": "dpop+jwt"}, "BadJwtType"),
        ({"kid": "#atproto_label"}, "BadJwt"),
        ({"kid": "did:plc:other#atproto"}, "BadJwt"),
        ({"kid": 1}, "BadJwt"),
    ],
)
def test_a_foreign_kind_or_key_id_is_refused(header, error):
    with pytest.raises(Unauthorized) as caught:
        check(minted(header=header))
    assert caught.value.error == error


@pytest.mark.parametrize("key", [OTHER, P256Key.from_bytes(b"\x11" * 32)], ids=["other key", "other curve"])
def test_only_the_issuers_key_signs(key):
    with pytest.raises(Unauthorized) as caught:
        check(minted(key=key))
    assert caught.value.error == "BadJwtSignature"


def test_session_tokens_are_no_service_tokens():
    for token in (jwt.encode_hs256({"iss": ISS}, b"s" * 32, "JWT"), "", "a.b.c"):
        with pytest.raises(Unauthorized) as caught:
            check(token)
        assert caught.value.error == "BadJwt"


def test_a_did_key_that_does_not_parse_verifies_nothing():
    assert not service_auth.read(minted(), AUDIENCES, LXM, NOW).verify("did:key:zNonsense")
