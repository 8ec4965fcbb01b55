"""/xrpc/<nsid>: the table of methods, and what every call goes through before and after its handler.

    NSID -> row of METHODS -> verb -> limits -> credentials -> parameters and body checked by the lexicon
         -> handler -> Reply, or an error as {error, message}

Rules that hold here
- Whatever is asked under /xrpc is answered in the XRPC error shape, also when no such method exists.
- Input is checked once, here, against the lexicon; handlers trust it.
- A PdsError is an answer. Any other exception is a bug of ours: logged once with its traceback, 500 for the client.
- Strangers are counted by address, calls and calls under way, before they cause work; sessions of the account are
  counted under the account, so what strangers do never holds the owner up.
- It must not know what any method does: special cases belong to the method's row.
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_plus

from microdot import Request, Response

from pds_lite import __version__, ujson
from pds_lite.atproto.lexicon.catalog import Catalog, Definition, catalog
from pds_lite.atproto.syntax import is_nsid
from pds_lite.errors import BadData, BadInput, NotImplementedHere, OAuthError, PdsError, RateLimited, Unauthorized
from pds_lite.http.asgi import WebApp, error_response
from pds_lite.http.body import BodyStream
from pds_lite.http.client_address import rate_key
from pds_lite.http.exchange import ClientDisconnected
from pds_lite.services.access import ANY_SCOPE, Access, Principal
from pds_lite.services.rate_limits import (
    EVERYTHING,
    EXPORT_METHODS,
    EXPORTS,
    LOGIN,
    LOGIN_METHOD,
    METHOD_RULES,
    WRITE_METHODS,
    WRITES,
    Rule,
    login_key,
)
from pds_lite.xrpc.credentials import credentials_of, dpop_request, is_dpop, may_need_look_up
from pds_lite.xrpc.responses import JSON, Reply, error_reply, json_reply
from pds_lite.xrpc.unsupported import PASSED_ON, UNSUPPORTED

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services

log = logging.getLogger("pds_lite.xrpc")

JSON_LIMIT = 150 * 1024
"""Bytes of a JSON body, as in the reference."""
RECORD_JSON_LIMIT = 1_000_000
"""Bytes of a JSON body that carries records."""
MAX_DEPTH = 115
"""Nesting of a JSON body: a record that nests as deep as it may, in the list of applyWrites."""
CALLS_AT_ONCE = 32
"""Calls under way for one stranger's address; sessions of the account are not counted."""
_MAX_PARAMETERS = 1000
_NO_INPUT: tuple[Any, None] = (None, None)
_VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE", "QUERY", "TRACE"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method, checked: everything a handler gets besides the services."""

    nsid: str
    params: dict[str, Any]
    """Typed, defaults filled in."""
    input: Any
    """The JSON body (no defaults filled in), None if the method takes none or takes a stream."""
    body: BodyStream | None
    """For methods whose input is not JSON; its `limit` is the handler's to set."""
    headers: Mapping[str, str]
    """Names in lower case."""
    client: str
    """Address of the caller, or "unix"."""
    principal: Principal


