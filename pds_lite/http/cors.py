"""CORS: every path and every status of this server may be read from any web page.

An atproto client is often a web page on another origin, and a missing header turns each error into "network error".
Nothing here relies on cookies of the browser, so `*` without credentials is safe; the Authorization header is the
client's own. The pages where the owner signs in are a matter of `web` and its own headers. (Protocol digest 15,
clients 0.)
"""

from __future__ import annotations

import re

Headers = list[tuple[bytes, bytes]]

EXPOSED = ", ".join(
    (
        "atproto-content-labelers",
        "atproto-repo-rev",
        "atproto-upstream-lag",
        "content-disposition",
        "dpop-nonce",
        "ratelimit-limit",
        "ratelimit-policy",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "www-authenticate",
    )
)

ON_EVERY_ANSWER: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED.encode()),
]

_USUAL_REQUEST_HEADERS = (
    "authorization, content-type, dpop, atproto-proxy, atproto-accept-labelers, atproto-content-labelers, x-bsky-topics"
)
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_DAY = b"86400"
_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII)
_MAX_ECHO = 4096


def preflight(requested_headers: str) -> Headers:
    """Headers of the answer to OPTIONS. `requested_headers` (Access-Control-Request-Headers) is given back as it came,
    because `*` does not cover Authorization and apps add headers of their own.
    """
    asked = requested_headers.strip()
    echo = asked if len(asked) <= _MAX_ECHO and _HEADER_LIST.fullmatch(asked) else _USUAL_REQUEST_HEADERS
    return [
        *ON_EVERY_ANSWER,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", echo.encode()),
        (b"access-control-max-age", _DAY),
        (b"vary", b"access-control-request-headers"),
        (b"allow", _METHODS),
    ]
