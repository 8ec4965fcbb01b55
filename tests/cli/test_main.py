"""The command line: its contract, with and without a daemon, and what it says when something is wrong."""

import errno
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pds_lite.atproto.crypto import K256Key
from pds_lite.atproto.multibase import decode_multibase
from pds_lite.box import setup
from pds_lite.cli.main import COMMANDS, main
from tests.live_box import PASSWORD, live_box
from tests.plc_server import plc_server
from tests.served_box import CHECKOUT, environment


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command with --json; (exit status, parsed answer or error text)."""
    monkeypatch.delenv("PDS_LITE_DATA_DIR", raising=False)

    def command(*words: Any) -> tuple[int, Any]:
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, json.loads(out) if out.startswith(("{", "[")) else err or out

    return command


def init(run: Any, folder: Path, *more: Any) -> Any:
    status, answer = run("init", "--data-dir", folder, "--hostname", "localhost:2583", "--dev", "--json", *more)
    assert status == 0, answer
    return answer


def test_init_shows_once_what_is_kept_nowhere(run: Any, tmp_path: Path) -> None:
    answer = init(run, tmp_path / "box")

    assert answer["did"].startswith("did:plc:")
    assert answer["handle"] == "me.test"
    secret = decode_multibase(answer["recovery_key"])
    assert secret[:2] == b"\x81\x26"
    stored = b"".join(path.read_bytes() for path in (tmp_path / "box").rglob("*") if path.is_file())
    assert secret[2:] not in stored
    assert answer["password"].encode() not in stored
    assert K256Key.from_bytes(secret[2:]).did_key.encode() in stored, "its public half leads the rotation keys"


def test_the_data_directory_is_private(run: Any, tmp_path: Path) -> None:
    init(run, tmp_path / "box")

    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700
    files = [path for path in (tmp_path / "box").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_init_publishes_before_it_returns(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO(PASSWORD + "\n"))
    with plc_server() as directory:
        answer = init(run, tmp_path / "box", "--plc-url", directory.url, "--password-stdin", "--handle", "a.test")

        assert list(directory.operations) == [answer["did"]]
        assert answer["password"] is None
        directory.refuses = True
        status, text = run(
            "init", "--data-dir", tmp_path / "b", "--hostname", "localhost:1", "--dev", "--plc-url", directory.url
        )
        assert status == 1
        assert "refused for the test" in text
        directory.refuses = False
        init(run, tmp_path / "b", "--plc-url", directory.url)


def test_an_empty_box_prints_a_claim_code(run: Any, tmp_path: Path) -> None:
    answer = init(run, tmp_path / "box", "--empty")

    assert answer["did"] is None
    assert len(answer["claim_code"]) == 11
    assert answer["claim_code"][5] == "-"
    status, renewed = run("account", "claim-code", "--json", "--data-dir", tmp_path / "box")
    assert status == 0
    assert renewed["claim_code"] != answer["claim_code"]
    assert init(run, tmp_path / "other", "--empty", "--no-claim-code")["claim_code"] is None


def test_mistakes_are_answered_with_what_mends_them(run: Any, tmp_path: Path) -> None:
    assert "pds-lite init" in run("status", "--data-dir", tmp_path / "none")[1]
    init(run, tmp_path / "box")
    again = run("init", "--data-dir", tmp_path / "box", "--hostname", "localhost:1", "--dev")
    assert again[0] == 1
    assert "prepared already" in again[1]
    assert run("init", "--data-dir", tmp_path / "b", "--hostname", "192.0.2.1")[0] == 1
    assert (
        run("init", "--data-dir", tmp_path / "b", "--hostname", "pds.example.com", "--empty", "--no-claim-code")[0] == 1
    )
    assert not (tmp_path / "b" / "pds-lite.toml").exists()
    status, text = run("account", "app-passwords", "revoke", "nothing", "--data-dir", tmp_path / "box")
    assert (status, "no app password" in text) == (1, True)
    status, text = run("repo", "import", tmp_path / "missing.car", "--data-dir", tmp_path / "box")
    assert (status, "missing.car" in text) == (1, True)


def test_the_next_step_of_an_installed_box_is_its_service(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("init", "--hostname", "localhost:2583", "--dev", "--empty", "--data-dir")
    monkeypatch.setattr("pds_lite.cli.init.SERVICE_DATA_DIR", tmp_path / "box")
    monkeypatch.setattr("pds_lite.cli.init.SERVICE_UNIT", tmp_path / "pds-lite.service")
    (tmp_path / "pds-lite.service").touch()

    assert "Next: sudo systemctl restart pds-lite" in run(*words, tmp_path / "box")[1]
    assert f"Next: pds-lite serve --data-dir {tmp_path / 'mine'}" in run(*words, tmp_path / "mine")[1]


def test_a_repository_goes_out_and_in_by_pipes(run: Any, tmp_path: Path) -> None:
    """The only way for a box whose commands run as the service's user, who cannot read the owner's files."""
    box = tmp_path / "box"
    init(run, box)
    command = [sys.executable, "-m", "pds_lite", "repo"]

    exported = subprocess.run([*command, "export", "-", "--data-dir", box], capture_output=True, check=True).stdout
    run("account", "deactivate", "--data-dir", box)
    words = [*command, "import", "-", "--data-dir", box, "--json"]
    done = subprocess.run(words, input=exported, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] == run("repo", "verify", "--data-dir", box, "--json")[1]["commit"]


@pytest.mark.parametrize(("action", "pipe"), [("export", "export - >"), ("import", "import - <")])
def test_a_file_that_is_not_ours_to_touch_is_named_with_the_way_round(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, pipe: str
) -> None:
    init(run, tmp_path / "box")

    def refuse(*_words: Any, **_named: Any) -> Any:
        raise PermissionError(13, "Permission denied")  # root, who may run these tests, is refused nothing

    for name in (tmp_path / "my.car", Path("my.car")):
        for refused in ("open", "exists" if action == "export" else "open"):  # the file, or the folder that it is in
            with monkeypatch.context() as patch:
                patch.setattr(Path, refused, refuse)
                status, text = run("repo", action, name, "--data-dir", tmp_path / "box")

            assert status == 1
            assert f" {name}\n" in text
            assert f"try: pds-lite repo --data-dir {tmp_path / 'box'} {pipe} {name}" in text


def test_an_export_into_a_pipe_leaves_the_pipe_there(run: Any, tmp_path: Path) -> None:
    """The neighbour-and-rename of an ordinary file would replace it, as root /dev/full itself."""
    init(run, tmp_path / "box")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        status, answer = run("repo", "export", pipe, "--data-dir", tmp_path / "box", "--json")
        assert (status, answer) == (0, {"bytes": len(reader.communicate()[0])})
    assert pipe.is_fifo()
    assert run("repo", "export", "/dev/full", "--data-dir", tmp_path / "box")[0] == 1
    assert Path("/dev/full").is_char_device()
    status, text = run("repo", "export", tmp_path / "none" / "my.car", "--data-dir", tmp_path / "box")
    assert (status, text) == (
        1,
        f"pds-lite: there is no folder {tmp_path / 'none'}\n  try: mkdir -p {tmp_path / 'none'}\n",
    )


def test_advice_names_the_program_as_it_was_called_and_the_box_it_is_about(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone there is no `pds-lite` on the path, and without --data-dir another box would be meant."""
    monkeypatch.setattr("sys.argv", [".venv/bin/pds-lite"])
    monkeypatch.setenv("PATH", str(tmp_path))
    elsewhere = tmp_path / "my box"
    assert f"try: .venv/bin/pds-lite init --data-dir '{elsewhere}'" in run("status", "--data-dir", elsewhere)[1]
    monkeypatch.setenv("PDS_LITE_DATA_DIR", str(elsewhere))
    assert "try: .venv/bin/pds-lite init --hostname" in run("status")[1]
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/pds-lite"])
    (tmp_path / "pds-lite").touch(mode=0o755)
    assert "try: pds-lite init --hostname" in run("status")[1]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "sudo -u {owner} pds-lite status --data-dir {box}"),
        (errno.EROFS, "Mount it for writing."),
        (errno.ENOSPC, "Make room on the disk"),
    ],
)
def test_a_store_that_may_not_be_opened_is_said_with_the_remedy(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    box = tmp_path / "box"
    init(run, box)
    owner = pwd.getpwuid(os.geteuid()).pw_name

    def refuse(folder: Path) -> int:
        raise OSError(number, os.strerror(number), str(folder / "store.lock"))

    monkeypatch.setattr("pds_lite.storage.store.take_lock", refuse)
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    status, text = run("status", "--data-dir", box)
    assert status == 1
    assert "try: " + told.format(owner=owner, box=box) in text


def test_an_empty_line_is_no_password(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(run, tmp_path / "box")
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("\n"))
    status, text = run("account", "password", "--password-stdin", "--data-dir", tmp_path / "box")
    assert (status, "is empty" in text) == (1, True)


def test_doctor_names_what_is_wrong_with_a_store(run: Any, tmp_path: Path) -> None:
    init(run, tmp_path / "box")
    assert run("doctor", "--store", "--data-dir", tmp_path / "box", "--json")[0] == 0
    (tmp_path / "box" / "store" / "data.mdb").write_bytes(b"not a store" * 1000)

    status, answer = run("doctor", "--store", "--data-dir", tmp_path / "box", "--json")

    assert status == 1
    assert answer["problems"][0]["text"]
    assert run("doctor", "--store", "--data-dir", tmp_path / "none", "--json")[0] == 1


def test_every_command_answers_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "--json" in capsys.readouterr().out
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("pds-lite ")
    assert main([]) == 2


@pytest.mark.parametrize("running", [True, False], ids=["daemon", "alone"])
def test_every_command_does_the_same_with_and_without_a_daemon(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    folder = tmp_path / ("a-deep-folder-name-" * 4) / "box"
    folder.parent.mkdir()
    with live_box(folder) as box:
        record = {"repo": box.did, "collection": "com.example.thing", "record": {"$type": "com.example.thing"}}
        token = box.token()
        assert box.post("com.atproto.repo.createRecord", record, token).status == 200
        if running:
            _all_commands(run, folder, box.did, monkeypatch)
            assert box.get("com.atproto.server.getSession", token).error == (400, "ExpiredToken")
            assert box.log_in("a new password")["did"] == box.did
        did = box.did
    if not running:
        _all_commands(run, folder, did, monkeypatch)


def _all_commands(run: Any, folder: Path, did: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ("--json", "--data-dir", folder)
    status = run("status", *here)[1]
    assert (status["did"], status["records"], status["account"]) == (did, 1, "active")
    assert status["board"]["id"]
    assert run("account", *here)[1]["did"] == did
    assert run("account", "show", *here)[1]["published"] is False
    assert run("account", "codes", *here)[1] == {"codes": []}
    assert run("account", "app-passwords", "create", "phone", *here)[1]["password"].count("-") == 3
    assert run("account", "app-passwords", *here)[1]["app_passwords"][0]["name"] == "phone"
    assert run("account", "app-passwords", "revoke", "phone", *here)[0] == 0
    assert run("account", "deactivate", *here)[1] == {"status": "deactivated"}
    assert run("account", "activate", *here)[1] == {"status": "active"}
    assert run("account", "publish", *here)[0] == 1
    assert run("repo", "verify", *here)[1]["records"] == 1
    exported = run("repo", "export", folder / "out.car", *here)[1]
    assert (folder / "out.car").stat().st_size == exported["bytes"]
    assert run("repo", "import", folder / "out.car", *here)[1]["records"] == 1
    (folder / "cut.car").write_bytes((folder / "out.car").read_bytes()[:-10])
    assert run("repo", "import", folder / "cut.car", *here)[0] == 1
    assert run("repo", "verify", *here)[1]["records"] == 1
    assert run("doctor", *here) == (0, {"ok": True, "problems": []})
    # As a process of its own, which it is in life: LMDB opens a store once in each.
    words = [sys.executable, "-m", "pds_lite", "doctor", "--store", "--data-dir", str(folder)]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"the store is clean\n"
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("a new password\n"))
    assert run("account", "password", "--password-stdin", *here)[1] == {"password": None}


def test_version_names_every_dependency(run: Any) -> None:
    declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[<>=; ]", text)[0] for text in declared]
    status, answer = run("version", "--json")
    assert status == 0
    assert list(answer["libraries"]) == names


@pytest.mark.parametrize("words", [["init", "--hostname", "localhost:2583", "--dev"], ["serve", "--no-mdns"]])
def test_no_power_cut_leaves_an_account_whose_recovery_key_nobody_has_seen(tmp_path: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "pds_lite", words[0], "--data-dir", str(tmp_path / "box"), *words[1:]]
    output = tmp_path / "output"
    with output.open("w") as file:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        settings = environment({"PDS_LITE_FAILPOINT": "account.stored", "PDS_LITE_PORT": port})
        killed = subprocess.run(
            command, cwd=CHECKOUT, env=settings, stdout=file, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    shown = re.search(r"recovery key +(z\w+)", output.read_text())
    assert shown is not None
    secret = decode_multibase(shown[1])[2:]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "box").rglob("*") if path.is_file())
    assert K256Key.from_bytes(secret).did_key.encode() in stored


def test_where_nothing_can_be_shown_nothing_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    command = [sys.executable, "-m", "pds_lite", "init", "--data-dir", str(folder), "--hostname", "localhost:2583"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--dev"], cwd=CHECKOUT, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert not setup.is_prepared(folder)
    assert main([*command[3:], "--dev", "--json"]) == 0, "and it can be done again"


def test_output_that_nobody_takes_is_a_failure_in_our_own_words() -> None:
    command = [sys.executable, "-m", "pds_lite", "version"]
    reader, pipe = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, os.fdopen(pipe, "w") as broken:
        for output, complaint in (
            (full, b"pds-lite: No space left on device\n  try: Make room on the disk.\n"),
            (broken, b""),
        ):
            done = subprocess.run(
                command, cwd=CHECKOUT, env=environment(), stdout=output, stderr=subprocess.PIPE, check=False
            )
            assert (done.returncode, done.stderr) == (1, complaint)


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["nonsense"],
        ["serve", "--port", "many"],
        ["doctor", "--nonsense"],
    ],
)
def test_a_command_line_that_is_not_understood_is_status_2_and_a_failure_status_1(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*words, "--data-dir", str(tmp_path / "none")])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert main(["status", "--data-dir", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err
    assert not (tmp_path / "none").exists()
