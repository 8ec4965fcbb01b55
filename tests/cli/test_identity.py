"""`pds-lite identity`: at the box, and on another computer with nothing but the recovery key."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto import plc
from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.crypto.private_key import format_private_key
from pds_lite.cli.main import main
from tests.plc_server import PlcServer, plc_server

THIEF = K256Key.from_bytes(b"\x07" * 32)
NEW_BOX = K256Key.from_bytes(b"\x08" * 32)


@pytest.fixture
def directory() -> Iterator[PlcServer]:
    with plc_server() as running:
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command; (exit status, answer in JSON or None, text on standard error)."""
    monkeypatch.delenv("PDS_LITE_PLC_URL", raising=False)
    monkeypatch.setenv("PDS_LITE_DATA_DIR", str(tmp_path / "no box here"))

    def command(*words: Any, stdin: str = "") -> tuple[int, Any, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, json.loads(out) if out.startswith(("{", "[")) else None, err + out

    return command


@pytest.fixture
def made(run: Any, tmp_path: Path, directory: PlcServer) -> Any:
    """What init said of a published box in tmp_path / "box"."""
    words = ("--hostname", "localhost:2583", "--dev", "--json", "--plc-url", directory.url)
    status, answer, text = run("init", "--data-dir", tmp_path / "box", *words)
    assert status == 0, text
    return answer


def steal(directory: PlcServer, made: Any, tmp_path: Path, **changes: Any) -> None:
    from pds_lite.services import key_store
    from pds_lite.storage.store import STORE_FOLDER, Store

    store = Store.open_readonly(tmp_path / "box" / STORE_FOLDER)
    with store.read() as txn:
        keys = key_store.load(txn)
    store.close()
    assert keys is not None
    changes = changes or {"rotationKeys": [THIEF.did_key], "alsoKnownAs": ["at://thief.example.com"]}
    operation = plc.sign_op(plc.update(directory.operations[made["did"]], changes), keys.rotation)
    directory.operations[made["did"]] = operation


def test_the_box_shows_its_identity_and_alarms(run: Any, made: Any, directory: PlcServer, tmp_path: Path) -> None:
    at_box = ("--data-dir", tmp_path / "box", "--json")
    _status, shown, _text = run("identity", "show", *at_box)
    assert shown["did"] == made["did"]
    assert shown["log"]["rotation_keys"][1] == shown["rotation_key"]
    assert [entry["kind"] for entry in shown["log"]["operations"]] == ["genesis"]
    assert shown["alarms"] == []

    steal(directory, made, tmp_path)
    _status, shown, _text = run("identity", "show", *at_box)
    assert shown["alarms"][0]["seconds_left"] > 71 * 3600
    status, answer, _text = run("doctor", *at_box)
    assert (status, answer["problems"][0]["code"]) == (1, "plc_alarm")
    assert run("identity", "acknowledge", *at_box)[1] == {"acknowledged": 1}
    assert run("doctor", *at_box)[0] == 0
    _status, _answer, text = run("identity", "--data-dir", tmp_path / "box")
    assert made["did"] in text


def test_the_box_takes_a_new_handle_and_a_new_key(run: Any, made: Any, directory: PlcServer, tmp_path: Path) -> None:
    at_box = ("--data-dir", tmp_path / "box", "--json")
    assert run("identity", "handle", "bob.test", *at_box)[1] == {"handle": "bob.test"}
    _status, answer, _text = run("identity", "rotate-key", *at_box)
    operation = directory.operations[made["did"]]
    assert operation["alsoKnownAs"] == ["at://bob.test"]
    assert operation["verificationMethods"] == {"atproto": answer["signing_key"]}
    status, _answer, text = run("identity", "handle", "bob.local", *at_box)
    assert (status, ".local" in text) == (1, True)
    assert run("repo", "verify", *at_box)[0] == 0


def test_an_identity_that_hangs_on_the_box_alone_gets_a_key_of_its_owners(
    run: Any, made: Any, directory: PlcServer, tmp_path: Path
) -> None:
    """As after a move without --new-recovery-key: the doctor says so, and the command it names mends it."""
    at_box = ("--data-dir", tmp_path / "box", "--json")
    _owners, of_box = directory.operations[made["did"]]["rotationKeys"]
    assert run("doctor", *at_box)[0] == 0
    steal(directory, made, tmp_path, rotationKeys=[of_box])
    run("identity", "show", *at_box)
    run("identity", "acknowledge", *at_box)
    _status, answer, _text = run("doctor", *at_box)
    assert [problem["code"] for problem in answer["problems"]] == ["no_recovery_key"]

    status, answer, text = run("identity", "new-recovery-key", *at_box)

    assert status == 0, text
    assert directory.operations[made["did"]]["rotationKeys"] == [answer["first_rotation_key"], of_box]
    assert run("doctor", *at_box)[0] == 0
    shown = re.search(r"recovery key  (\S+)", text)
    assert shown is not None
    assert shown[1] not in json.dumps(answer)
    words = ("identity", "recover", "--did", made["did"], "--plc-url", directory.url, "--yes", "--json")
    assert run(*words, "--handle", "alice.example.com", stdin=shown[1] + "\n")[0] == 0


def test_an_identity_that_nobody_else_knows_yet_is_shown_as_that(run: Any, made: Any, tmp_path: Path) -> None:
    assert run("init", "--data-dir", tmp_path / "offline", "--hostname", "localhost:2584", "--dev")[0] == 0
    for folder, waits in (("offline", True), ("box", False)):
        assert ("not published yet" in run("identity", "--data-dir", tmp_path / folder)[2]) is waits


def test_no_recovery_key_is_shown_that_would_open_nothing(
    run: Any, made: Any, directory: PlcServer, tmp_path: Path
) -> None:
    words = ("--hostname", "localhost:2584", "--dev", "--json", "--did-method", "web")
    assert run("init", "--data-dir", tmp_path / "web", *words)[0] == 0
    shown = run("identity", "--data-dir", tmp_path / "web")[2]
    assert ("signing key" in shown, "rotation key" in shown, "directory" in shown) == (True, False, False)
    status, _answer, text = run("identity", "new-recovery-key", "--data-dir", tmp_path / "web")
    assert (status, "recovery key" in text, "not a did:plc" in text) == (1, False, True)

    directory.is_down = True
    status, _answer, text = run("identity", "new-recovery-key", "--data-dir", tmp_path / "box")
    assert (status, "recovery key" in text) == (1, False)

    directory.is_down, directory.refuses = False, True
    status, _answer, text = run("identity", "new-recovery-key", "--data-dir", tmp_path / "box")
    assert (status, "NOT added" in text) == (1, True)
    assert len(directory.logs[made["did"]]) == 1


def test_a_theft_is_undone_elsewhere_with_the_recovery_key_alone(
    run: Any, made: Any, directory: PlcServer, tmp_path: Path
) -> None:
    genesis = directory.operations[made["did"]]
    steal(directory, made, tmp_path)
    words = ("identity", "undo", "--did", made["did"], "--plc-url", directory.url)
    key = made["recovery_key"] + "\n"

    status, _answer, text = run(*words, stdin=key + "no\n")
    assert (status, "nothing was changed" in text) == (1, True)
    assert "takes back" in text
    assert "- name at://thief.example.com" in text
    assert len(directory.logs[made["did"]]) == 2

    status, answer, text = run(*words, "--json", stdin=key + "yes\n")

    assert status == 0, text
    restored = directory.operations[made["did"]]
    assert answer["operation"] == str(plc.op_cid(restored))
    for name in ("rotationKeys", "alsoKnownAs", "verificationMethods", "services"):
        assert restored[name] == genesis[name]
    assert made["recovery_key"] not in text


def test_an_identity_is_led_to_another_box(run: Any, made: Any, directory: PlcServer, tmp_path: Path) -> None:
    steal(directory, made, tmp_path)
    old_box = directory.logs[made["did"]][0]["operation"]["rotationKeys"][1]
    words = ("identity", "recover", "--did", made["did"], "--plc-url", directory.url, "--yes", "--json")

    status, answer, text = run(
        *words,
        "--pds",
        "https://new.example.com",
        "--signing-key",
        NEW_BOX.did_key,
        "--rotation-key",
        NEW_BOX.did_key,
        "--drop-key",
        old_box,
        "--handle",
        "alice.example.com",
        stdin=made["recovery_key"] + "\n",
    )

    assert status == 0, text
    now = directory.operations[made["did"]]
    assert now["services"]["atproto_pds"]["endpoint"] == "https://new.example.com"
    assert now["verificationMethods"] == {"atproto": NEW_BOX.did_key}
    assert now["alsoKnownAs"] == ["at://alice.example.com"]
    assert len(now["rotationKeys"]) == 2
    assert now["rotationKeys"][1] == NEW_BOX.did_key
    assert [entry["signer"] for entry in answer["undone"]] == [old_box]


def test_reasons_are_given(run: Any, made: Any, directory: PlcServer, tmp_path: Path) -> None:
    key, owners = made["recovery_key"] + "\n", directory.operations[made["did"]]["rotationKeys"][0]
    words = ("--did", made["did"], "--plc-url", directory.url, "--yes")
    for command, stdin, reason in (
        (("undo",), key, "first operation"),
        (("recover",), key, "nothing to recover from"),
        (("undo",), format_private_key(THIEF) + "\n", "first operation"),
        (("recover", "--handle", "a.example.com"), format_private_key(THIEF) + "\n", "is no rotation key"),
        (("undo",), "not a key\n", "not a private key"),
        (("recover", "--pds", "new.example.com"), key, "origin"),
        (("recover", "--handle", made["handle"]), key, "like that already"),
        (("recover", "--signing-key", NEW_BOX.did_key[:-1]), key, "multikey"),
        (("recover", "--signing-key", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"), key, "multikey"),
        (("recover", "--handle", "alice.local"), key, ".local"),
        (("recover", "--drop-key", owners), key, "the key that you hold"),
        (("recover", "--drop-key", THIEF.did_key), key, "none of the identity's rotation keys"),
    ):
        status, _answer, text = run("identity", *command, *words, stdin=stdin)
        assert (status, reason in text) == (1, True), text
    assert len(directory.logs[made["did"]]) == 1
    directory.age_s = 80 * 3600
    steal(directory, made, tmp_path)
    status, _answer, text = run("identity", "undo", *words, stdin=key)
    assert (status, "72 hours" in text) == (1, True)
    status, _answer, text = run("identity", "undo", stdin=key)
    assert (status, "which identity" in text) == (1, True)


def test_any_identity_can_be_looked_at(run: Any, made: Any, directory: PlcServer) -> None:
    words = ("identity", "show", "--did", made["did"], "--plc-url", directory.url)
    _status, shown, _text = run(*words, "--json")
    assert shown["log"]["operations"][0]["kind"] == "genesis"
    assert made["did"] in run(*words)[2]
    assert run("identity", "show", "--did", "did:web:example.com", "--plc-url", directory.url)[0] == 1
