"""What the tests of this folder ask with and what they expect of an answer."""

from __future__ import annotations

import re
import socket

from tests.live_box import Answer
from tests.served_box import ServedBox

R = "com.atproto.repo."
THING = "com.example.thing"
CAR = "application/vnd.ipld.car"
BLOB_LIMIT = 3_000_000
MORE_MEMORY_KB = 40 << 10
"""What any one of these tests may add to the server's memory: an import's 32 MB, and an uploaded body of 1 MB."""


def refused(answer: Answer, status: int = 400, error: str = "InvalidRequest") -> str:
    assert answer.status == status, answer.body[:500]
    assert set(answer.json) == {"error", "message"}, answer.body[:500]
    assert answer.json["error"] == error, answer.body[:500]
    assert len(answer.body) < 2000, "an error must not repeat what it was sent"
    message: str = answer.json["message"]
    return message


def raw(box: ServedBox, token: str, nsid: str, headers: str, body: bytes = b"") -> bytes:
    """What comes back for a request written by hand; the connection stays half open until the answer ends."""
    with socket.create_connection(("127.0.0.1", box.port), timeout=60) as connection:
        request = f"POST /xrpc/{nsid} HTTP/1.1\r\nHost: localhost:{box.port}\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(f"{request}{headers}Connection: close\r\n\r\n".encode() + body)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


def status_and_error(answer: bytes) -> tuple[int, str]:
    top, _, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb'"error":"([A-Za-z]+)"', body)
    assert found is not None, answer[:500]
    return int(top.split()[1]), found[1].decode()
