"""What other hosts publish under /.well-known: a handle's DID, and the document of a did:web."""

from urllib.parse import unquote

from pds_lite import ujson
from pds_lite.atproto.syntax import is_did
from pds_lite.errors import BadData, NotFound, UpstreamFailure
from pds_lite.net.http_client import HttpClient

TIMEOUT_S = 5.0
MAX_HANDLE_ANSWER = 4096
MAX_DOCUMENT = 64 << 10
_REDIRECTS = 5


async def lookup_did(http: HttpClient, handle: str) -> str:
    """The DID at https://<handle>/.well-known/atproto-did (specs/handle, "HTTPS well-known Method").

    Raises NotFound for an answer that names none, UpstreamFailure when there is no answer.
    """
    url = f"https://{handle}/.well-known/atproto-did"
    headers = {"accept": "text/plain, */*;q=0.1"}
    response = await http.request(
        "GET", url, headers, timeout=TIMEOUT_S, max_bytes=MAX_HANDLE_ANSWER, follow=_REDIRECTS
    )
    if not 200 <= response.status < 300:
        raise NotFound(f"{url} answered status {response.status}", error="HandleNotFound")
    did = response.body.decode("utf-8", "replace").strip()
    if not is_did(did):
        raise NotFound(f"{url} answered something that is not a DID", error="HandleNotFound")
    return did


async def did_web_document(http: HttpClient, did: str) -> object:
    """The document of a did:web (its syntax checked before) as JSON, unchecked; http for localhost, https for the rest.

    Redirects are not followed: who serves the document is the identity. Raises NotFound (DidNotFound), UpstreamFailure.
    """
    host = unquote(did.removeprefix("did:web:"))
    scheme = "http" if host.partition(":")[0] == "localhost" else "https"
    url = f"{scheme}://{host}/.well-known/did.json"
    headers = {"accept": "application/did+ld+json, application/json"}
    response = await http.request("GET", url, headers, timeout=TIMEOUT_S, max_bytes=MAX_DOCUMENT)
    if response.status in (404, 410):
        raise NotFound(f"{url} answered status {response.status}", error="DidNotFound")
    if response.status != 200:
        raise UpstreamFailure(f"{url} answered status {response.status}")
    try:
        return ujson.loads(response.body)
    except BadData:
        raise UpstreamFailure(f"{url} answered no JSON") from None
