"""A PLC directory on loopback: takes genesis operations as they come, answers documents, and can be told to refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pds_lite.atproto import did_doc, plc


class PlcServer:
    def __init__(self) -> None:
        self.operations: dict[str, dict[str, Any]] = {}
        self.refuses = False
        self.url = ""


@contextmanager
def plc_server() -> Iterator[PlcServer]:
    directory = PlcServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            did = self.path[1:].replace("%3A", ":")
            operation = directory.operations.get(did)
            if operation is None:
                self._answer(404, {"message": "not registered"})
            else:
                self._answer(200, did_doc.of_operation(did, operation))

        def do_POST(self) -> None:
            operation = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if directory.refuses:
                self._answer(400, {"message": "refused for the test"})
                return
            plc.check_op(operation)
            directory.operations[self.path[1:].replace("%3A", ":")] = operation
            self._answer(200, {})

        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    directory.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield directory
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
