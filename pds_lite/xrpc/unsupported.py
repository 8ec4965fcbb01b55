"""Every com.atproto method this server knows and does not answer itself, with the reason it gives.

A test fails unless each method of the lexicon catalogue is registered with the router or stands here, so a new lexicon
is noticed. The router answers 501 MethodNotImplemented with the reason.
"""

from __future__ import annotations

PASSED_ON = frozenset({"com.atproto.label.queryLabels"})
"""Of those below: AppViews answer them, so they are passed on like any method that is not ours. With an atproto-proxy
header every one of them is.
"""

_KEY_IS_THE_BOXES = "This server makes its signing key itself: pds-lite identity rotate-key"
_NO_RESOLVER = "This server does not look lexicons up for others"
_RELAY = "This is a method of relays"
_SERVICE = "This is a method of labelers and other services; name one with the atproto-proxy header"
_NOBODY = "No server implements this method"


def _each(namespace: str, names: str, reason: str) -> dict[str, str]:
    return {f"com.atproto.{namespace}.{name}": reason for name in names.split()}


UNSUPPORTED: dict[str, str] = {
    **_each("admin", "updateAccountSigningKey", _KEY_IS_THE_BOXES),
    **_each("label", "queryLabels subscribeLabels", _SERVICE),
    **_each("lexicon", "resolveLexicon", _NO_RESOLVER),
    **_each("sync", "getHostStatus listHosts listReposByCollection notifyOfUpdate requestCrawl", _RELAY),
    **_each("temp", "addReservedHandle fetchLabels requestPhoneVerification revokeAccountCredentials", _NOBODY),
    **_each("temp", "dereferenceScope", _NOBODY),
}
