"""Commands the way the person at this keyboard has to type them, and what to do when the system refuses one.

Sentences everywhere name a command as `pds-lite status`. In a clone there is no `pds-lite` on the path, and a box that
lies elsewhere than in the usual place needs --data-dir: `as_typed` puts both in, so that advice can be followed as it
stands.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
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


def remedy(problem: OSError, words: Sequence[str]) -> str:
    """What mends it when the system refuses the command `words`; empty where nobody can say."""
    match problem.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room on the disk."
        case errno.EROFS:
            return "Mount it for writing. A card that went read-only by itself is worn out: copy its data first."
        case errno.EACCES | errno.EPERM if problem.filename:
            owner = _owner(Path(os.fsdecode(problem.filename)))
            return f"sudo -u {owner} {shlex.join([_program(), *words])}" if owner else ""
    return ""


def _owner(path: Path) -> str:
    """The user to whom a path belongs, or the folder that holds it and hides it; empty if that is this user."""
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError, KeyError):
            owner = place.stat().st_uid
            return "" if owner == os.geteuid() else pwd.getpwuid(owner).pw_name
    return ""


def _program() -> str:
    called = sys.argv[0]
    return called if Path(called).name == PROGRAM and shutil.which(PROGRAM) is None else PROGRAM
