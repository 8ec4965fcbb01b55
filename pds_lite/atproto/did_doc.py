"""DID documents: what atproto reads in one, and how the ones we answer ourselves are written (specs/did).

Reading is lenient where documents in the wild differ (fragment ids relative or absolute, old key types, foreign
entries beside ours) and strict about what is used: the first valid entry of an id counts, and a key or endpoint that
does not parse is none. Knows nothing of how a document was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pds_lite.atproto.crypto import parse_legacy_key, parse_multikey
from pds_lite.atproto.plc import PDS_SERVICE, PDS_TYPE, Operation, normalized
from pds_lite.atproto.syntax import is_handle
from pds_lite.errors import BadData, BadKey

_CONTEXT = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/multikey/v1",
    "https://w3id.org/security/suites/secp256k1-2019/v1",
)
_MAX_ENTRIES = 64
"""Keys, services or names looked at in one document; later ones are not there for us."""


@dataclass(frozen=True, slots=True)
class Service:
    """An entry of `service` whose endpoint is an http(s) URL."""

    id: str
    """The fragment, without #."""
    type: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class DidDoc:
    """What atproto uses of a DID document."""

    did: str
    handles: tuple[str, ...]
    """Lower-case handles of alsoKnownAs, in order; the first is the one that counts, once it resolves back."""
    keys: Mapping[str, str]
    """Fragment (without #) to did:key, k256 and p256 only."""
    services: tuple[Service, ...]
    document: Mapping[str, Any] = field(compare=False, repr=False)
    """The document as it came, for answers that repeat it."""

    @property
    def handle(self) -> str | None:
        """The first handle claimed."""
        return self.handles[0] if self.handles else None

    @property
    def signing_key(self) -> str | None:
        """The did:key of #atproto."""
        return self.keys.get("atproto")

    @property
    def pds(self) -> str | None:
        """The origin (scheme, host, port; no slash behind) of #atproto_pds."""
        endpoint = self.service_endpoint(PDS_SERVICE, PDS_TYPE)
        return endpoint.removesuffix("/") if endpoint is not None and is_origin(endpoint) else None

    def service_endpoint(self, service_id: str, service_type: str | None = None) -> str | None:
        """The endpoint of the first service with this fragment; none if a wanted type is not its type."""
        for service in self.services:
            if service.id == service_id:
                return service.endpoint if service_type in (None, service.type) else None
        return None


def parse(document: object, did: str) -> DidDoc:
    """The document of `did`. Raises BadData if it is not an object or speaks of another DID."""
    if not isinstance(document, dict) or document.get("id") != did:
        raise BadData(f"not the DID document of {did}")
    return DidDoc(
        did=did,
        handles=tuple(_handles(document)),
        keys=_keys(document, did),
        services=tuple(_services(document, did)),
        document=document,
    )


def build(
    did: str,
    *,
    handle: str | None = None,
    signing_did_key: str | None = None,
    services: Sequence[Service] = (),
) -> dict[str, Any]:
    """A document as the PLC directory words it; members without content are left out."""
    document: dict[str, Any] = {"@context": list(_CONTEXT), "id": did}
    if handle is not None:
        document["alsoKnownAs"] = [f"at://{handle}"]
    if signing_did_key is not None:
        document["verificationMethod"] = [_multikey(did, "atproto", signing_did_key)]
    if services:
        document["service"] = [_service(service) for service in services]
    return document


def pds_service(endpoint: str) -> Service:
    """The #atproto_pds entry of an account that lives at `endpoint`."""
    return Service(PDS_SERVICE, PDS_TYPE, endpoint)


def of_operation(did: str, op: Operation) -> dict[str, Any]:
    """The document that a did:plc operation (not a tombstone) gives its DID."""
    state = normalized(op)
    services = ((name, entry["type"], entry["endpoint"]) for name, entry in state["services"].items())
    return {
        "@context": list(_CONTEXT),
        "id": did,
        "alsoKnownAs": list(state["alsoKnownAs"]),
        "verificationMethod": [_multikey(did, name, key) for name, key in state["verificationMethods"].items()],
        "service": [_service(Service(*service)) for service in services],
    }


def is_origin(url: str) -> bool:
    """True for scheme, host and optional port with nothing behind them but a slash, http or https."""
    parts = _split(url)
    return parts is not None and parts[2] in ("", "/") and "?" not in url and "#" not in url


def _split(url: str) -> tuple[str, str, str] | None:
    """(scheme, host, path) of an http(s) URL without user name, or None."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        return None
    is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid or not is_plain:
        return None
    return parts.scheme, parts.hostname, parts.path


def _multikey(did: str, name: str, did_key: str) -> dict[str, str]:
    multibase = did_key.removeprefix("did:key:")
    return {"id": f"{did}#{name}", "type": "Multikey", "controller": did, "publicKeyMultibase": multibase}


def _service(service: Service) -> dict[str, str]:
    return {"id": f"#{service.id}", "type": service.type, "serviceEndpoint": service.endpoint}


def _handles(document: dict[str, Any]) -> list[str]:
    names = document.get("alsoKnownAs")
    if not isinstance(names, list):
        return []
    uris = [name for name in names[:_MAX_ENTRIES] if isinstance(name, str) and name.startswith("at://")]
    return [uri[5:].lower() for uri in uris if is_handle(uri[5:])]


def _keys(document: dict[str, Any], did: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for fragment, method in _entries(document, "verificationMethod", did):
        if fragment not in keys and (did_key := _did_key(method)) is not None:
            keys[fragment] = did_key
    return keys


def _did_key(method: dict[str, Any]) -> str | None:
    kind, text = method.get("type"), method.get("publicKeyMultibase")
    if not isinstance(kind, str) or not isinstance(text, str):
        return None
    try:
        key = parse_multikey(text) if kind == "Multikey" else parse_legacy_key(kind, text)
    except BadKey:
        return None
    return key.did_key


def _services(document: dict[str, Any], did: str) -> list[Service]:
    found: list[Service] = []
    for fragment, entry in _entries(document, "service", did):
        kind, endpoint = entry.get("type"), entry.get("serviceEndpoint")
        if isinstance(kind, str) and isinstance(endpoint, str) and _split(endpoint) is not None:
            found.append(Service(fragment, kind, endpoint))
    return found


def _entries(document: dict[str, Any], member: str, did: str) -> list[tuple[str, dict[str, Any]]]:
    """(fragment, entry) of the objects in a list member whose id is `#fragment` or `did#fragment`."""
    entries = document.get(member)
    found: list[tuple[str, dict[str, Any]]] = []
    for entry in entries[:_MAX_ENTRIES] if isinstance(entries, list) else []:
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(entry_id, str):
            fragment = entry_id.removeprefix(did)
            if fragment.startswith("#") and len(fragment) > 1:
                found.append((fragment[1:], entry))
    return found
