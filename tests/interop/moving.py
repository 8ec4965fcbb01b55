"""The move of an account from one PDS to another as the standard tools do it, and what it must not lose.

`Host` is any PDS, ours or the reference; `Move` is the sequence of PDS MOOver and goat (browser tools, so everything is
asked with an Origin header), which can be begun again at any step.
"""

from __future__ import annotations

import http.client
import json
import os
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from pds_lite.atproto.car import read_car
from pds_lite.atproto.cid import Cid
from pds_lite.atproto.commit import decode_commit, verify_commit
from pds_lite.atproto.mst.node import decode_node
from pds_lite.atproto.mst.tree import walk

ORIGIN = "https://move.example.com"
RECORDS = int(os.environ.get("PDS_LITE_MOVE_RECORDS", "2000"))
BLOBS = int(os.environ.get("PDS_LITE_MOVE_BLOBS", "100"))
HANDLE = "mover.test"
PASSWORD = "a password worth keeping"
EMAIL = "mover@example.com"


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(f"{status} {error}: {message}")
        self.status = status
        self.error = error


class Host:
    """One PDS and one session with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self,
        verb: str,
        nsid: str,
        body: Any = None,
        headers: Mapping[str, str] = {},
        **params: Any,
    ) -> Any:
        """JSON, or bytes of anything else. Raises Refused."""
        path = f"/xrpc/{nsid}" + (f"?{urlencode(params, doseq=True)}" if params else "")
        sent = {"Origin": ORIGIN, **({"Authorization": f"Bearer {self.token}"} if self.token else {}), **headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        answer, data = self._exchange(verb, path, body, sent)
        assert answer.getheader("Access-Control-Allow-Origin") == "*", f"{nsid}: no browser could read this answer"
        kind = answer.getheader("Content-Type", "")
        content = json.loads(data) if kind.startswith("application/json") else data
        if answer.status != 200:
            raise Refused(answer.status, content["error"], content.get("message", ""))
        self.content_type = kind
        return content

    def get(self, nsid: str, **params: Any) -> Any:
        return self.ask("GET", nsid, **params)

    def post(self, nsid: str, body: Any = None, **headers: str) -> Any:
        return self.ask("POST", nsid, body, headers)

    def upload(self, data: bytes, kind: str) -> Any:
        return self.ask("POST", "com.atproto.repo.uploadBlob", data, {"Content-Type": kind})["blob"]

    def sign_in(self, identifier: str, password: str = PASSWORD) -> str:
        """The DID."""
        self.token = ""
        made = self.post("com.atproto.server.createSession", {"identifier": identifier, "password": password})
        self.token = made["accessJwt"]
        return str(made["did"])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _exchange(self, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        for is_last in (False, True):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
            try:
                self._connection.request(verb, path, body, dict(headers))
                answer = self._connection.getresponse()
                return answer, answer.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                self._connection.close()
                self._connection = None
                if is_last:
                    raise
        raise AssertionError


def fill(host: Host, records: int = RECORDS, blobs: int = BLOBS) -> str:
    """Makes the account at `host` with a life of its own behind it; its DID."""
    made = host.post("com.atproto.server.createAccount", {"handle": HANDLE, "email": EMAIL, "password": PASSWORD})
    host.token, did = made["accessJwt"], str(made["did"])
    source = random.Random(records)
    pictures = [
        host.upload(b"\x89PNG\r\n\x1a\n" + source.randbytes(source.randrange(100, 60_000)), "image/png")
        for _ in range(blobs)
    ]
    writes = [_write(source, number, did, pictures) for number in range(records)]
    for start in range(0, len(writes), 200):
        host.post("com.atproto.repo.applyWrites", {"repo": did, "writes": writes[start : start + 200]})
    preferences = [
        {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": False},
        {
            "$type": "app.bsky.actor.defs#savedFeedsPref",
            "pinned": ["at://did:plc:a/app.bsky.feed.generator/x"],
            "saved": [],
        },
    ]
    host.post("app.bsky.actor.putPreferences", {"preferences": preferences})
    return did


def _write(source: random.Random, number: int, did: str, pictures: list[Any]) -> Any:
    created = f"2024-01-01T00:{number // 60 % 60:02}:{number % 60:02}.000Z"
    if number % 5 == 3:
        subject = f"did:plc:{''.join(source.choices('abcdefghijklmnopqrstuvwxyz234567', k=24))}"
        value = {"$type": "app.bsky.graph.follow", "subject": subject, "createdAt": created}
    elif number % 5 == 4:
        value = {"$type": "com.example.thing", "n": number, "nested": {"list": [1, None, True, {"a": "ü"}]}}
    else:
        value = {
            "$type": "app.bsky.feed.post",
            "text": f"post {number} \N{SNOWMAN}",
            "createdAt": created,
            "langs": ["de"],
        }
        if number < len(pictures) * 2:
            images = [{"alt": "", "image": pictures[number // 2]}]
            value["embed"] = {"$type": "app.bsky.embed.images", "images": images}
    if number == 4:
        value["pictures"] = pictures
    return {"$type": "com.atproto.repo.applyWrites#create", "collection": value["$type"], "value": value}


class Move:
    """From `old`, where the account is active, to `new`, which is empty. Each step may be done again."""

    def __init__(
        self, old: Host, new: Host, handle: str, read_code: Callable[[str], str], invite: str | None = None
    ) -> None:
        self.old, self.new, self.handle, self.invite = old, new, handle, invite
        self.read_code = read_code
        """From a DID to the code that the old host mailed."""
        self.did = ""
        self.blobs_before_failing: int | None = None

    STEPS = (
        "sign in",
        "create account",
        "import",
        "blobs",
        "missing blobs",
        "preferences",
        "identity",
        "activate",
        "deactivate",
    )

    def run(self, up_to: str = STEPS[-1]) -> None:
        """The steps in order, from the first to `up_to`."""
        for step in self.STEPS[: self.STEPS.index(up_to) + 1]:
            getattr(self, "_" + step.replace(" ", "_"))()

    def _sign_in(self) -> None:
        self.did = self.old.sign_in(self.handle)

    def _create_account(self) -> None:
        new_did = self.new.get("com.atproto.server.describeServer")["did"]
        self.new.token = ""
        try:
            self.new.get("com.atproto.sync.getRepoStatus", did=self.did)
        except Refused:
            params = {"aud": new_did, "lxm": "com.atproto.server.createAccount"}
            proof = self.old.get("com.atproto.server.getServiceAuth", **params)["token"]
            wanted = {"did": self.did, "handle": self.handle, "email": EMAIL, "password": PASSWORD}
            if self.invite is not None:
                wanted["inviteCode"] = self.invite
            self.new.post("com.atproto.server.createAccount", wanted, Authorization=f"Bearer {proof}")
        assert self.new.sign_in(self.did) == self.did

    def _import(self) -> None:
        if self._status()["activated"]:
            return
        car = self.old.get("com.atproto.sync.getRepo", did=self.did)
        self.new.ask("POST", "com.atproto.repo.importRepo", car, {"Content-Type": "application/vnd.ipld.car"})
        old, new = self.old.get("com.atproto.server.checkAccountStatus"), self._status()
        for name in ("repoCommit", "indexedRecords", "repoBlocks", "expectedBlobs"):
            assert old[name] == new[name], name

    def _status(self) -> Any:
        status = self.new.get("com.atproto.server.checkAccountStatus")
        assert status["importedBlobs"] <= status["expectedBlobs"]
        return status

    def _blobs(self) -> None:
        cursor, left = None, self.blobs_before_failing
        while True:
            page = self.old.get(
                "com.atproto.sync.listBlobs", did=self.did, limit=100, **({"cursor": cursor} if cursor else {})
            )
            for cid in page["cids"]:
                if left is not None:
                    left -= 1
                    if left < 0:
                        return
                self._copy(cid)
            cursor = page.get("cursor")
            if not cursor or not page["cids"]:
                return

    def _copy(self, cid: str) -> None:
        data = self.old.get("com.atproto.sync.getBlob", did=self.did, cid=cid)
        assert self.new.upload(data, self.old.content_type)["ref"]["$link"] == cid

    def _missing_blobs(self) -> None:
        while missing := self.new.get("com.atproto.repo.listMissingBlobs", limit=50)["blobs"]:
            for blob in missing:
                self._copy(blob["cid"])
        status = self._status()
        assert status["importedBlobs"] == status["expectedBlobs"]

    def _preferences(self) -> None:
        preferences = self.old.get("app.bsky.actor.getPreferences")
        self.new.post("app.bsky.actor.putPreferences", preferences)

    def _identity(self) -> None:
        if self._status()["validDid"]:
            return
        self.old.post("com.atproto.identity.requestPlcOperationSignature")
        wanted = self.new.get("com.atproto.identity.getRecommendedDidCredentials")
        signed = self.old.post("com.atproto.identity.signPlcOperation", {"token": self.read_code(self.did), **wanted})
        self.new.post("com.atproto.identity.submitPlcOperation", signed)
        assert self._status()["validDid"]

    def _activate(self) -> None:
        self.new.post("com.atproto.server.activateAccount")

    def _deactivate(self) -> None:
        self.old.post("com.atproto.server.deactivateAccount", {})


def contents(host: Host, did: str) -> tuple[dict[bytes, tuple[Cid, bytes]], dict[str, bytes], Any]:
    """(records by path, blobs by CID, preferences); `host` is signed in, the account may be inactive."""
    root, blocks = read_car(host.get("com.atproto.sync.getRepo", did=did))
    commit = decode_commit(blocks[root])
    tree = decode_node(blocks[commit.data], cid=commit.data)

    def load(stub: Any) -> Any:
        return decode_node(blocks[stub.cid], stub.layer, stub.low, stub.high, stub.cid)

    records = {path: (cid, blocks[cid]) for path, cid in walk(tree, load)}
    blobs: dict[str, bytes] = {}
    cursor: dict[str, str] = {}
    while True:
        page = host.get("com.atproto.sync.listBlobs", did=did, limit=500, **cursor)
        for cid in page["cids"]:
            blobs[cid] = host.get("com.atproto.sync.getBlob", did=did, cid=cid)
            assert str(Cid.of_raw(blobs[cid])) == cid
        if not page.get("cursor") or not page["cids"]:
            break
        cursor = {"cursor": page["cursor"]}
    return records, blobs, host.get("app.bsky.actor.getPreferences")["preferences"]


def verify_head(host: Host, did: str, did_key: str) -> str:
    """The rev of the head, which `did_key` has signed."""
    root, blocks = read_car(host.get("com.atproto.sync.getRepo", did=did))
    commit = decode_commit(blocks[root])
    verify_commit(commit, did_key)
    return commit.rev
