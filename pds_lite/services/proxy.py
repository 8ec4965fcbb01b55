"""Proxy: calls of methods that are not ours, passed on to the service that has them, in the account's name.

Rules that hold here (protocol digest 10)
- The service is what the atproto-proxy header names (`did#service`), found through its DID document; without a header
  chat methods go to the configured chat service and everything else to the configured AppView.
- The caller's own credentials never leave: the service gets a service token for its DID and this method, and of the
  other headers only those listed here. Of the answer's headers, too, only those listed come back.
- No token is made for account management, and none for chat or moving away with a plain app password.
- A fault of the other server is a 502 here; its error name and message are kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite import ujson
from pds_lite.atproto.syntax import is_did
from pds_lite.errors import BadData, BadInput, UpstreamFailure
from pds_lite.services.access import is_privileged
from pds_lite.services.service_auth import PROTECTED, ServiceAuth

if TYPE_CHECKING:
    from pds_lite.config import Config
    from pds_lite.net.http_client import HttpClient, HttpStream
    from pds_lite.services.access import Principal
    from pds_lite.services.identity import Identity

TIMEOUT_S = 60.0
MAX_ANSWER = 512 << 20
"""Bytes; answers stream through, so this only ends one that never would."""
WHOLE_ANSWER = 256 << 10
"""Bytes up to which an answer of known length is read before it is passed on, so that it can still become a 502."""
_PASSED_ON = (
    "accept-language",
    "accept-encoding",
    "atproto-accept-labelers",
    "x-bsky-topics",
    "content-type",
)
_PASSED_BACK = (
    "content-type",
    "content-encoding",
    "content-language",
    "atproto-repo-rev",
    "atproto-content-labelers",
    "retry-after",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A service: the audience of its tokens, and where it is."""

    did: str
    url: str
    configured: bool
    """Named by the owner's settings, so that it may lie in the LAN."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


class Proxy:
    """Passes calls on."""

    def __init__(self, config: Config, http: HttpClient, identity: Identity, service_auth: ServiceAuth) -> None:
        self._config = config
        self._http = http
        self._identity = identity
        self._service_auth = service_auth

    async def call(
        self,
        principal: Principal,
        nsid: str,
        *,
        verb: str,
        query_string: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
    ) -> Answer:
        """The answer of the service that has `nsid`. `headers` are the caller's, names in lower case.

        Raises BadInput for a method or header that cannot be passed on, UpstreamFailure.
        """
        if nsid in PROTECTED or (is_privileged(nsid) and not principal.privileged):
            raise BadInput("Bad token method", error="InvalidToken")
        target = await self._target(headers.get("atproto-proxy"), nsid)
        passed_on = {name: headers[name] for name in _PASSED_ON if name in headers}
        passed_on["authorization"] = f"Bearer {self._service_auth.mint(target.did, nsid)}"
        url = f"{target.url}/xrpc/{nsid}{'?' if query_string else ''}{query_string}"
        stream = await self._http.stream(
            verb, url, passed_on, body, timeout=TIMEOUT_S, max_bytes=MAX_ANSWER, configured=target.configured
        )
        return await _answer(stream)

    async def _target(self, header: str | None, nsid: str) -> Target:
        config = self._config
        if header is None:
            if nsid.startswith("chat.bsky."):
                return Target(config.chat_did, config.chat_url, configured=True)
            return Target(config.appview_did, config.appview_url, configured=True)
        did, mark, service = header.partition("#")
        if not (mark and service) or "#" in service or " " in header or not is_did(did):
            raise BadInput("atproto-proxy: must be a DID, # and the id of a service")
        endpoint = (await self._identity.did_doc(did)).service_endpoint(service)
        if endpoint is None:
            raise BadInput(f"atproto-proxy: the document of {did} has no service #{service[:100]}")
        if not endpoint.startswith("https://") and not config.dev:
            raise BadInput("atproto-proxy: the service is not reached by https")
        return Target(did, endpoint.rstrip("/"), configured=False)


async def _answer(stream: HttpStream) -> Answer:
    headers = {name: stream.headers[name] for name in _PASSED_BACK if name in stream.headers}
    length = stream.headers.get("content-length", "")
    if stream.status >= 500:
        raise _fault(await stream.read(), stream.status)
    if length.isdigit() and int(length) <= WHOLE_ANSWER:
        return Answer(stream.status, headers, await stream.read())
    return Answer(stream.status, headers, _pieces(stream))


async def _pieces(stream: HttpStream) -> AsyncIterator[bytes]:
    async with stream:
        async for piece in stream:
            yield piece


def _fault(body: bytes, status: int) -> UpstreamFailure:
    """The other server's error, kept by name and message."""
    try:
        said = ujson.loads(body)
    except BadData:
        said = None
    error, message = (said.get("error"), said.get("message")) if isinstance(said, dict) else (None, None)
    return UpstreamFailure(
        message if isinstance(message, str) else f"the service answered {status}",
        error=error if isinstance(error, str) and error.isalnum() and len(error) <= 100 else None,
    )
