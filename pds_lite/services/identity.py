"""Identities: handle to DID, DID to document, ours and everybody's (specs/handle, specs/did).

The account that lives here is answered from the store, without a look-up: the box must know itself on a bench without a
network, and clients ask for it most. Of others the latest answers are remembered for PDS_LITE_DID_CACHE_S, and a
document for up to a day beyond that while its home does not answer. `refresh=True` always asks the home: for changed
keys, and for what the world believes of our own account.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from pds_lite import ujson
from pds_lite.atproto import did_doc
from pds_lite.atproto.did_doc import DidDoc
from pds_lite.atproto.syntax import is_plc_did, is_reserved_handle, is_web_did, parse_did, parse_handle
from pds_lite.errors import BadData, NotFound, PdsError, UpstreamFailure
from pds_lite.net import dns_txt, well_known
from pds_lite.net.plc_directory import PlcDirectory
from pds_lite.services import key_store
from pds_lite.services.own_document import own_document
from pds_lite.storage import account_store

if TYPE_CHECKING:
    from pds_lite.atproto.plc import Operation
    from pds_lite.clock import Clock
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient
    from pds_lite.storage.account_store import Account
    from pds_lite.storage.store import Store

T = TypeVar("T")

MAX_REMEMBERED = 500
MAX_REMEMBERED_BYTES = 2 << 20
STALE_S = 24 * 3600


class Remembered(Generic[T]):
    """The latest answers, bounded by count and by size; the longest unused go first. Times are monotonic seconds."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._entries: OrderedDict[str, tuple[float, int, T]] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def get(self, key: str, not_before: float) -> T | None:
        """The answer for `key` if it came at `not_before` or later."""
        entry = self._entries.get(key)
        if entry is None or entry[0] < not_before:
            return None
        self._entries.move_to_end(key)
        return entry[2]

    def put(self, key: str, now: float, size: int, value: T) -> None:
        self.forget(key)
        self._entries[key] = (now, size, value)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self.forget(next(iter(self._entries)))

    def forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]

    def __len__(self) -> int:
        return len(self._entries)


class Identity:
    """Looks identities up. `max_entries` comes from the board's limits."""

    def __init__(
        self, config: Config, clock: Clock, http: HttpClient, store: Store, *, max_entries: int = MAX_REMEMBERED
    ) -> None:
        self._config = config
        self._clock = clock
        self._http = http
        self._store = store
        self.plc = PlcDirectory(http, config.plc_url)
        self._documents: Remembered[DidDoc] = Remembered(max_entries, MAX_REMEMBERED_BYTES)
        self._dids: Remembered[str] = Remembered(max_entries, MAX_REMEMBERED_BYTES)

    async def resolve_handle(self, handle: str, *, refresh: bool = False) -> str:
        """The DID that a handle names, by DNS and then by HTTPS; whether its document claims the handle is not asked.

        Raises BadSyntax, or NotFound (HandleNotFound) with what was looked up and what was found there.
        """
        handle = parse_handle(handle)
        account = self._account()
        if account is not None and account.handle == handle and not refresh:
            return account.did
        if is_reserved_handle(handle, self._config.dev) or handle.endswith(".test"):
            # In dev mode .test handles may be taken, but they are local to their box.
            if account is not None and account.handle == handle:
                return account.did
            raise _handle_not_found(handle, f".{handle.rpartition('.')[2]} names are not looked up")
        known = None if refresh else self._dids.get(handle, self._clock.monotonic() - self._config.did_cache_s)
        if known is not None:
            return known
        did = await self._look_up_handle(handle)
        self._dids.put(handle, self._clock.monotonic(), len(handle) + len(did), did)
        return did

    async def did_doc(self, did: str, *, refresh: bool = False) -> DidDoc:
        """The document of a did:plc or did:web.

        Raises BadSyntax, NotFound (DidNotFound, DidDeactivated), or UpstreamFailure with what went wrong where.
        """
        did = parse_did(did)
        own = self._own_document(did, refresh)
        if own is not None:
            return own
        now = self._clock.monotonic()
        known = None if refresh else self._documents.get(did, now - self._config.did_cache_s)
        if known is not None:
            return known
        try:
            return await self._fetch_document(did)
        except UpstreamFailure:
            stale = None if refresh else self._documents.get(did, now - self._config.did_cache_s - STALE_S)
            if stale is None:
                raise
            return stale

    async def publish_plc(self, did: str, op: Operation) -> None:
        """Brings a signed operation to the directory. Raises UpstreamFailure with its words."""
        await self.plc.submit(did, op)
        self.forget(did)

    def forget(self, did: str) -> None:
        """Drops what is remembered of a DID, because it has just been changed."""
        self._documents.forget(did)

    async def _look_up_handle(self, handle: str) -> str:
        try:
            dids = await dns_txt.lookup_dids(handle, server=self._config.dns_server)
            by_dns = f"DNS has no TXT record did=... at _atproto.{handle}"
        except UpstreamFailure as problem:
            dids, by_dns = [], problem.message
        if len(dids) > 1:
            raise _handle_not_found(handle, f"the TXT records at _atproto.{handle} name {len(dids)} different DIDs")
        if dids:
            return dids[0]
        try:
            return await well_known.lookup_did(self._http, handle)
        except PdsError as problem:
            raise _handle_not_found(handle, f"{by_dns}; {problem.message}") from None

    async def _fetch_document(self, did: str) -> DidDoc:
        if is_plc_did(did):
            source, document = self.plc.url, await self.plc.document(did)
        elif is_web_did(did, self._config.dev):
            source, document = "its host", await well_known.did_web_document(self._http, did)
        else:
            raise NotFound(f"{did} is neither a did:plc nor a did:web of a bare host name", error="DidNotFound")
        try:
            parsed = did_doc.parse(document, did)
        except BadData as problem:
            raise UpstreamFailure(f"{source} answered something else: {problem.message}") from None
        self._documents.put(did, self._clock.monotonic(), len(ujson.dumpb(document)), parsed)
        return parsed

    def _account(self) -> Account | None:
        with self._store.read() as txn:
            return account_store.get_account(txn)

    def _own_document(self, did: str, refresh: bool) -> DidDoc | None:
        """The document of our own account where this box is the one that knows.

        That is for a DID not published yet and for the did:web of this very host; and for any other as long as the
        account is active here and nobody asks what the world believes.
        """
        with self._store.read() as txn:
            account = account_store.get_account(txn)
            if account is None or account.did != did:
                return None
            keys = key_store.load(txn)
            only_here = account.plc_op is not None or did == self._config.service_did
            if keys is None or not (only_here or (account.status == "active" and not refresh)):
                return None
            document = own_document(txn, account, keys.signing.did_key, self._config.public_url)
        return did_doc.parse(document, did)


def _handle_not_found(handle: str, found: str) -> NotFound:
    return NotFound(f"Unable to resolve handle {handle}: {found}", error="HandleNotFound")
