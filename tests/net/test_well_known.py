"""What hosts publish about themselves: a DID is a DID or a reason why not."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pds_lite.errors import NotFound, PdsError, UpstreamFailure
from pds_lite.net import well_known
from pds_lite.net.http_client import HttpClient
from tests.net.web import Web

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
URL = "https://alice.example.com/.well-known/atproto-did"


@pytest.mark.parametrize("body", [DID, f"{DID}\n", f"  {DID}\r\n"])
@pytest.mark.parametrize("status", [200, 203])
async def test_a_handles_did_is_trimmed_text(body, status):
    web = Web({URL: (status, body.encode())})

    assert await well_known.lookup_did(web, "alice.example.com") == DID
    assert web.follows == [5], "redirects are allowed"
    assert web.configured == [False], "a stranger's name must not lead into the LAN"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, DID, "status 404"),
        (302, DID, "status 302"),
        (500, "", "status 500"),
        (200, "", "not a DID"),
        (200, "<html>", "not a DID"),
        (200, f"{DID}\n{DID}", "not a DID"),
        (200, "\ufeff" + DID, "not a DID"),
    ],
)
async def test_any_other_answer_is_no_did(status, body, reason):
    with pytest.raises(NotFound, match=reason):
        await well_known.lookup_did(Web({URL: (status, body.encode())}), "alice.example.com")


async def test_a_host_that_does_not_answer_is_an_upstream_failure():
    with pytest.raises(UpstreamFailure):
        await well_known.lookup_did(Web(), "alice.example.com")


@pytest.mark.parametrize(
    ("did", "url"),
    [
        ("did:web:pds.example.com", "https://pds.example.com/.well-known/did.json"),
        ("did:web:localhost%3A2583", "http://localhost:2583/.well-known/did.json"),
        ("did:web:localhost", "http://localhost/.well-known/did.json"),
        ("did:web:localhost.example.com", "https://localhost.example.com/.well-known/did.json"),
    ],
)
async def test_a_did_web_lives_at_its_host(did, url):
    web = Web({url: (200, b'{"id":1}')})

    assert await well_known.did_web_document(web, did) == {"id": 1}
    assert web.follows == [0], "who serves the document is the identity"


@pytest.mark.parametrize(
    ("answer", "error"),
    [((404, b""), NotFound), ((410, b""), NotFound), ((302, b""), UpstreamFailure), ((200, b"{"), UpstreamFailure)],
)
async def test_a_did_web_without_a_document_says_so(answer, error):
    with pytest.raises(error, match=r"did\.json answered"):
        await well_known.did_web_document(
            Web({"https://x.example.com/.well-known/did.json": answer}), "did:web:x.example.com"
        )


class _Localhost(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"path":"%s"}' % self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.mark.parametrize("dev", [True, False])
async def test_localhost_is_reached_over_http_in_development_only(dev):
    with HTTPServer(("127.0.0.1", 0), _Localhost) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        http = HttpClient(allow_loopback=dev)
        did = f"did:web:localhost%3A{server.server_port}"
        try:
            if dev:
                assert await well_known.did_web_document(http, did) == {"path": "/.well-known/did.json"}
            else:
                with pytest.raises(PdsError):
                    await well_known.did_web_document(http, did)
        finally:
            await http.close()
            server.shutdown()
            thread.join()
