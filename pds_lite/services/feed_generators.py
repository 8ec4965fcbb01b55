"""app.bsky.feed.getFeed: the call goes to the AppView, but the token in it is for the feed generator behind it.

The AppView hands the token on when it asks the generator for a skeleton, so its audience is the generator's service DID
and its method getFeedSkeleton. The DID stands in the feed's record: that of a feed of our own is here, the AppView
knows the others, and if it does not, the host of the feed's owner does. Answers are remembered for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from pds_lite import ujson
from pds_lite.atproto import dag_cbor
from pds_lite.atproto.syntax import is_did, parse_at_uri
from pds_lite.errors import BadInput, BadSyntax, PdsError
from pds_lite.services.identity import Remembered
from pds_lite.storage import repo_store

if TYPE_CHECKING:
    from pds_lite.atproto.syntax import AtUri
    from pds_lite.clock import Clock
    from pds_lite.net.http_client import HttpClient
    from pds_lite.services.access import Principal
    from pds_lite.services.account import Accounts
    from pds_lite.services.identity import Identity
    from pds_lite.services.proxy import ProxiedCall, Proxy
    from pds_lite.services.upstream import Answer
    from pds_lite.storage.store import Store

GET_FEED = "app.bsky.feed.getFeed"
GET_FEED_SKELETON = "app.bsky.feed.getFeedSkeleton"
MAX_FEEDS = 200
REMEMBERED_S = 600.0
MAX_RECORD = 1 << 20
_GET_RECORD = "com.atproto.repo.getRecord"


class FeedGenerators:
    """Passes getFeed on."""

    def __init__(
        self, store: Store, clock: Clock, http: HttpClient, identity: Identity, accounts: Accounts, proxy: Proxy
    ) -> None:
        self._store = store
        self._clock = clock
        self._http = http
        self._identity = identity
        self._accounts = accounts
        self._proxy = proxy
        self._dids: Remembered[str] = Remembered(MAX_FEEDS, MAX_FEEDS * 1024)

    async def call(self, principal: Principal, asked: ProxiedCall) -> Answer:
        """Proxy.call for getFeed. Raises BadInput UnknownFeed if the feed's record names no service."""
        feed = dict(parse_qsl(asked.query_string)).get("feed")
        if not feed:
            raise BadInput('Error: Params must have the property "feed"')
        return await self._proxy.call(principal, asked, aud=await self._service_did(feed), lxm=GET_FEED_SKELETON)

    async def _service_did(self, feed: str) -> str:
        now = self._clock.monotonic()
        known = self._dids.get(feed, now - REMEMBERED_S)
        if known is not None:
            return known
        try:
            uri = parse_at_uri(feed)
        except BadSyntax:
            raise BadInput("Error: feed must be a valid at-uri") from None
        if uri.collection is None or uri.rkey is None:
            raise _unknown_feed()
        did = (await self._record(uri)).get("did")
        if not isinstance(did, str) or not is_did(did):
            raise _unknown_feed()
        self._dids.put(feed, now, len(feed) + len(did), did)
        return did

    async def _record(self, uri: AtUri) -> dict[str, Any]:
        account = self._accounts.require()
        if uri.authority in (account.did, account.handle):
            with self._store.read() as txn:
                record = repo_store.get_record(txn, f"{uri.collection}/{uri.rkey}".encode())
            return dag_cbor.decode_own(record.block) if record is not None else {}
        params = {"repo": uri.authority, "collection": uri.collection, "rkey": uri.rkey}
        try:
            value = (await self._proxy.ask_appview(_GET_RECORD, params, signed=False)).get("value")
        except PdsError:
            value = await self._record_at_its_host(uri, params)
        return value if isinstance(value, dict) else {}

    async def _record_at_its_host(self, uri: AtUri, params: dict[str, Any]) -> Any:
        try:
            authority = uri.authority
            did = authority if is_did(authority) else await self._identity.resolve_handle(authority)
            host = (await self._identity.did_doc(did)).pds
            if host is None:
                raise _unknown_feed()
            url = f"{host}/xrpc/{_GET_RECORD}?{urlencode(params)}"
            answer = await self._http.request("GET", url, timeout=5.0, max_bytes=MAX_RECORD)
            value = ujson.loads(answer.body) if answer.status == 200 else None
        except PdsError:
            raise _unknown_feed() from None
        return value.get("value") if isinstance(value, dict) else None


def _unknown_feed() -> BadInput:
    return BadInput("could not resolve feed did", error="UnknownFeed")
