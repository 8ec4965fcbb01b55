"""The Makefile makes an environment for whoever has a clone and a Python that belongs to somebody else."""

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
