"""An account with a did:web moves in: its owner is told what the document must say, and nothing is done before it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import service_auth
from pds_lite.atproto.crypto import K256Key
from pds_lite.box import setup
from tests.live_box import PASSWORD, LiveBox, live_box

HANDLE = "mover.test"
KEY = K256Key.from_bytes(b"\x77" * 32)
THING = "com.example.thing"


@dataclass
class Website:
    """Where a did:web lives: its owner's, and nobody else's to change."""

    did: str
    document: dict[str, Any] = field(default_factory=dict)

    def names(self, key: str, pds: str) -> None:
        multibase = key.removeprefix("did:key:")
        method = {"id": f"{self.did}#atproto", "type": "Multikey", "controller": self.did}
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}
        self.document = {
            "id": self.did,
            "alsoKnownAs": [f"at://{HANDLE}"],
            "verificationMethod": [{**method, "publicKeyMultibase": multibase}],
            "service": [service],
        }


@contextmanager
def website() -> Iterator[Website]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(site.document).encode()
            self.send_response(200 if self.path == "/.well-known/did.json" else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Website(f"did:web:localhost%3A{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class World:
    site: Website
    old: LiveBox
    new: LiveBox
    said: list[str]

    def migrate(self, **wanted: Any) -> Any:
        assert self.new.app is not None
        migration = self.new.app.services.migration()
        if "password" in wanted:
            wanted = {"from": self.old.url, "account": self.site.did, **wanted}
            return self.new.run(migration.begin(wanted, self.said.append))
        return self.new.run(migration.go_on(wanted, self.said.append))

    def is_active(self, box: LiveBox) -> bool:
        return bool(box.get("com.atproto.sync.getRepoStatus", did=self.site.did).json["active"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = {"account": False, "rate_limits": False, "did_cache_s": 0}
    with (
        website() as site,
        live_box(tmp_path / "old", **settings) as old,
        live_box(tmp_path / "new", **settings) as new,
    ):
        for box in (old, new):
            assert box.app is not None
            box.run(setup.wait_for_claim(box.app.services, with_code=False))
        _live_at(site, old)
        yield World(site, old, new, [])


def _live_at(site: Website, old: LiveBox) -> None:
    """Makes the account at the old host, as whoever holds the domain would, with two records and a blob."""
    site.names(KEY.did_key, old.url)
    now = int(time.time())
    audience = old.get("com.atproto.server.describeServer").json["did"]
    proof = service_auth.mint(KEY, site.did, audience, "com.atproto.server.createAccount", now, now + 60, "x")
    wanted = {"did": site.did, "handle": HANDLE, "email": "m@example.com", "password": PASSWORD}
    made = old.server("createAccount", wanted, proof)
    assert made.status == 200, made.body
    token = made.json["accessJwt"]
    recommended = old.get("com.atproto.identity.getRecommendedDidCredentials", token).json
    site.names(recommended["verificationMethods"]["atproto"], old.url)
    assert old.server("activateAccount", None, token).status == 200
    blob = old.post("com.atproto.repo.uploadBlob", b"\x89PNG\r\n\x1a\n picture", token).json["blob"]
    for record in ({"$type": THING, "picture": blob}, {"$type": THING, "n": 1}):
        body = {"repo": site.did, "collection": THING, "record": record}
        assert old.post("com.atproto.repo.createRecord", body, token).status == 200


def test_the_owner_changes_the_document_and_the_move_goes_on(world: World) -> None:
    answer = world.migrate(password=PASSWORD)
    assert (answer["state"], answer["needs"], answer["step"]) == ("needs", "document", "identity")
    assert any(line.startswith("WARN identity") for line in world.said)
    assert world.new.app is not None
    own_key = world.new.app.services.keys.signing.did_key
    multibase = own_key.removeprefix("did:key:")
    for words in (
        f'"publicKeyMultibase":"{multibase}"',
        f'"serviceEndpoint":"{world.new.url}"',
        f'"at://{HANDLE}"',
        "/.well-known/did.json",
    ):
        assert words in answer["text"]

    assert world.migrate()["needs"] == "document"
    world.site.names(own_key, world.old.url)  # half of it
    assert world.migrate()["needs"] == "document"
    assert (world.is_active(world.old), world.is_active(world.new)) == (True, False)

    world.site.names(own_key, world.new.url)
    answer = world.migrate()
    assert (answer["state"], answer["missing_blobs"]) == ("done", [])
    assert (world.is_active(world.old), world.is_active(world.new)) == (False, True)
    records = {"repo": world.site.did, "collection": THING}
    assert len(world.new.get("com.atproto.repo.listRecords", **records).json["records"]) == 2


def test_a_move_is_not_taken_back_once_the_document_leads_here(world: World) -> None:
    world.migrate(password=PASSWORD)
    assert world.new.app is not None
    services = world.new.app.services
    world.site.names(services.keys.signing.did_key, world.new.url)
    with pytest.raises(Exception, match="leads here already"):
        world.new.run(services.migration().abandon())
    assert world.migrate()["state"] == "done"
