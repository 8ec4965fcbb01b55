"""OAuth over HTTP: the two metadata documents, the endpoints apps call, and the page the owner sees.

    /.well-known/oauth-protected-resource   /.well-known/oauth-authorization-server
    /oauth/par   /oauth/token   /oauth/revoke   /oauth/jwks      JSON, for apps
    /oauth/authorize                                             pages, for the owner

Rules that hold here
- Every answer to an app carries the next DPoP nonce and is not stored; an error is {error, error_description}.
- What an app or a stranger sent wrong is told on our own page when it is not certain that the redirect URI is the
  app's: nobody is ever redirected to where a request merely says.
- The decisions are services/oauth's; here they become documents, pages and cookies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from microdot import Request, Response

from pds_lite import ujson
from pds_lite.errors import BadInput, OAuthError, PdsError, RateLimited
from pds_lite.http.asgi import WebApp, form_body
from pds_lite.http.client_address import rate_key
from pds_lite.services.rate_limits import OAUTH
from pds_lite.services.sign_in_log import ASKING

if TYPE_CHECKING:
    from pds_lite.services.bundle import Services
    from pds_lite.services.oauth.provider import OAuth

READ = ["GET", "HEAD"]
MAX_BODY = 64 << 10
MAX_PARAMETERS = 50

Work = Callable[["OAuth", Mapping[str, str], "str | None"], Awaitable[object]]


def mount(app: WebApp, services: Services) -> None:
    """Adds the routes."""

    @app.route("/.well-known/oauth-protected-resource", methods=READ)
    async def protected_resource(_request: Request) -> Response:
        return _document(
            {
                "resource": services.config.public_url,
                "authorization_servers": [services.config.public_url],
                "scopes_supported": [],
                "bearer_methods_supported": ["header"],
                "resource_documentation": "https://atproto.com",
            }
        )

    @app.route("/.well-known/oauth-authorization-server", methods=READ)
    async def authorization_server(_request: Request) -> Response:
        return _document(services.oauth().metadata())

    @app.route("/oauth/jwks", methods=READ)
    async def jwks(_request: Request) -> Response:
        return _document({"keys": []})  # tokens are opaque to everybody else, so there is no key to publish

    @app.route("/oauth/par", methods=["POST"])
    async def par(request: Request) -> Response:
        async def push(oauth: OAuth, parameters: Mapping[str, str], jkt: str | None) -> object:
            from pds_lite.services.oauth.par import LIFE_S

            pushed = await oauth.par.push(parameters, jkt)
            return {"request_uri": pushed.uri, "expires_in": LIFE_S}

        return await _answer(services, request, push, 201)

    @app.route("/oauth/token", methods=["POST"])
    async def token(request: Request) -> Response:
        async def hand_out(oauth: OAuth, parameters: Mapping[str, str], jkt: str | None) -> object:
            return await oauth.tokens.answer(parameters, jkt)

        return await _answer(services, request, hand_out)

    @app.route("/oauth/revoke", methods=["POST"])
    async def revoke(request: Request) -> Response:
        async def end(oauth: OAuth, parameters: Mapping[str, str], jkt: str | None) -> object:
            await oauth.revocation.revoke(parameters, jkt)
            return {}

        return await _answer(services, request, end)

    @app.route("/oauth/authorize", methods=["GET"])
    async def authorize(request: Request) -> Response:
        from pds_lite.web import oauth_pages

        return await oauth_pages.show(services, request)

    @app.route("/oauth/authorize", methods=["POST"])
    async def authorize_form(request: Request) -> Response:
        from pds_lite.web import oauth_pages

        return await oauth_pages.take_form(services, request)


def _document(value: object) -> Response:
    return Response(ujson.dumpb(value), 200, {"Content-Type": "application/json", "Cache-Control": "max-age=300"})


async def _answer(services: Services, request: Request, work: Work, status: int = 200) -> Response:
    """Does an app's request and answers it, whatever becomes of it, with the next nonce."""
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Pragma": "no-cache",
        "DPoP-Nonce": services.oauth().nonces.next(),
    }
    parameters: Mapping[str, str] = {}
    try:
        services.limits.take((OAUTH,), rate_key(request.client_addr[0]))
        parameters = await _parameters(request)
        jkt = services.oauth().check_client_proof(request.headers.get("dpop"), request.path)
        body = await work(services.oauth(), parameters, jkt)
    except PdsError as problem:
        if isinstance(problem, RateLimited):
            headers["Retry-After"] = str(problem.retry_after)
        elif problem.error != "use_dpop_nonce":  # which is how every client learns the nonce
            log_refusal(services, request, parameters.get("client_id", ""), problem.error, problem.message)
        return Response(ujson.dumpb(_error(problem)), problem.status, headers)
    return Response(ujson.dumpb(body), status, headers)


def _error(problem: PdsError) -> dict[str, str]:
    """As RFC 6749 5.2 names it."""
    if isinstance(problem, OAuthError):
        return {"error": problem.error, "error_description": problem.message}
    if isinstance(problem, BadInput):
        return {"error": "invalid_request", "error_description": problem.message}
    if problem.status in (429, 503):
        return {"error": "temporarily_unavailable", "error_description": problem.message}
    return {"error": "server_error", "error_description": "The server could not do this"}


async def _parameters(request: Request) -> dict[str, str]:
    """The parameters of a form or a JSON object, each once. Raises OAuthError."""
    body = await form_body(request, MAX_BODY)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _from_json(ujson.loads(body))
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("The body must be application/x-www-form-urlencoded or application/json", status=415)
    return form_parameters(body)


def form_parameters(text: bytes) -> dict[str, str]:
    """The parameters of a form or a query, each once; one without a value counts as left out (RFC 6749 3.1).

    Raises OAuthError.
    """
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise OAuthError("The parameters cannot be read") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise OAuthError("A parameter comes more than once")
    return {name: value for name, value in parameters.items() if value}


def log_refusal(services: Services, request: Request, client_id: str, error: str, reason: str) -> None:
    """Notes in the sign-in log that an app was refused, and why."""
    services.sign_in.log.refused(ASKING, client_id, request.client_addr[0], "", f"{error}: {reason}")


def _from_json(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_PARAMETERS:
        raise OAuthError("The body is not a JSON object of parameters")
    parameters = {name: str(text) if type(text) is int else text for name, text in value.items() if text is not None}
    for name, text in parameters.items():
        if not isinstance(text, str):
            raise OAuthError(f"{name[:100]} is not a text")
    return parameters
