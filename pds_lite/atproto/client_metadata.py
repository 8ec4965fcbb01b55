"""OAuth clients (specs/oauth, "Clients"): what a client_id may be, and what its metadata document must say.

A client_id is the https URL of a metadata document, or `http://localhost` for programs on the user's own machine, whose
few settings stand in its query. In development loopback hosts and plain http are let through too. Fetching documents
and keys is services/oauth's business; nothing here believes a name or logo.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pds_lite.errors import OAuthError

MAX_CLIENT_ID = 2048
MAX_LOCALHOST_ID = 8192
"""It holds all the scopes of an app under development."""
MAX_REDIRECT_URIS = 100
MAX_REDIRECT_URI = 2048
MAX_KEYS = 50
MAX_LOCALHOST_FIELDS = 50
LOCALHOST = "http://localhost"
DEFAULT_LOOPBACK_REDIRECTS = ("http://127.0.0.1/", "http://[::1]/")
SIGNING_ALGS = ("ES256", "ES256K")
"""What client assertions and DPoP proofs may be signed with."""

_GRANTS = frozenset({"authorization_code", "refresh_token"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_MAX_NAME = 200
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """A client whose document holds to the rules."""

    client_id: str
    redirect_uris: tuple[str, ...]
    scopes: frozenset[str]
    """What it may ever ask for."""
    grant_types: frozenset[str]
    is_confidential: bool
    """It authenticates with a key of its own (private_key_jwt)."""
    jwks: tuple[dict[str, Any], ...] | None = None
    jwks_uri: str | None = None
    name: str = ""
    """What it calls itself: nothing stands behind that."""
    is_local: bool = False
    """A program on the user's own machine, for which nobody vouches."""

    def takes_redirect(self, uri: str) -> bool:
        """Whether codes may be sent to `uri`: one of the registered ones, at any port of a loopback address."""
        return any(uri == registered or _same_but_port(registered, uri) for registered in self.redirect_uris)


def parse_client_id(client_id: str, *, dev: bool = False) -> bool:
    """True for the localhost client, False for one with a document. Raises OAuthError (invalid_client_metadata)."""
    is_localhost = client_id.partition("?")[0] in (LOCALHOST, LOCALHOST + "/")
    if len(client_id) > (MAX_LOCALHOST_ID if is_localhost else MAX_CLIENT_ID) or not _is_plain(client_id):
        _bad_id("it is too long or holds characters that do not belong in a URL")
    if is_localhost:
        return True
    url = _split(client_id)
    if url is None or "@" in url.netloc or "#" in client_id:
        _bad_id("it is not a URL without user name and fragment")
    if url.scheme != "https" and not (dev and url.scheme == "http" and _is_local_name(url.hostname or "")):
        _bad_id("it is not an https URL")
    if _is_local_name(url.hostname or "") and not dev:
        _bad_id("its host is not a name of the public internet")
    if _is_address(url.hostname or "") and not dev:
        _bad_id("its host is an address, not a name")
    if url.path in ("", "/") or url.path.endswith("/"):
        _bad_id("it has no path that ends in a document's name")
    if any(part in (".", "..") for part in url.path.split("/")):
        _bad_id("it is not in its canonical form")
    return False


def localhost_client(client_id: str) -> ClientMetadata:
    """The metadata that an `http://localhost` client_id stands for. Raises OAuthError (invalid_client_metadata)."""
    scope, redirects = None, []
    for name, value in _query(client_id.partition("?")[2]):
        if name == "redirect_uri" and _is_loopback_redirect(value):
            redirects.append(value)
        elif name == "scope" and scope is None:
            scope = value
        else:
            _bad_id(f"a localhost client cannot have this {name[:40]} in its query")
    scopes = frozenset((scope if scope is not None else "atproto").split(" "))
    if "atproto" not in scopes:
        _bad_id('its scope lacks "atproto"')
    return ClientMetadata(
        client_id=client_id,
        redirect_uris=tuple(redirects) or DEFAULT_LOOPBACK_REDIRECTS,
        scopes=scopes,
        grant_types=_GRANTS,
        is_confidential=False,
        is_local=True,
    )


def _query(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_LOCALHOST_FIELDS)
    except ValueError:
        _bad_id("its query is too long or not UTF-8")


def parse_document(client_id: str, document: object, *, dev: bool = False) -> ClientMetadata:
    """Judges the metadata document found at `client_id`. Raises OAuthError (invalid_client_metadata) and why."""
    if not isinstance(document, dict):
        _bad("it is not a JSON object")
    if document.get("client_id") != client_id:
        _bad("its client_id is not the URL it was found at")
    scopes = _words(document.get("scope"))
    if "atproto" not in scopes:
        _bad('its scope lacks "atproto"')
    grants = _texts(document, "grant_types", ("authorization_code",))
    if "authorization_code" not in grants or not _GRANTS.issuperset(grants):
        _bad("grant_types must be authorization_code and perhaps refresh_token")
    if "code" not in _texts(document, "response_types", ("code",)):
        _bad('response_types lacks "code"')
    if document.get("dpop_bound_access_tokens") is not True:
        _bad("dpop_bound_access_tokens must be true")
    native = document.get("application_type", "web") == "native"
    if document.get("application_type", "web") not in ("web", "native"):
        _bad("application_type must be web or native")
    name = document.get("client_name")
    return ClientMetadata(
        client_id=client_id,
        redirect_uris=_redirect_uris(document, client_id, native=native, dev=dev),
        scopes=frozenset(scopes),
        grant_types=frozenset(grants),
        name=name[:_MAX_NAME] if isinstance(name, str) else "",
        **_authentication(document, native=native, dev=dev),
    )


