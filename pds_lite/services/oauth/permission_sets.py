"""Permission sets: `include:` scopes looked up where their authority publishes them (specs/lexicon, "Resolution").

    NSID -> TXT _lexicon.<authority> -> DID -> its PDS -> the record com.atproto.lexicon.schema/<NSID>, with its proof

Rules that hold here
- A set is asked for again after an hour (specs/permission: 24 at most). When its home does not answer, the last good
  copy stands in: an app must not become unusable because somebody else's server is down. After 90 days a copy begins no
  new session; sessions there are go on with what they were granted (token._expand_again).
- What was fetched for a stranger's request stays in memory; `copies` gives what is to be stored with the owner's
  consent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pds_lite import ujson
from pds_lite.atproto.data import json_default
from pds_lite.atproto.oauth_scope import Include, ScopeSet, parse_permission
from pds_lite.atproto.permission_set import PermissionSet, expand_scopes, parse_set
from pds_lite.atproto.record_proof import proven_record
from pds_lite.errors import BadData, NotFound, OAuthError, PdsError, UpstreamFailure
from pds_lite.net import dns_txt
from pds_lite.services.identity import Remembered
from pds_lite.storage import oauth_store
from pds_lite.storage.oauth_store import Document

if TYPE_CHECKING:
    from pds_lite.atproto.did_doc import DidDoc
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.identity import Identity
    from pds_lite.storage.store import Store

COLLECTION = "com.atproto.lexicon.schema"
FRESH_S = 3600.0
RETRY_S = 60.0
"""How long a set is not asked for again after a failure."""
RETRY_WITH_COPY_S = 900.0
"""The same where a copy stands in: nobody should wait for a dead host at every refresh."""
_DAY_US = 86_400_000_000
EXPIRES_DAYS = 90
TIMEOUT_S = 5.0
LOOK_UP_S = 12.0
"""For the whole way from name to record, and for waiting until it is its turn."""
MAX_AT_ONCE = 8
MAX_ANSWER = 128 << 10
"""Bytes of one set with its proof: strangers name the sets, and real ones have a few thousand."""
MAX_EXPANDED = 64 << 10
"""Characters of what all sets of one app amount to: a grant is held in memory."""
MAX_INCLUDES = 20
"""Sets in one request."""
MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 512 << 10
_EVER = float("-inf")


class PermissionSets:
    """Looks permission sets up and expands scopes by them."""

    def __init__(self, config: Config, clock: Clock, http: HttpClient, identity: Identity, store: Store) -> None:
        self._dev = config.dev
        self._dns_server = config.dns_server
        self._fresh_s = min(FRESH_S, config.did_cache_s)
        self._clock = clock
        self._http = http
        self._identity = identity
        self._store = store
        self._remembered: Remembered[Document] = Remembered(MAX_REMEMBERED, MAX_REMEMBERED_BYTES)
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._failures: Remembered[str] = Remembered(MAX_REMEMBERED, MAX_REMEMBERED_BYTES)

    async def get(self, nsid: str) -> PermissionSet:
        """The permission set of that name. Raises OAuthError (invalid_scope) if there is no copy good enough."""
        now = self._clock.monotonic()
        fresh = self._remembered.get(nsid, now - self._fresh_s)
        if fresh is not None:
            return _read(fresh)
        copy = self._last_good(nsid)
        retry = min(RETRY_S if copy is None else RETRY_WITH_COPY_S, self._fresh_s)
        reason = self._failures.get(nsid, now - retry)
        if reason is None:
            try:
                async with asyncio.timeout(LOOK_UP_S), self._places:
                    return await self._fetch(nsid)
            except (PdsError, TimeoutError) as problem:
                reason = problem.message if isinstance(problem, PdsError) else "it took too long"
                self._failures.put(nsid, now, len(nsid) + len(reason), reason)
        refusal = f"The permission set {nsid} cannot be resolved: {reason}"
        if copy is None:
            raise OAuthError(refusal, error="invalid_scope")
        age = (self._clock.now_us() - copy.fetched_us) // _DAY_US
        if age >= EXPIRES_DAYS:
            raise OAuthError(
                f"{refusal}. The last good copy is {age} days old; after {EXPIRES_DAYS} it begins no session",
                error="invalid_scope",
            )
        return _read(copy)

    async def all_of(self, scopes: ScopeSet) -> dict[str, PermissionSet]:
        """Every set that `scopes` includes, by name. Raises OAuthError (invalid_scope)."""
        names = dict.fromkeys(include.nsid for include in scopes.includes())
        if len(names) > MAX_INCLUDES:
            raise OAuthError(f"More than {MAX_INCLUDES} permission sets at once", error="invalid_scope")
        return dict(zip(names, await asyncio.gather(*map(self.get, names)), strict=True))

    async def expand(self, scopes: ScopeSet) -> ScopeSet:
        """`scopes` with every `include:` replaced by what it grants. Raises OAuthError (invalid_scope)."""
        sets = await self.all_of(scopes)
        texts: list[str] = []
        for text in scopes.texts:
            include = parse_permission(text)
            texts += expand_scopes(include, sets[include.nsid]) if isinstance(include, Include) else [text]
        expanded = ScopeSet(texts)
        if len(str(expanded)) > MAX_EXPANDED:
            raise OAuthError("These permission sets hold too much", error="invalid_scope")
        return expanded

    def copies(self, scopes: ScopeSet) -> list[Document]:
        """The documents behind `scopes`, to be stored with the owner's consent."""
        found = (self._remembered.get(include.nsid, _EVER) for include in scopes.includes())
        return [document for document in found if document is not None]

    def _last_good(self, nsid: str) -> Document | None:
        document = self._remembered.get(nsid, _EVER)
        if document is None:
            with self._store.read() as txn:
                document = oauth_store.get_document(txn, "set", nsid)
        return document

    async def _fetch(self, nsid: str) -> PermissionSet:
        authority = ".".join(reversed(nsid.split(".")[:-1]))
        dids = await dns_txt.lookup_dids(authority, label="_lexicon", server=self._dns_server)
        if len(dids) != 1:
            raise NotFound(f"TXT _lexicon.{authority} names {len(dids) or 'no'} DIDs")
        doc = await self._identity.did_doc(dids[0])
        body = ujson.dumpb(await self._record(doc, nsid), json_default)
        permission_set = parse_set(nsid, ujson.loads(body))
        now = self._clock.monotonic()
        self._remembered.put(nsid, now, len(body), Document("set", nsid, body, self._clock.now_us()))
        self._failures.forget(nsid)
        return permission_set

    async def _record(self, doc: DidDoc, nsid: str) -> object:
        """The lexicon record, as its account signed it."""
        if doc.pds is None or doc.signing_key is None:
            raise BadData(f"the document of {doc.did} names no PDS or no signing key")
        query = urlencode({"did": doc.did, "collection": COLLECTION, "rkey": nsid})
        answer = await self._http.request(
            "GET", f"{doc.pds}/xrpc/com.atproto.sync.getRecord?{query}", timeout=TIMEOUT_S, max_bytes=MAX_ANSWER
        )
        if answer.status == 200:
            return proven_record(answer.body, doc.did, doc.signing_key, f"{COLLECTION}/{nsid}".encode())
        if self._dev:
            return await self._plain_record(doc, nsid)
        raise UpstreamFailure(f"{doc.pds} answered status {answer.status}")

    async def _plain_record(self, doc: DidDoc, nsid: str) -> object:
        """In development the host may be a stand-in that cannot prove its records."""
        query = urlencode({"repo": doc.did, "collection": COLLECTION, "rkey": nsid})
        answer = await self._http.request(
            "GET", f"{doc.pds}/xrpc/com.atproto.repo.getRecord?{query}", timeout=TIMEOUT_S, max_bytes=MAX_ANSWER
        )
        found = ujson.loads(answer.body) if answer.status == 200 else None
        if not isinstance(found, dict):
            raise UpstreamFailure(f"{doc.pds} answered status {answer.status}")
        return found.get("value")


def _read(document: Document) -> PermissionSet:
    return parse_set(document.name, ujson.loads(document.body))
