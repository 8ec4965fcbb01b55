"""Commands the way the person at this keyboard has to type them.

Sentences everywhere name a command as `pds-lite status`. In a clone there is no `pds-lite` on the path, and a box that
lies elsewhere than in the usual place needs --data-dir: `as_typed` puts both in, so that advice can be followed as it
stands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "pds-lite"
_COMMAND = re.compile(r"\bpds-lite ((?:init|serve|status|doctor|account|identity|repo|migrate)\b)(?! --data-dir)")


def default_data_dir() -> Path:
    """PDS_LITE_DATA_DIR, else the system's place if it is prepared, else the user's."""
    chosen = os.environ.get("PDS_LITE_DATA_DIR")
    if chosen:
        return Path(chosen)
    system = Path("/var/lib/pds-lite")
    if os.access(system / "pds-lite.toml", os.R_OK):
        return system
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "pds-lite"


def as_typed(text: str, data_dir: Path) -> str:
    """`text` with its commands naming the program as it was called here, and `data_dir` unless it is the default."""
    options = "" if data_dir == default_data_dir() else f" --data-dir {shlex.quote(str(data_dir))}"
    return _COMMAND.sub(lambda match: f"{_program()} {match[1]}{options}", text)


def _program() -> str:
    called = sys.argv[0]
    return called if Path(called).name == PROGRAM and shutil.which(PROGRAM) is None else PROGRAM
