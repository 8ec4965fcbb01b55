"""A PLC directory on loopback with the directory's rules, a clock to turn back, and a switch to refuse everything."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pds_lite.atproto import did_doc, plc
from pds_lite.errors import PdsError


class Operations(dict[str, dict[str, Any]]):
    """DID to its operation in force. Setting one takes it into the log as the directory would."""

    def __init__(self, server: PlcServer) -> None:
        super().__init__()
        self._server = server

    def __setitem__(self, did: str, operation: Mapping[str, Any]) -> None:
        self._server.accept(did, dict(operation))
        super().__setitem__(did, dict(operation))


class PlcServer:
    def __init__(self) -> None:
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.operations = Operations(self)
        self.refuses = False
        self.is_down = False
        self.age_s = 0.0
        """How long ago operations taken from now on were made."""
        self.url = ""

    def accept(self, did: str, operation: dict[str, Any]) -> None:
        """Takes an operation into the log. Raises BadInput by the rules of did:plc."""
        created = datetime.fromtimestamp(time.time() - self.age_s, UTC).isoformat(timespec="milliseconds")
        entry = {"did": did, "operation": operation, "cid": str(plc.op_cid(operation)), "nullified": False}
        entry["createdAt"] = created.replace("+00:00", "Z")
        log = [*self.logs.get(did, ()), entry]
        names = [line["cid"] for line in log]
        if names.count(entry["cid"]) > 1:
            raise PdsError("the log has this operation")
        position = names.index(operation["prev"]) if operation["prev"] in names else -1
        for line in log[position + 1 : -1]:
            line["nullified"] = True
        plc.audit(did, log)
        self.logs[did] = log


def _handler(directory: PlcServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            did, _, rest = self.path[1:].replace("%3A", ":").partition("/")
            log = directory.logs.get(did)
            if directory.is_down:
                self._answer(503, {"message": "down for the test"})
            elif log is None:
                self._answer(404, {"message": "not registered"})
            elif rest == "log/audit":
                self._answer(200, log)
            elif (operation := directory.operations[did])["type"] == "plc_tombstone":
                self._answer(410, {"message": "tombstoned"})
            else:
                self._answer(200, did_doc.of_operation(did, operation))

        def do_POST(self) -> None:
            operation = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if directory.refuses or directory.is_down:
                self._answer(400, {"message": "refused for the test"})
                return
            try:
                plc.check_op(operation)
                directory.operations[self.path[1:].replace("%3A", ":")] = operation
            except PdsError as problem:
                self._answer(400, {"message": problem.message})
            else:
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

    return Handler


@contextmanager
def plc_server() -> Iterator[PlcServer]:
    directory = PlcServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(directory))
    directory.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield directory
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
