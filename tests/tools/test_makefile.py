"""The Makefile makes an environment for whoever has a clone and a Python that belongs to somebody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served_box import CHECKOUT


def test_making_an_environment_leaves_the_python_it_is_made_of_alone(tmp_path: Path) -> None:
    """bin/python is a link to the system's: touching it is refused to everybody but root, and root must not either."""
    python = Path(sys.executable).resolve()
    before = python.stat().st_mtime_ns
    words = ["make", f"VENV={tmp_path}/venv", f"PYTHON={python}", f"{tmp_path}/venv/.made"]
    subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True)
    assert (tmp_path / "venv" / "bin" / "pip").exists()
    assert python.stat().st_mtime_ns == before
    again = subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True, text=True)
    assert "up to date" in again.stdout


@pytest.mark.parametrize(
    ("system", "first", "taken"),
    [("fits", "fits", "system"), ("too old", "fits", "python3"), ("too old", "too old", "python3.13")],
)
def test_without_a_name_the_systems_python_is_taken_else_the_first_that_fits(
    tmp_path: Path, system: str, first: str, taken: str
) -> None:
    log = tmp_path / "log"
    fates = {"system": system, "python3": first, "python3.13": "fits"}
    for name, fate in fates.items():
        made = f'[ "$1 $2" != "-m venv" ] || echo {name} >> "{log}"\nexec "{sys.executable}" "$@"'
        _stand_in(tmp_path / name, made if fate == "fits" else "exit 1")
    environment = {**os.environ, "SYSTEM_PYTHON": str(tmp_path / "system"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [CHECKOUT / "tools" / "bootstrap_venv", tmp_path / "venv"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert log.read_text().split() == [taken]
    subprocess.run([tmp_path / "venv/bin/python", "-c", "import pip"], check=True)


def test_an_environment_of_another_python_is_made_anew(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    words = [CHECKOUT / "tools" / "bootstrap_venv", venv, sys.executable]
    subprocess.run(words, check=True, capture_output=True)
    (venv / "left").write_text("by the older one")
    subprocess.run(words, check=True, capture_output=True)
    assert not (venv / "left").exists()
    subprocess.run([venv / "bin/python", "-c", "import pip"], check=True)


def test_a_named_python_of_another_version_is_refused_with_the_line_that_helps(tmp_path: Path) -> None:
    _stand_in(tmp_path / "python3.10", 'if [ "$1" = -V ]; then echo Python 3.10.13; else exit 1; fi')
    words = [CHECKOUT / "tools" / "bootstrap_venv", tmp_path / "venv", tmp_path / "python3.10"]
    refused = subprocess.run(words, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "python3.10 is Python 3.10.13." in refused.stderr
    assert "make PYTHON=" in refused.stderr
    assert not (tmp_path / "venv").exists()


def _stand_in(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
