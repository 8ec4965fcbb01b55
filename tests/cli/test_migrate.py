"""`pds-lite migrate` says what it lacks, and `repo diff` needs no box."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.served_box import COMMAND, environment
from tests.services.migration.scripted_host import error, scripted_host
from tests.services.test_repo_import import make_car

THING = "com.example.thing"


def run(*words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], input=lines, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def empty_box(tmp_path: Path) -> str:
    folder = str(tmp_path / "box")
    made = run("init", "--data-dir", folder, "--hostname", "localhost:9", "--dev", "--empty")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "no account is being moved here"),
        (("--status",), "no account is being moved here"),
        (("--abandon",), "no account is being moved here"),
        (("--car", "/dev/null"), "--car goes with --did and --recovery-key-stdin"),
        (("--from", "not a handle"), "not a handle"),
        (("--from", "http://localhost:9"), "whose account"),
        (("--from", "http://localhost:9", "--account", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"), "cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(empty_box: str, words: tuple[str, ...], reason: str) -> None:
    done = subprocess.run(
        [*COMMAND, "migrate", "--data-dir", empty_box, *words],
        env=environment({"PDS_LITE_PLC_URL": "http://localhost:9/plc"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_repo_diff_compares_two_files(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.car", "same.car", "other.car"))
    values = {f"{THING}/k{i}": {"i": i} for i in range(100)}
    one.write_bytes(make_car(values, shuffle=1))
    same.write_bytes(make_car(values, shuffle=2, rev="3kaaaaaaaaaaa"))
    other.write_bytes(make_car({**values, f"{THING}/k7": {"i": "x"}, f"{THING}/z": {"i": 1}}))
    done = run("repo", "diff", str(one), str(same))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the same, byte for byte"), done.stderr
    done = run("repo", "diff", str(one), str(other), "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert [entry["name"] for entry in answer["differences"]] == [f"{THING}/k7", f"{THING}/z"]
    assert (answer["equal"], answer["count"], answer["a"]["records"], answer["b"]["records"]) == (False, 2, 100, 101)
    done = run("repo", "diff", str(one), str(other))
    assert [line[0] for line in done.stdout.splitlines()[:2]] == ["~", "+"]
    other.write_bytes(one.read_bytes()[:-3])
    done = run("repo", "diff", str(one), str(other))
    assert done.returncode == 2
    assert "CAR ends inside a block" in done.stderr


@pytest.mark.parametrize(
    ("side", "answers", "reason"),
    [
        ("{url}", {"sync.listRepos": (200, {"repos": ["odd"]}, {})}, "has not just one account"),
        ("{url}", {"sync.listRepos": (200, [], {})}, "has not just one account"),
        ("a&b.test@{url}", {"identity.resolveHandle": (200, ["odd"], {})}, "does not know a&b.test"),
        ("did:web:x.example@{url}", {"sync.getRepo": error(400, "RepoDeactivated")}, "try: --password-stdin"),
        ("did:web:x.example@{url}", {"sync.getRepo": (200, b"no CAR", {})}, "CAR"),
    ],
)
def test_repo_diff_says_what_is_wrong_with_a_host(side: str, answers: dict[str, Any], reason: str) -> None:
    with scripted_host() as host:
        host.answers = {f"com.atproto.{name}": lambda _asked, it=it: it for name, it in answers.items()}
        named = side.format(url=host.url)
        done = run("repo", "diff", named, named)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
