"""The credentials in a request's headers, before anybody judges them (services/access does).

Kept apart from the router because OAuth's DPoP needs more than one header and the exact method and URL of the request.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from microdot import Request

from pds_lite.services.access import DpopRequest


@dataclass(frozen=True, slots=True)
class Credentials:
    """`authorization` as it came ("Bearer ...", "DPoP ...", "Basic ..."), and the DPoP proof beside it."""

    authorization: str | None
    dpop: str | None = None


def credentials_of(headers: Mapping[str, str]) -> Credentials:
    """From headers with lower-case names. An empty Authorization header counts as none."""
    return Credentials(headers.get("authorization") or None, headers.get("dpop"))


def dpop_request(request: Request) -> DpopRequest | None:
    """What a DPoP proof shown with this request has to be made for; None for a caller that does not use DPoP."""
    if not is_dpop(request.headers):
        return None
    return DpopRequest(request.headers.get("dpop"), request.method, request.path)


def is_dpop(headers: Mapping[str, str]) -> bool:
    """Whether the caller uses DPoP, and so wants the next nonce with the answer."""
    return "dpop" in headers or headers.get("authorization", "")[:5].lower() == "dpop "


def may_need_look_up(authorization: str | None) -> bool:
    """True unless the credential can be judged with what is in memory: no token at all, Basic, or a token of our own
    (HS256).

    Anything else names an issuer whose DID document may have to be fetched, which a stranger must not be able to cause
    without limit.
    """
    if authorization is None:
        return False
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "basic":
        return False
    head = token.strip().partition(".")[0][:256]
    try:
        return b'"HS256"' not in urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except ValueError:
        return True
