"""Starts the npm reference pieces that tests compare with; see the .mjs files beside it."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@contextmanager
def plc_directory(reference_node: tuple[str, Path]) -> Iterator[str]:
    """The URL of a running, empty did:plc directory."""
    node, ref_dir = reference_node
    process = subprocess.Popen(
        [node, str(FOLDER / "plc_directory.mjs")],
        env={**os.environ, "REF_DIR": str(ref_dir), "LOG_ENABLED": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("PORT "):
                yield f"http://127.0.0.1:{int(line[5:])}"
                return
        raise AssertionError(f"the directory did not start: {process.stderr.read() if process.stderr else ''}")
    finally:
        process.kill()
        process.communicate()


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
