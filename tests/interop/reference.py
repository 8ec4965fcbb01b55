"""Starts the npm reference pieces that tests compare with; see the .mjs files beside it."""

import json
import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@contextmanager
def _running(reference_node: tuple[str, Path], script: str, word: str, settings: dict[str, str]) -> Iterator[str]:
    """What follows `word` in the line that says that the script is ready."""
    node, ref_dir = reference_node
    process = subprocess.Popen(
        [node, str(FOLDER / script)],
        env={**os.environ, "REF_DIR": str(ref_dir), "LOG_ENABLED": "false", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(word):
                yield line.removeprefix(word).strip()
                return
        raise AssertionError(f"{script} did not start: {process.stderr.read() if process.stderr else ''}")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def plc_directory(reference_node: tuple[str, Path]) -> Iterator[str]:
    """The URL of a running, empty did:plc directory."""
    with _running(reference_node, "plc_directory.mjs", "PORT ", {}) as port:
        yield f"http://127.0.0.1:{int(port)}"


@contextmanager
def reference_pds(reference_node: tuple[str, Path], plc_url: str, folder: Path) -> Iterator[str]:
    """The URL of a running, empty reference PDS with its data in `folder`."""
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # It looks up no DID at a host that is an address.
    settings = {"PORT": str(port), "PLC_URL": plc_url.replace("127.0.0.1", "localhost"), "DATA": str(folder)}
    with _running(reference_node, "reference_pds.mjs", "READY", settings):
        yield f"http://localhost:{port}"


def mailed_code(folder: Path, did: str, purpose: str = "plc_operation") -> str:
    """The code that the reference PDS over `folder` has mailed, or would have with a mail server."""
    with closing(sqlite3.connect(folder / "account.sqlite")) as database:
        query = "select token from email_token where did = ? and purpose = ?"
        return str(database.execute(query, (did, purpose)).fetchone()[0])


def ask_crypto(reference_node: tuple[str, Path], questions: list[list[Any]]) -> list[Any]:
    """The answers of npm @atproto/* to `questions`; an exception there is {"error": text}."""
    node, ref_dir = reference_node
    answer = subprocess.run(
        [node, str(FOLDER / "crypto_oracle.mjs")],
        input=json.dumps(questions),
        env={**os.environ, "REF_DIR": str(ref_dir)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(answer.stdout.splitlines()[-1])