def parse_jwks(document: object) -> tuple[dict[str, Any], ...]:
    """The keys of a JWK set, unjudged one by one: they may be of kinds not known here. Raises OAuthError."""
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS or not all(isinstance(key, dict) for key in keys):
        _bad("its jwks is not a set of keys")
    if any("d" in key or "k" in key for key in keys):
        _bad("its jwks shows a private key")
    return tuple(keys)


def _authentication(document: Mapping[str, Any], *, native: bool, dev: bool) -> dict[str, Any]:
    method = document.get("token_endpoint_auth_method")
    alg = document.get("token_endpoint_auth_signing_alg")
    if method == "none":
        if alg is not None:
            _bad('token_endpoint_auth_method "none" goes without token_endpoint_auth_signing_alg')
        return {"is_confidential": False}
    if method != "private_key_jwt":
        _bad('token_endpoint_auth_method must be "none" or "private_key_jwt"')
    if native:
        _bad('a native client cannot keep a key: its token_endpoint_auth_method must be "none"')
    if not isinstance(alg, str) or alg in ("", "none") or alg.startswith("HS"):
        _bad("token_endpoint_auth_signing_alg must name an algorithm with a public key")
    jwks, jwks_uri = document.get("jwks"), document.get("jwks_uri")
    if (jwks is None) == (jwks_uri is None):
        _bad("private_key_jwt needs either jwks or jwks_uri")
    if jwks_uri is not None:
        url = _split(jwks_uri) if isinstance(jwks_uri, str) and len(jwks_uri) <= MAX_CLIENT_ID else None
        if url is None or not (url.scheme == "https" or (dev and url.scheme == "http")):
            _bad("jwks_uri is not an https URL")
        return {"is_confidential": True, "jwks_uri": jwks_uri}
    keys = parse_jwks(jwks)
    if not keys:
        _bad("its jwks is empty")
    return {"is_confidential": True, "jwks": keys}


def _redirect_uris(document: Mapping[str, Any], client_id: str, *, native: bool, dev: bool) -> tuple[str, ...]:
    uris = _texts(document, "redirect_uris", ())
    if not 0 < len(uris) <= MAX_REDIRECT_URIS:
        _bad(f"it must have 1 to {MAX_REDIRECT_URIS} redirect_uris")
    for uri in uris:
        _check_redirect(uri, client_id, native=native, dev=dev)
    return uris


def _check_redirect(uri: str, client_id: str, *, native: bool, dev: bool) -> None:
    url = _split(uri)
    if url is None or len(uri) > MAX_REDIRECT_URI or not _is_plain(uri):
        _bad(f"redirect_uri {uri[:100]!r} is not a URL")
    host = url.hostname or ""
    if "@" in url.netloc or "#" in uri:
        _bad(f"redirect_uri {uri[:100]!r} holds a user name or a fragment")
    if url.scheme == "https":
        if _HOST_AND_PORT.fullmatch(url.netloc) is None:  # it will stand in a Content-Security-Policy
            _bad(f"redirect_uri {uri[:100]!r} has no host name")
        if _is_local_name(host) and not dev:
            _bad(f"redirect_uri {uri[:100]!r} is not on the public internet")
    elif url.scheme == "http":
        if not _is_loopback_redirect(uri):
            _bad(f"redirect_uri {uri[:100]!r}: http is for 127.0.0.1 and [::1] only")
        if not native:
            _bad(f"redirect_uri {uri[:100]!r}: only native clients have loopback addresses")
    elif "." in url.scheme:
        expected = ".".join(reversed((urlsplit(client_id).hostname or "").split(".")))
        if not native or url.scheme != expected or not uri[len(url.scheme) :].startswith(":/") or url.netloc:
            _bad(f"redirect_uri {uri[:100]!r}: a native client's own scheme is {expected}:/ and a path")
    else:
        _bad(f"redirect_uri {uri[:100]!r} has a scheme that is not allowed")


def _is_loopback_redirect(uri: str) -> bool:
    url = _split(uri)
    return (
        url is not None
        and url.scheme == "http"
        and url.hostname in _LOOPBACK
        and "@" not in url.netloc
        and "#" not in uri
        and len(uri) <= MAX_REDIRECT_URI
        and _is_plain(uri)
    )


def _is_plain(text: str) -> bool:
    """No character that a parser of URLs drops, turns into another, or splits a header at."""
    return text.isascii() and text.isprintable() and not set(text) & set(' \\"<>')


def _same_but_port(registered: str, uri: str) -> bool:
    """RFC 8252 7.3: a program takes the loopback port it gets, unless it registered a certain one."""
    if not _is_loopback_redirect(registered) or not _is_loopback_redirect(uri):
        return False
    one, other = urlsplit(registered), urlsplit(uri)
    if one.port not in (None, other.port):
        return False
    return (one.hostname, one.path or "/", one.query) == (other.hostname, other.path or "/", other.query)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # judged only when asked for
    except ValueError:
        return None
    return parts if parts.scheme and (parts.hostname or parts.path) else None


def _is_local_name(host: str) -> bool:
    return ("." not in host.strip(".") and ":" not in host) or _is_loopback(host) or host.endswith(_LOCAL_ENDINGS)


_LOCAL_ENDINGS = (".localhost", ".local", ".internal", ".test", ".invalid", ".arpa", ".onion", ".alt")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _texts(document: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        _bad(f"{name} is not a list of texts")
    return tuple(value)


def _words(value: object) -> list[str]:
    return value.split(" ") if isinstance(value, str) else []


def _bad_id(reason: str) -> NoReturn:
    raise OAuthError(f"This client_id cannot be used: {reason}", error="invalid_client_metadata")


def _bad(reason: str) -> NoReturn:
    raise OAuthError(f"The client's metadata cannot be used: {reason}", error="invalid_client_metadata")