Handler = Callable[["Services", Call], Awaitable["dict[str, Any] | Reply | None"]]
Subscription = Callable[..., Awaitable[None]]
Proxy = Callable[["Services", Request, str], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table."""

    nsid: str
    verb: str
    """GET (also answers HEAD) or POST."""
    access: Access
    handler: Handler
    oauth: str | None = None
    """The scope an OAuth session needs; ANY_SCOPE, HANDLER_ASKS, or None for a method closed to them."""


METHODS: dict[str, Method] = {}
SUBSCRIPTIONS: dict[str, Subscription] = {}


def query(nsid: str, *, access: Access, oauth: str | None = None) -> Callable[[Handler], Handler]:
    """Registers `async def handler(services, call)` as the query `nsid`; `oauth` as in Method."""
    return _method(nsid, "GET", access, oauth)


def procedure(nsid: str, *, access: Access, oauth: str | None = None) -> Callable[[Handler], Handler]:
    """Registers `async def handler(services, call)` as the procedure `nsid`; `oauth` as in Method."""
    return _method(nsid, "POST", access, oauth)


def subscription(nsid: str) -> Callable[[Subscription], Subscription]:
    """Registers `async def handler(services, scope, receive, send)`, an ASGI websocket endpoint, as the stream
    `nsid`.
    """

    def register(handler: Subscription) -> Subscription:
        _must_be_new(nsid)
        SUBSCRIPTIONS[nsid] = handler
        return handler

    return register


def _method(nsid: str, verb: str, access: Access, oauth: str | None) -> Callable[[Handler], Handler]:
    if access in (Access.OPTIONAL, Access.LENIENT):
        oauth = ANY_SCOPE  # whoever may read without credentials may with any

    def register(handler: Handler) -> Handler:
        _must_be_new(nsid)
        METHODS[nsid] = Method(nsid, verb, access, handler, oauth)
        return handler

    return register


def _must_be_new(nsid: str) -> None:
    if nsid in METHODS or nsid in SUBSCRIPTIONS:
        raise ValueError(f"{nsid} is registered twice")


class Router:
    """Answers calls with the methods registered so far."""

    def __init__(
        self,
        services: Services,
        *,
        lexicons: Catalog | None = None,
        methods: Mapping[str, Method] = METHODS,
        subscriptions: Mapping[str, Subscription] = SUBSCRIPTIONS,
        proxy: Proxy | None = None,
    ) -> None:
        """`proxy` answers calls of methods that are not ours. Raises ValueError for a method its lexicon
        contradicts.
        """
        self._services = services
        self._lexicons = lexicons or catalog()
        self._methods = methods
        self._subscriptions = subscriptions
        self._proxy = proxy
        self._under_way: dict[str, int] = {}
        for method in methods.values():
            self._check_row(method)

    def _check_row(self, method: Method) -> None:
        expected = "procedure" if method.verb == "POST" else "query"
        if self._lexicons.kind(method.nsid) != expected:
            raise ValueError(f"{method.nsid} is not a {expected} of any lexicon")

    def install(self, app: WebApp) -> None:
        """Puts the one route on `app`, which must not have any yet: microdot tries routes in turn."""
        app.route("/xrpc/<re:.*:nsid>", methods=_VERBS)(self.answer)
        app.errorhandler(405)(_other_verb)

    async def answer(self, request: Request, nsid: str) -> Response:
        """Microdot's handler."""
        used: list[tuple[Rule, str]] = []
        try:
            reply = await self._reply(request, nsid, used)
        except OAuthError as problem:
            reply = error_reply(problem, self._services.oauth().challenge(problem))
        except PdsError as problem:
            if problem.status == 500:
                log.error("%s: %s %s", nsid, type(problem).__name__, problem)
            reply = error_reply(problem)
        except ClientDisconnected:
            raise
        except Exception:
            log.exception("fault in %r", nsid[:317])
            reply = error_reply(PdsError("Internal Server Error"))
        return self._response(request, nsid, reply, used)

    async def _reply(self, request: Request, nsid: str, used: list[tuple[Rule, str]]) -> Reply:
        method = self._methods.get(nsid)
        if method is None:
            return await self._unknown(request, nsid)
        if request.method != method.verb and (request.method, method.verb) != ("HEAD", "GET"):
            raise _wrong_verb(request.method, method.verb)
        principal = await self._admit(request, method, used)
        if principal.is_account:
            return await self._call(request, method, principal, used)
        address = rate_key(request.client_addr[0])
        under_way = self._under_way.get(address, 0)
        if under_way >= CALLS_AT_ONCE and self._services.limits.enabled:
            raise RateLimited("Too many calls at once", retry_after=1)
        self._under_way[address] = under_way + 1
        try:
            return await self._call(request, method, principal, used)
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]

    async def _admit(self, request: Request, method: Method, used: list[tuple[Rule, str]]) -> Principal:
        """Who calls, counted against the limits. An account's session is not held up by what its address did before."""
        limits = self._services.limits
        rule = EXPORTS if method.nsid in EXPORT_METHODS else EVERYTHING
        address = rate_key(request.client_addr[0])
        authorization = credentials_of(request.headers).authorization
        if limits.exhausted(rule, address) and (authorization is None or may_need_look_up(authorization)):
            used.append((rule, address))
            limits.take((rule,), address)
        key = address
        try:
            principal = await self._services.access.authenticate(
                authorization, method.access, method.nsid, dpop_request(request), request.client_addr[0]
            )
            if principal.is_account and principal.did is not None:
                key = principal.did
        finally:
            used.append((rule, key))
            limits.take((rule,), key)
        principal.require(method.oauth)
        return principal

    async def _call(
        self, request: Request, method: Method, principal: Principal, used: list[tuple[Rule, str]]
    ) -> Reply:
        definition = self._lexicons.get(method.nsid)
        if definition is None:
            raise NotImplementedHere(f"No lexicon for {method.nsid}")
        params = definition.parse_params(query_pairs(request.query_string or ""))
        value, stream = await _input(request, definition) if method.verb == "POST" else _NO_INPUT
        key = principal.did if principal.is_account and principal.did else rate_key(request.client_addr[0])
        if method.nsid in METHOD_RULES:
            used += ((rule, key) for rule in METHOD_RULES[method.nsid])
            self._services.limits.take(METHOD_RULES[method.nsid], key)
        elif method.nsid in WRITE_METHODS:
            used += ((rule, key) for rule in WRITES)
        elif method.nsid == LOGIN_METHOD:
            login = login_key(value["identifier"], request.client_addr[0])
            used += ((rule, login) for rule in LOGIN)
        call = Call(method.nsid, params, value, stream, request.headers, request.client_addr[0], principal)
        result = await method.handler(self._services, call)
        if result is None:
            return Reply(b"", "")
        return result if type(result) is Reply else json_reply(result)

    async def _unknown(self, request: Request, nsid: str) -> Reply:
        if nsid == "_health":
            return json_reply({"version": f"pds-lite {__version__}"})
        if nsid in self._subscriptions:
            if request.method not in ("GET", "HEAD"):
                raise _wrong_verb(request.method, "GET")
            problem = BadInput("This is a stream: connect with a websocket", error="UpgradeRequired", status=426)
            reply = error_reply(problem)
            return Reply(reply.body, JSON, 426, {"Upgrade": "websocket"})
        if not is_nsid(nsid):
            raise BadInput("This path is not the NSID of a method", status=404)
        passed_on = nsid in PASSED_ON or request.headers.get("atproto-proxy")
        if nsid.startswith("com.atproto.") and not passed_on:
            raise NotImplementedHere(UNSUPPORTED.get(nsid, "Method Not Implemented"))
        if self._proxy is not None:
            return await self._proxy(self._services, request, nsid)
        if credentials_of(request.headers).authorization is None:
            raise Unauthorized("Authentication Required", error="AuthMissing")
        raise NotImplementedHere("No service to pass this method on to")

    def _response(self, request: Request, nsid: str, reply: Reply, used: list[tuple[Rule, str]]) -> Response:
        headers = dict(reply.headers)
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        method = self._methods.get(nsid)
        if method is not None and method.access is not Access.PUBLIC:
            # Which answer it is depends on who asks, also when nobody in particular did.
            vary = headers.get("Vary")
            headers["Vary"] = f"{vary}, Authorization" if vary else "Authorization"
        if "authorization" in request.headers:
            headers.setdefault("Cache-Control", "private")
        if is_dpop(request.headers):
            headers["DPoP-Nonce"] = self._services.oauth().nonces.next()
        headers.update(self._services.limits.headers(used))
        body: Any = reply.body
        return Response(body, reply.status, headers)

    async def websocket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """The ASGI endpoint of every websocket: a subscription, or a refusal before the handshake."""
        nsid = scope["path"].removeprefix("/xrpc/")
        handler = self._subscriptions.get(nsid) if scope["path"].startswith("/xrpc/") else None
        if handler is not None:
            await handler(self._services, scope, receive, send)
            return
        await receive()
        body = ujson.dumpb({"error": "MethodNotImplemented", "message": "No stream here"})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


