"""From uvicorn's ASGI calls to microdot and back.

microdot.asgi is not used: its stream readers give short or empty bodies, a peer on a unix socket is a 500, and it
costs three times as much. What is here builds microdot's Request and calls its `dispatch_request`.

Rules that hold here
- Every answer leaves with CORS headers (http/cors); OPTIONS is answered here for every path, known or not.
- Client address and scheme are settled here, once (http/client_address): `request.client_addr[0]` is who calls.
- A body is never read before a handler asks: `request.stream` is a BodyStream, `await form_body(request)` fills
  `request.form`.
- A PdsError of a web handler becomes its status and an XRPC error body; any other exception is our bug: logged once,
  500.
- Websockets go to one callable; whatever it is, other paths are refused in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any
from urllib.parse import parse_qsl

from microdot import Microdot, Request, Response
from microdot.microdot import HTTPException, MultiDict, NoCaseDict
from uvicorn.protocols.utils import ClientDisconnected

from pds_lite import ujson
from pds_lite.errors import BadInput, PdsError
from pds_lite.http.body import BodyStream, Receive
from pds_lite.http.client_address import ProxyTrust
from pds_lite.http.compression import IN_THREAD, accepts_gzip, compressible, gzip_bytes
from pds_lite.http.cors import ON_EVERY_ANSWER, Headers, preflight

log = logging.getLogger("pds_lite.http")

Send = Callable[[Any], Awaitable[None]]
Endpoint = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Handler = Callable[..., Awaitable[Any]]

FORM_LIMIT = 64 * 1024
"""Bytes of a form or of any other body that a web page handler asks for."""
MAX_FIELDS = 500
"""Of a form or a query string; a consent page has a box for each scope."""


class WebApp(Microdot):
    """microdot's application with handlers guarded: it would print a traceback for each exception, also for a bad
    request.
    """

    def route(self, url_pattern: str, methods: list[str] | None = None) -> Callable[[Handler], Handler]:
        """Registers `async def handler(request, **path_parts)`."""

        def register(handler: Handler) -> Handler:
            if not asyncio.iscoroutinefunction(handler):
                raise TypeError(f"{handler.__qualname__} must be async: microdot runs the others in a thread")
            super(WebApp, self).route(url_pattern, methods)(_guarded(handler))
            return handler

        return register


def _guarded(handler: Handler) -> Handler:
    @wraps(handler)
    async def guarded(request: Request, **parts: Any) -> Any:
        try:
            return await handler(request, **parts)
        except PdsError as problem:
            return error_response(problem)
        except (HTTPException, ClientDisconnected):
            raise
        except Exception:
            log.exception("fault in %s", handler.__qualname__)
            return error_response(PdsError("Internal Server Error"))

    return guarded


def error_response(problem: PdsError) -> Response:
    """{error, message}. Hints stay here: they are for the person at the box and may name files."""
    body = ujson.dumpb({"error": problem.error, "message": problem.message})
    return Response(body, problem.status, {"Content-Type": "application/json", "Cache-Control": "no-store"})


async def form_body(request: Request, limit: int = FORM_LIMIT) -> bytes:
    """Reads the body of a web page's request, so that `request.form` and `request.json` work.

    Raises TooLarge, or BadInput for a form of too many fields.
    """
    stream: Any = request.stream
    body: bytes = await stream.read(limit)
    request.__dict__["_body"] = body  # where microdot's own adapter puts it
    if (request.content_type or "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        request.__dict__["_form"] = _fields(body)
    return body


def _fields(encoded: bytes) -> MultiDict:
    """What a form or query string says. microdot's own parser raises for broken escapes; here they show as they do in
    a browser. Raises BadInput for too many fields.
    """
    fields = MultiDict()
    try:
        text = encoded.decode(errors="replace")
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadInput(f"More than {MAX_FIELDS} fields") from None
    for name, value in pairs:
        fields[name] = value
    return fields


class HttpEdge:
    """The ASGI application: microdot for HTTP, one endpoint for websockets."""

    def __init__(self, app: Microdot, websocket: Endpoint, trust: ProxyTrust) -> None:
        self._app = app
        self._websocket = websocket
        self._trust = trust

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                headers = _headers(scope["headers"])
                self._settle_client(scope, headers)
                await self._websocket(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = _headers(scope["headers"])
        if scope["method"] == "OPTIONS":
            asked = headers.get("access-control-request-headers", "")
            await send({"type": "http.response.start", "status": 204, "headers": preflight(asked)})
            await send({"type": "http.response.body", "body": b""})
            return
        client = self._settle_client(scope, headers)
        try:
            request = _request(self._app, scope, client, headers, receive)
        except BadInput as problem:
            response = error_response(problem)
        else:
            response = await self._app.dispatch_request(request)
        await _answer(response, headers.get("accept-encoding", ""), send, head=scope["method"] == "HEAD")

    def _settle_client(self, scope: dict[str, Any], headers: dict[str, str]) -> str:
        peer = scope["client"][0] if scope["client"] else None
        client = self._trust.client(peer, headers.get("x-forwarded-for", ""))
        if "x-forwarded-proto" in headers:
            scope["scheme"] = self._trust.scheme(peer, headers["x-forwarded-proto"], scope["scheme"])
        scope["client"] = (client, 0)
        return client


def _headers(raw: Headers) -> dict[str, str]:
    """Lower-case names; a repeated header is one list, as RFC 9110 5.3 reads it, so a second Authorization is no
    token.
    """
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name = name_bytes.decode("latin-1")
        value = value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _request(app: Microdot, scope: dict[str, Any], client: str, headers: dict[str, str], receive: Receive) -> Request:
    length = headers.get("content-length")
    stream: Any = BodyStream(
        receive,
        None if length is None else int(length),
        headers.get("content-encoding", ""),
        present=length is not None or "transfer-encoding" in headers,
    )
    path: str = scope["path"]
    xrpc = path.startswith("/xrpc/")
    query: bytes = scope["query_string"]
    # The XRPC router reads query string and headers itself: parsing them here costs more than all the rest.
    given = headers if xrpc else NoCaseDict(headers)
    request = Request(
        app, (client, 0), scope["method"], "/", scope["http_version"], given, b"", stream, scheme=scope["scheme"]
    )
    request.path = path
    request.query_string = query.decode("latin-1")
    if query and not xrpc:
        request.args = _fields(query)
    # Its only use in microdot is a limit of one size for every route; ours are per method.
    request.content_length = 0
    return request


async def _answer(response: Response, accept_encoding: str, send: Send, *, head: bool) -> None:
    body: Any = response.body
    untyped = body == b"" and "Content-Type" not in response.headers  # nothing has no type; microdot would give it one
    response.complete()
    headers: Headers = []
    for name, value in response.headers.items():
        if untyped and name.lower() == "content-type":
            continue
        for one in value if isinstance(value, list) else (value,):
            headers.append((name.lower().encode("latin-1"), one.encode("latin-1")))
    if isinstance(body, bytes):
        if "Content-Encoding" not in response.headers and compressible(response.headers["Content-Type"], len(body)):
            body = await _compressed(body, accept_encoding, headers)
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers + ON_EVERY_ANSWER}
        )
        await send({"type": "http.response.body", "body": body})
        return
    iterable: Any = response.body_iter()
    chunks = aiter(iterable)
    try:
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers + ON_EVERY_ANSWER}
        )
        if not head:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await chunks.aclose()


async def _compressed(body: bytes, accept_encoding: str, headers: Headers) -> bytes:
    headers.append((b"vary", b"accept-encoding"))
    if not accepts_gzip(accept_encoding):
        return body
    small = await asyncio.to_thread(gzip_bytes, body) if len(body) > IN_THREAD else gzip_bytes(body)
    headers[:] = [header for header in headers if header[0] != b"content-length"]
    headers += [(b"content-encoding", b"gzip"), (b"content-length", str(len(small)).encode())]
    return small
