"""Which service has a method: the one an atproto-proxy header names, or one of the owner's settings.

- `did#service` is looked up in the DID's document. Its endpoint must be an https origin (http in development);
  whether its address may be connected to is judged at the connect (net/ssrf).
- Without a header chat goes to the chat service, moderation to the report service, all else to the AppView.
- A header that names a configured service needs no look-up and reaches it where the settings say, in the LAN too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pds_lite.atproto.did_doc import is_origin
from pds_lite.atproto.syntax import is_did
from pds_lite.errors import BadInput, NotFound

if TYPE_CHECKING:
    from pds_lite.config import Config
    from pds_lite.services.identity import Identity

APPVIEW, CHAT, LABELER = "bsky_appview", "bsky_chat", "atproto_labeler"


@dataclass(frozen=True, slots=True)
class Target:
    """A service: who it is, and where."""

    did: str
    service: str
    """The fragment of its entry in the DID document, without #."""
    url: str
    """An origin, no slash behind."""
    configured: bool
    """Named by the owner's settings, so that it may lie in the LAN."""


class ProxyTargets:
    """Finds services."""

    def __init__(self, config: Config, identity: Identity) -> None:
        self._identity = identity
        self._dev = config.dev
        self.appview = Target(config.appview_did, APPVIEW, config.appview_url, configured=True)
        self._chat = Target(config.chat_did, CHAT, config.chat_url, configured=True)
        self._reports = Target(config.report_did, LABELER, config.report_url, configured=True)
        self._known = {f"{known.did}#{known.service}": known for known in (self._reports, self._chat, self.appview)}

    async def find(self, header: str | None, nsid: str) -> Target:
        """The service for a method and an atproto-proxy header. Raises BadInput with what is wrong with the header,
        UpstreamFailure if its DID cannot be looked up now.
        """
        if not header:
            return self._default(nsid.lower())
        known = self._known.get(header)
        if known is not None:
            return known
        did, service = _parse(header)
        try:
            endpoint = (await self._identity.did_doc(did)).service_endpoint(service)
        except NotFound:
            raise BadInput("could not resolve proxy did") from None
        if endpoint is None or not is_origin(endpoint):
            raise BadInput("could not resolve proxy did service url")
        if not endpoint.startswith("https://") and not self._dev:
            raise BadInput("the proxy did's service is not reached by https")
        return Target(did, service, endpoint.rstrip("/"), configured=False)

    def is_appview(self, header: str | None) -> bool:
        """True if the header, or its absence, means the configured AppView."""
        return not header or self._known.get(header) is self.appview

    def _default(self, nsid: str) -> Target:
        if nsid.startswith("chat.bsky."):
            return self._chat
        if nsid.startswith(("tools.ozone.", "com.atproto.moderation.")):
            return self._reports
        return self.appview


def _parse(header: str) -> tuple[str, str]:
    did, mark, service = header.partition("#")
    if not did:
        raise BadInput("no did specified in proxy header")
    if not mark or not service:
        raise BadInput("no service id specified in proxy header")
    if "#" in service:
        raise BadInput("invalid proxy header format")
    if " " in header:
        raise BadInput("proxy header cannot contain spaces")
    if not is_did(did) or len(service) > 100:
        raise BadInput("could not resolve proxy did")
    return did, service