def _wrong_verb(verb: str, expected: str) -> BadInput:
    return BadInput(f"Incorrect HTTP method ({verb}) expected {expected}", error="MethodNotAllowed", status=405)


async def _other_verb(request: Request) -> Response:
    """For verbs nobody uses (PROPFIND and the like), on any path."""
    return error_response(BadInput(f"No method here takes {request.method}", error="MethodNotAllowed", status=405))


def query_pairs(query_string: str) -> Sequence[tuple[str, str]]:
    """Name and value of each parameter, percent-decoded. Raises BadInput for bad UTF-8 or too many of them."""
    if not query_string:
        return ()
    parts = query_string.split("&", _MAX_PARAMETERS)
    if len(parts) > _MAX_PARAMETERS:
        raise BadInput("Too many parameters")
    pairs = []
    try:
        for part in parts:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
            pairs.append((name, value))
    except UnicodeDecodeError:
        raise BadInput("The parameters are not UTF-8") from None
    return pairs


async def _input(request: Request, definition: Definition) -> tuple[Any, BodyStream | None]:
    """(JSON value, None) or (None, stream), as the lexicon says. Raises BadInput for a wrong, missing or unwanted
    body.
    """
    stream: BodyStream = cast("BodyStream", request.stream)
    expected = definition.input_encoding
    if expected is None:
        if not stream.empty and await stream.read(JSON_LIMIT):
            raise BadInput("A request body was provided when none was expected")
        return None, None
    if not stream.present:
        raise BadInput("A request body is expected but none was provided")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not given:
        raise BadInput("Request encoding (Content-Type) required but not provided")
    if expected not in ("*/*", given):
        raise BadInput(f"Wrong request encoding (Content-Type): {given[:100]}")
    if expected != "application/json":
        return None, stream
    limit = RECORD_JSON_LIMIT if definition.nsid in WRITE_METHODS else JSON_LIMIT
    raw = (await stream.read(limit)).removeprefix(codecs.BOM_UTF8)  # as some editors and shells begin a file
    value = ujson.loads(raw) if raw else {}  # as in the reference: some clients name JSON and send nothing
    _check_depth(raw, value)
    return definition.check_input(value), None


def _check_depth(raw: bytes, value: Any) -> None:
    """Refuses nesting that would overrun whoever walks the value. Counting brackets spares the walk almost always."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            if type(parent) in (dict, list)
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in (dict, list)
        ]
        if not level:
            return
    raise BadData(f"The body is nested deeper than {MAX_DEPTH}")
