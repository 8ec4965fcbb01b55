"""The Makefile makes an environment for whoever has a clone and a Python that belongs to somebody else."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_without_a_name_a_python_that_fits_is_found_though_the_first_on_the_path_does_not(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    _stand_in(programs / "python3", "exit 1")
    fitting = f"python3.{sys.version_info.minor}"
    _stand_in(programs / fitting, f'exec "{sys.executable}" "$@"')
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    words = [CHECKOUT / "tools" / "bootstrap_venv", tmp_path / "venv"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    look = "import pip, sys; print((3, 11) <= sys.version_info[:2] <= (3, 13))"
    found = subprocess.run([tmp_path / "venv/bin/python", "-c", look], check=True, capture_output=True, text=True)
    assert found.stdout == "True\n"


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
