"""Writers that know exactly what they were told: each has records of its own and at most one request under way.

When the server dies, a writer's records must be what was acknowledged, or that with the whole of the one request that
nobody answered. Anything else is a lost, a half or an invented write.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from hashlib import sha256
from http.client import HTTPException
from typing import Any

from pds_lite.atproto import dag_cbor, data
from pds_lite.atproto.cid import Cid
from tests.live_box import Answer
from tests.served_box import Client, ServedBox

REPO = "com.atproto.repo."
SERVER = "com.atproto.server."
KEYS = 60
"""Record keys of one writer: few, so that updates and deletes find something."""

State = dict[str, Cid]
REFUSALS = {"AccountDeactivated", "ImportInProgress"}


class Died(Exception):
    """The server went away before it answered."""


class Writer:
    """Records of its own collection; `pending` is what the unanswered request would change (None: deleted)."""

    def __init__(self, number: int, did: str, chance: random.Random) -> None:
        self.collection = f"com.example.writer{number}"
        self.chance = chance
        self.did = did
        self.state: State = {}
        self.pending: dict[str, Cid | None] = {}
        self.acknowledged = 0
        self.client: Client | None = None

    def step(self) -> None:
        """One request. Raises Died."""
        choice = self.chance.random()
        key = f"key-{self.chance.randrange(KEYS)}"
        path = f"{self.collection}/{key}"
        if choice < 0.25 and path not in self.state:
            record, cid = self._record()
            self._write("createRecord", {"rkey": key, "record": record}, {path: cid})
        elif choice < 0.55:
            record, cid = self._record()
            self._write("putRecord", {"rkey": key, "record": record}, {path: cid})
        elif choice < 0.75:
            self._write("deleteRecord", {"rkey": key}, {path: None})
        else:
            self._batch()

    def _batch(self) -> None:
        changes: dict[str, Cid | None] = {}
        writes = []
        for number in self.chance.sample(range(KEYS), self.chance.choice((2, 5, 20))):
            key, path = f"key-{number}", f"{self.collection}/key-{number}"
            record, cid = self._record()
            if path not in self.state:
                kind, changes[path] = "create", cid
            elif self.chance.random() < 0.5:
                kind, changes[path] = "update", cid
            else:
                kind, changes[path] = "delete", None
            value = {} if kind == "delete" else {"value": record}
            writes.append({"$type": f"{REPO}applyWrites#{kind}", "collection": self.collection, "rkey": key, **value})
        self._write("applyWrites", {"writes": writes}, changes)

    def _record(self, **more: Any) -> tuple[dict[str, Any], Cid]:
        text = self.chance.randbytes(self.chance.choice((10, 100, 1500))).hex()
        record = {"$type": self.collection, "text": text, **more}
        return record, Cid.of_cbor(dag_cbor.encode(data.from_json(json.loads(json.dumps(record)))))

    def _write(self, method: str, body: Mapping[str, Any], changes: dict[str, Cid | None]) -> None:
        collection = {} if method == "applyWrites" else {"collection": self.collection}
        self.pending = changes
        answer = self.ask("POST", REPO + method, {"repo": self.did, **collection, **body})
        if answer.status == 200:
            told = [answer.json, *answer.json.get("results", ())]
            expected = {str(cid) for cid in changes.values() if cid is not None}
            assert {each["cid"] for each in told if "cid" in each} == expected
            self.apply()
        else:
            assert answer.json["error"] in REFUSALS, answer.body
            self.pending = {}

    def ask(self, verb: str, nsid: str, body: Any = None) -> Answer:
        assert self.client is not None
        try:
            answer = self.client.post(nsid, body) if verb == "POST" else self.client.get(nsid)
        except (OSError, HTTPException):
            raise Died from None
        self.acknowledged += answer.status == 200
        return answer

    def apply(self) -> None:
        """The request under way has happened."""
        for path, cid in self.pending.items():
            if cid is None:
                self.state.pop(path, None)
            else:
                self.state[path] = cid
        self.pending = {}

    def reconcile(self, box: ServedBox, token: str, stored: Mapping[str, Cid]) -> None:
        """Compares with what a restart found. Fails if an acknowledged write is not there, or one is there in part."""
        mine = {path: cid for path, cid in stored.items() if path.startswith(f"{self.collection}/")}
        if mine != self.state:
            before = dict(self.state)
            self.apply()
            assert mine == self.state, f"{self.collection}: {before} were acknowledged"
        self.pending = {}


class BlobWriter(Writer):
    """Uploads, and records that name them. `contents` are the acknowledged uploads."""

    def __init__(self, number: int, did: str, chance: random.Random) -> None:
        super().__init__(number, did, chance)
        self.contents: dict[str, bytes] = {}
        self.named: dict[Cid, str] = {}

    def step(self) -> None:
        if self.state and self.chance.random() < 0.3:
            path = self.chance.choice(sorted(self.state))
            self._write("deleteRecord", {"rkey": path.partition("/")[2]}, {path: None})
            return
        content = self.chance.randbytes(self.chance.choice((100, 5000, 100_000, 1_200_000)))
        answer = self.ask("POST", REPO + "uploadBlob", content)
        assert answer.status == 200, answer.body
        blob = answer.json["blob"]
        assert blob["ref"]["$link"] == str(Cid.of_raw_digest(sha256(content).digest()))
        self.contents[blob["ref"]["$link"]] = content
        self.name(blob)

    def name(self, blob: dict[str, Any]) -> None:
        """A record that refers to an uploaded blob."""
        record, cid = self._record(file=blob)
        self.named[cid] = blob["ref"]["$link"]
        key = f"key-{self.chance.randrange(KEYS)}"
        self._write("putRecord", {"rkey": key, "record": record}, {f"{self.collection}/{key}": cid})

    def reconcile(self, box: ServedBox, token: str, stored: Mapping[str, Cid]) -> None:
        super().reconcile(box, token, stored)
        kept = {self.named[cid] for cid in self.state.values()}
        client = box.client()
        for cid in sorted(kept):
            answer = client.get("com.atproto.sync.getBlob", did=self.did, cid=cid)
            assert (answer.status, answer.body) == (200, self.contents[cid]), f"blob {cid}"
        self.contents = {cid: content for cid, content in self.contents.items() if cid in kept}


class AccountWriter(Writer):
    """App passwords, and an account that is closed and opened again."""

    def __init__(self, number: int, did: str, chance: random.Random) -> None:
        super().__init__(number, did, chance)
        self.passwords: dict[str, str] = {}
        self.open_names: set[str] = set()
        self.count = 0

    def step(self) -> None:
        choice = self.chance.random()
        if choice < 0.5:
            self.count += 1
            name = f"app {self.count}"
            self.open_names.add(name)
            answer = self.ask("POST", SERVER + "createAppPassword", {"name": name})
            assert answer.status == 200, answer.body
            self.passwords[name] = answer.json["password"]
            self.open_names.discard(name)
        elif choice < 0.7 and self.passwords:
            name = self.chance.choice(sorted(self.passwords))
            self.open_names.add(name)
            password = self.passwords.pop(name)
            assert self.ask("POST", SERVER + "revokeAppPassword", {"name": name}).status == 200, password
            self.open_names.discard(name)
        else:
            assert self.ask("POST", SERVER + "deactivateAccount", {}).status == 200
            assert self.ask("POST", SERVER + "activateAccount").status == 200
        time.sleep(self.chance.random() * 0.1)

    def reconcile(self, box: ServedBox, token: str, stored: Mapping[str, Cid]) -> None:
        """The acknowledged passwords are there, and nothing but what was asked for; one of them opens a session."""
        client = box.client(token)
        listed = client.get(SERVER + "listAppPasswords")
        assert listed.status == 200, listed.body
        names = {row["name"] for row in listed.json["passwords"]}
        assert set(self.passwords) <= names <= set(self.passwords) | self.open_names
        if self.passwords:
            name = self.chance.choice(sorted(self.passwords))
            body = {"identifier": self.did, "password": self.passwords[name]}
            assert box.client().post(SERVER + "createSession", body).status == 200
        if len(names) > 20:
            self.passwords = {}
        self.open_names = names - set(self.passwords)
        for name in sorted(self.open_names):
            assert client.post(SERVER + "revokeAppPassword", {"name": name}).status == 200
        self.open_names = set()


class Workload:
    """All writers at once, until the server dies."""

    def __init__(self, box: ServedBox, chance: random.Random) -> None:
        kinds: tuple[type[Writer], ...] = (Writer, Writer, Writer, BlobWriter, AccountWriter)
        self.writers = [kind(number, box.did, random.Random(chance.random())) for number, kind in enumerate(kinds)]
        self.problems: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, box: ServedBox, token: str) -> None:
        for writer in self.writers:
            writer.client = box.client(token)
        self._threads = [threading.Thread(target=self._run, args=(writer,)) for writer in self.writers]
        for thread in self._threads:
            thread.start()

    def _run(self, writer: Writer) -> None:
        try:
            while True:
                writer.step()
        except Died:
            return
        except BaseException as problem:  # noqa: BLE001 - raised in join
            self.problems.append(problem)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        if self.problems:
            raise self.problems[0]

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    def reconcile(self, box: ServedBox, token: str, stored: Mapping[str, Cid]) -> None:
        for writer in self.writers:
            writer.reconcile(box, token, stored)
