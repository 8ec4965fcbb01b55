"""The did:plc directory over HTTP. A failure says what was asked and what came back; a tombstone has its own name."""

from typing import Any
from urllib.parse import quote

from pds_lite import ujson
from pds_lite.atproto.plc import Operation
from pds_lite.errors import BadData, NotFound, UpstreamFailure
from pds_lite.net.http_client import HttpClient, HttpResponse

TIMEOUT_S = 10.0
MAX_DOCUMENT = 64 << 10
MAX_AUDIT_LOG = 4 << 20
"""Bytes: more than five hundred operations of the largest size."""


class OperationRefused(UpstreamFailure):
    """The directory was asked, and says that the operation is not right."""


class PlcDirectory:
    """A directory at `url` (scheme, host, perhaps a path): the owner's setting, which may lead into the LAN."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self._http = http
        self.url = url.rstrip("/")

    async def document(self, did: str) -> object:
        """The DID document as JSON, unchecked.

        Raises NotFound (DidNotFound, or DidDeactivated for a tombstone), UpstreamFailure.
        """
        return await self._get(did, "", MAX_DOCUMENT)

    async def audit_log(self, did: str) -> list[Any]:
        """Every operation ever accepted, as plc.audit takes it; unchecked."""
        log = await self._get(did, "/log/audit", MAX_AUDIT_LOG)
        if not isinstance(log, list):
            raise UpstreamFailure(f"{self.url} answered no list as the audit log of {did}")
        return log

    async def submit(self, did: str, op: Operation) -> None:
        """Publishes a signed operation.

        Raises OperationRefused with the directory's own words, UpstreamFailure when it did not judge.
        """
        response = await self._http.request(
            "POST",
            f"{self.url}/{quote(did, safe=':')}",
            {"content-type": "application/json"},
            ujson.dumpb(dict(op)),
            timeout=TIMEOUT_S,
            max_bytes=MAX_DOCUMENT,
            configured=True,
        )
        if not 200 <= response.status < 300:
            judged = 400 <= response.status < 500 and response.status not in (408, 429)
            failure = OperationRefused if judged else UpstreamFailure
            raise failure(f"{self.url} refused the operation for {did}: {_words(response)}")

    async def _get(self, did: str, path: str, max_bytes: int) -> object:
        url = f"{self.url}/{quote(did, safe=':')}{path}"
        headers = {"accept": "application/json"}
        response = await self._http.request(
            "GET", url, headers, timeout=TIMEOUT_S, max_bytes=max_bytes, configured=True
        )
        if response.status == 404:
            raise NotFound(f"{self.url} does not know {did}", error="DidNotFound")
        if response.status == 410:
            raise NotFound(f"{did} has been tombstoned", error="DidDeactivated")
        if response.status != 200:
            raise UpstreamFailure(f"GET {url}: {_words(response)}")
        try:
            return ujson.loads(response.body)
        except BadData:
            raise UpstreamFailure(f"GET {url} answered no JSON") from None


def _words(response: HttpResponse) -> str:
    """Status and, where the body has one, its message: enough to act on, too short to flood a log."""
    try:
        body = ujson.loads(response.body)
    except BadData:
        body = None
    message = body.get("message") if isinstance(body, dict) else None
    return f"{response.status} {message[:300]!r}" if isinstance(message, str) else f"status {response.status}"
