"""Authorization: from the request an app pushed to the owner's answer, which goes back to the app as a redirect.

Rules that hold here
- A request belongs to the browser that opened it first; a request_uri is answered once.
- A public client always asks for consent, because anybody can use its client_id. A confidential one need not when the
  owner has agreed to the same scopes before, in a session that is still live.
- The owner may agree to less than was asked, never to more. A code is random, lives five minutes and is kept hashed.
- Every answer carries `iss` (RFC 9207) and the app's `state`, and goes to the redirect URI that was checked, nowhere
  else.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pds_lite.atproto.oauth_scope import ATPROTO, ScopeSet
from pds_lite.errors import OAuthError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pds_lite.clock import Clock
    from pds_lite.services.oauth.grants import Grants
    from pds_lite.services.oauth.par import Request, Requests

CODE_LIFE_S = 300
MAX_CODES = 64
MAX_SPENT = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the app: `parameters` to `redirect_uri`, in the way it asked for."""

    redirect_uri: str
    mode: str
    parameters: dict[str, str]

    @property
    def location(self) -> str:
        """The URL to redirect to, for the modes query and fragment."""
        added = urlencode(self.parameters)
        if self.mode == "fragment":
            return f"{self.redirect_uri}#{added}"
        return f"{self.redirect_uri}{'&' if urlsplit(self.redirect_uri).query else '?'}{added}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the owner agreed to: waits for the app to fetch it with its code."""

    request: Request
    sub: str
    scopes: ScopeSet
    expires: float


@dataclass(slots=True)
class Spent:
    """A code that was shown: what became of it, and whether it was shown again."""

    grant_id: str | None = None
    replayed: bool = False


@dataclass(slots=True)
class Codes:
    """Authorization codes not fetched yet, and those fetched lately. By their hashes."""

    clock: Clock
    _waiting: OrderedDict[bytes, Agreement] = field(default_factory=OrderedDict)
    _spent: OrderedDict[bytes, Spent] = field(default_factory=OrderedDict)

    def issue(self, request: Request, sub: str, scopes: ScopeSet) -> str:
        """A code for this agreement."""
        code = "cod-" + secrets.token_urlsafe(32)
        self._waiting[code_hash(code)] = Agreement(request, sub, scopes, self.clock.monotonic() + CODE_LIFE_S)
        while len(self._waiting) > MAX_CODES:
            self._waiting.popitem(last=False)
        return code

    def take(self, code: str) -> Agreement | Spent | None:
        """The agreement of a code, once; after that what became of it. None for a code that is not ours or too old."""
        digest = code_hash(code)
        agreement = self._waiting.pop(digest, None)
        if agreement is None:
            spent = self._spent.get(digest)
            if spent is not None:
                spent.replayed = True
            return spent
        self._spent[digest] = Spent()
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)
        return agreement if agreement.expires > self.clock.monotonic() else None

    def began(self, code: str, grant_id: str) -> bool:
        """Notes the grant a code began; False if the code was shown a second time meanwhile."""
        spent = self._spent.get(code_hash(code))
        if spent is None:
            return False
        spent.grant_id = grant_id
        return not spent.replayed


class Authorization:
    """What the authorization page does."""

    def __init__(self, issuer: str, requests: Requests, codes: Codes, grants: Grants) -> None:
        self._issuer = issuer
        self._requests = requests
        self._codes = codes
        self._grants = grants

    def open(self, request_uri: str, client_id: str, browser: str) -> Request:
        """The request behind a page, bound to this browser from now on.

        Raises OAuthError for an unknown, answered or expired one, one of another client or another browser. The owner
        sees that; there is nowhere to redirect to.
        """
        request = self._requests.find(request_uri)
        if request is None:
            raise OAuthError("This sign-in is unknown, was answered, or is too old.")
        if request.client_id != client_id:
            self._requests.close(request)
            raise OAuthError("This sign-in was begun for another app.")
        if request.browser is None:
            request.browser = browser
        if request.browser != browser:
            raise OAuthError("This sign-in was begun in another browser.")
        return request

    def needs_consent(self, request: Request) -> bool:
        """Whether the owner has to be asked."""
        if not request.client_key or request.prompt in ("consent", "select_account"):
            return True
        return not self._grants.agreed_with(request.client_id, request.client_key).issuperset(request.scopes.texts)

    def agree(self, request: Request, sub: str, agreed: Iterable[str]) -> Answer:
        """The owner's yes to the scopes in `agreed`; those not asked for are passed over. Raises OAuthError."""
        ticked = {*agreed, ATPROTO}
        scopes = ScopeSet(text for text in request.scopes.texts if text in ticked)
        if request.problem is not None or not self._requests.close(request):
            raise OAuthError("This sign-in cannot go on or was answered already.")
        return self._answer(request, {"code": self._codes.issue(request, sub, scopes)})

    def refuse(self, request: Request, error: str, description: str) -> Answer:
        """The owner's no, or a reason why there cannot be a yes."""
        self._requests.close(request)
        return self._answer(request, {"error": error, "error_description": description})

    def _answer(self, request: Request, parameters: dict[str, str]) -> Answer:
        parameters = {"iss": self._issuer, **parameters}
        if request.state is not None:
            parameters["state"] = request.state
        return Answer(request.redirect_uri, request.response_mode, parameters)


def code_hash(code: str) -> bytes:
    """How a code is remembered."""
    return sha256(b"pds-lite oauth code " + code.encode("utf-8", "surrogatepass")).digest()
