"""Clients: who an app is, by the document at its client_id, and whether it is the one that asks or signed.

Rules that hold here
- Documents and keys come through the guarded HTTP client: https (loopback http in development), no redirect, status
  200, application/json, small and soon. One fetch of a URL at a time, few at once, and a failure is remembered for a
  while, because strangers name the URLs.
- What was fetched is good for ten minutes. If its host is down then, the last good copy goes on being believed: from
  memory, or from the store for clients the owner has let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pds_lite import ujson
from pds_lite.atproto.client_assertion import ASSERTION_TYPE, check_assertion, check_request_object
from pds_lite.atproto.client_metadata import (
    ClientMetadata,
    localhost_client,
    parse_client_id,
    parse_document,
    parse_jwks,
)
from pds_lite.errors import BadData, BadInput, OAuthError, PdsError, Unavailable, UpstreamFailure
from pds_lite.services.identity import Remembered
from pds_lite.services.oauth.nonces import Replays
from pds_lite.storage import oauth_store
from pds_lite.storage.oauth_store import Document

if TYPE_CHECKING:
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient
    from pds_lite.storage.store import Store

T = TypeVar("T")

FRESH_S = 600.0
RETRY_S = 30.0
"""How long a document is not asked for again after a failure, and keys not after an unknown kid."""
TIMEOUT_S = 5.0
MAX_DOCUMENT = 64 << 10
MAX_FETCHES = 8
MAX_WAITING = 32
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 512 << 10
ASSERTION_MEMORY_S = 180.0
MAX_ASSERTIONS = 4096


@dataclass(frozen=True, slots=True)
class Asker:
    """A client that has shown what its kind must show. `key` is "kid alg thumbprint", "" for a public client."""

    client: ClientMetadata
    key: str = ""


@dataclass(frozen=True, slots=True)
class _Fetched:
    document: Document
    at: float
    """Monotonic seconds."""


class Clients:
    """Looks clients up and authenticates them."""

    def __init__(self, config: Config, clock: Clock, http: HttpClient, store: Store) -> None:
        self._dev = config.dev
        self._fresh_s = min(FRESH_S, config.did_cache_s)
        self._issuer = config.public_url
        self._clock = clock
        self._http = http
        self._store = store
        self._remembered: Remembered[_Fetched] = Remembered(MAX_REMEMBERED, MAX_REMEMBERED_BYTES)
        self._failures: Remembered[str] = Remembered(MAX_REMEMBERED, MAX_REMEMBERED_BYTES)
        self._flights: dict[str, asyncio.Task[Document]] = {}
        self._places = asyncio.Semaphore(MAX_FETCHES)
        self._assertions = Replays(clock, ASSERTION_MEMORY_S, MAX_ASSERTIONS, forget=True)

    async def get(self, client_id: str) -> ClientMetadata:
        """The client of that id. Raises OAuthError (invalid_client_metadata)."""
        if parse_client_id(client_id, dev=self._dev):
            return localhost_client(client_id)
        return await self._get("client", client_id, self._parser(client_id))

    async def authenticate(self, parameters: Mapping[str, str], proof_jkt: str | None) -> Asker:
        """The client a request comes from: named by a public one, proven by a confidential one.

        `proof_jkt` is the key of the request's DPoP proof. Raises OAuthError (invalid_client and what `get`
        raises).
        """
        client_id = parameters.get("client_id")
        if not client_id:
            raise OAuthError("client_id is missing", error="invalid_client")
        client = await self.get(client_id)
        if not client.is_confidential:
            return Asker(client)
        if parameters.get("client_assertion_type") != ASSERTION_TYPE or not parameters.get("client_assertion"):
            raise OAuthError("This client must show a client_assertion (private_key_jwt)", error="invalid_client")
        return await self._check_assertion(client, parameters["client_assertion"], proof_jkt)

    async def keys(self, client: ClientMetadata, *, refresh: bool = False) -> tuple[dict[str, Any], ...]:
        """The public keys of a confidential client, as JWKs. Raises OAuthError (invalid_client_metadata)."""
        if client.jwks_uri is not None:
            return await self._get("keys", client.jwks_uri, parse_jwks, refresh=refresh)
        if refresh:
            client = await self._get("client", client.client_id, self._parser(client.client_id), refresh=True)
        return client.jwks or ()

    def copies(self, client: ClientMetadata) -> list[Document]:
        """The documents behind a client, to be stored with the owner's consent."""
        wanted = [("client", client.client_id)]
        if client.jwks_uri is not None:
            wanted.append(("keys", client.jwks_uri))
        found = (self._remembered.get(f"{kind} {name}", float("-inf")) for kind, name in wanted)
        return [fetched.document for fetched in found if fetched is not None]

    def _parser(self, client_id: str) -> Callable[[object], ClientMetadata]:
        return lambda value: parse_document(client_id, value, dev=self._dev)

    async def check_request_object(self, client: ClientMetadata, request: str) -> dict[str, str]:
        """The parameters in a request object that a confidential client signed. Raises OAuthError."""
        if not client.is_confidential:
            raise OAuthError("Only a client with keys can sign a request object", error="invalid_request_object")
        parameters, jti = await self._judge(client, check_request_object, request)
        if not self._assertions.first_use("request object", client.client_id, jti):
            raise OAuthError("The request object was used before (jti)", error="invalid_request_object")
        return parameters

    async def _check_assertion(self, client: ClientMetadata, assertion: str, proof_jkt: str | None) -> Asker:
        shown = await self._judge(client, check_assertion, assertion)
        if shown.jkt == proof_jkt:
            raise OAuthError("The DPoP proof is signed with the key that authenticates the client")
        if not self._assertions.first_use(client.client_id, shown.jti):
            raise OAuthError("The client_assertion was used before (jti)", error="invalid_client")
        return Asker(client, shown.key)

    async def _judge(self, client: ClientMetadata, check: Callable[..., T], token: str) -> T:
        """What `check` says of a token the client signed, if need be with a key it has published since we asked."""
        keys = await self.keys(client)
        try:
            return check(token, client.client_id, self._issuer, keys, self._clock.now())
        except OAuthError:
            fresh = await self.keys(client, refresh=True)
            if fresh == keys:
                raise
            return check(token, client.client_id, self._issuer, fresh, self._clock.now())

    async def _get(self, kind: str, url: str, parse: Callable[[object], T], *, refresh: bool = False) -> T:
        key = f"{kind} {url}"
        now = self._clock.monotonic()
        fresh = self._remembered.get(key, now - (min(RETRY_S, self._fresh_s) if refresh else self._fresh_s))
        if fresh is not None:
            return parse(ujson.loads(fresh.document.body))
        try:
            failure = self._failures.get(key, now - min(RETRY_S, self._fresh_s))
            if failure is not None:
                raise OAuthError(failure, error="invalid_client_metadata")
            return parse(ujson.loads((await self._fetch_once(kind, url)).body))
        except OAuthError:
            copy = self._last_good(kind, url)
            if copy is None:
                raise
            return parse(ujson.loads(copy.body))

    def _last_good(self, kind: str, url: str) -> Document | None:
        remembered = self._remembered.get(f"{kind} {url}", float("-inf"))
        if remembered is not None:
            return remembered.document
        with self._store.read() as txn:
            return oauth_store.get_document(txn, kind, url)

    async def _fetch_once(self, kind: str, url: str) -> Document:
        """Joins a fetch of the same URL that is under way. A caller that leaves does not end it for the others."""
        key = f"{kind} {url}"
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= MAX_WAITING:
                raise Unavailable("Too many clients are being looked up; try again in a few seconds")
            flight = self._flights[key] = asyncio.create_task(self._fetch(kind, url))
            flight.add_done_callback(lambda task: (self._flights.pop(key, None), task.cancelled() or task.exception()))
        return await asyncio.shield(flight)

    async def _fetch(self, kind: str, url: str) -> Document:
        key = f"{kind} {url}"
        try:
            async with self._places:
                document = await self._download(kind, url)
            if kind == "client":
                self._parser(url)(ujson.loads(document.body))
            else:
                parse_jwks(ujson.loads(document.body))
        except PdsError as problem:
            self._failures.put(key, self._clock.monotonic(), len(key) + len(problem.message), problem.message)
            if isinstance(problem, OAuthError):
                raise
            raise OAuthError(problem.message, error="invalid_client_metadata") from None
        self._failures.forget(key)
        now = self._clock.monotonic()
        self._remembered.put(key, now, len(document.body) + len(key), _Fetched(document, now))
        return document

    async def _download(self, kind: str, url: str) -> Document:
        what = "metadata" if kind == "client" else "keys"
        if not url.startswith("https://") and not self._dev:
            raise BadInput(f"The client's {what} are not at an https URL")
        try:
            answer = await self._http.request(
                "GET", url, {"accept": "application/json"}, timeout=TIMEOUT_S, max_bytes=MAX_DOCUMENT
            )
        except UpstreamFailure as problem:
            raise UpstreamFailure(f"The client's {what} cannot be fetched: {problem.message}") from None
        content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status != 200:
            raise UpstreamFailure(f"The client's {what} cannot be fetched: status {answer.status}")
        if content_type != "application/json" and (kind == "client" or not content_type.endswith("+json")):
            raise BadData(f"The client's {what} are not application/json")
        return Document(kind, url, answer.body, self._clock.now_us())
