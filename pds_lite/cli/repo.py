"""`pds-lite repo`: the repository as a CAR file, out and in, its verification, and its comparison with another."""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

from pds_lite import ujson
from pds_lite.cli import daemon, repo_diff
from pds_lite.errors import BadInput

_PIECE = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Export FILE, import FILE, verify, diff A B"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, sentence in (
        ("export", "write the repository to FILE, a CAR; - is standard output"),
        ("import", "replace the repository by the CAR in FILE; - is standard input"),
        ("verify", "check every block, the tree and the signature as a stranger would"),
        ("diff", "compare two repositories byte for byte; exit status 0 if they are the same, 1 if not, 2 on trouble"),
    ):
        action = actions.add_parser(name, help=sentence, description=f"{sentence[0].upper()}{sentence[1:]}.")
        action.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="D")
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name == "diff":
            repo_diff.add_arguments(action)
        elif name != "verify":
            action.add_argument("file", type=Path, metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    """Runs one action."""
    if arguments.action == "diff":
        return repo_diff.run(arguments)
    if arguments.action == "export":
        answer = _export(arguments)
    elif arguments.action == "import":
        with _reading(arguments.file) as file:
            answer = daemon.run(arguments.data_dir, "repo.import", body=lambda: _pieces(file))
    else:
        answer = daemon.run(arguments.data_dir, "repo.verify")
    text = ujson.dumps(answer) if arguments.json else ", ".join(f"{name} {value}" for name, value in answer.items())
    print(text, file=sys.stderr if arguments.action == "export" and str(arguments.file) == "-" else sys.stdout)
    return 0


def _export(arguments: argparse.Namespace) -> Any:
    """Writes to a neighbour and renames, so that a file is either whole or what it was."""
    target: Path = arguments.file
    if str(target) == "-":
        return daemon.run(arguments.data_dir, "repo.export", receive=_writer(sys.stdout.buffer))
    partial = _neighbour(target)
    if partial is None:
        with _writing(target, target) as device:
            return daemon.run(arguments.data_dir, "repo.export", receive=_writer(device))
    try:
        with _writing(partial, target) as file:
            answer = daemon.run(arguments.data_dir, "repo.export", receive=_writer(file))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target.resolve())
    finally:
        partial.unlink(missing_ok=True)
    return answer


def _neighbour(target: Path) -> Path | None:
    """Where to write first; None for a pipe, a device or a folder, which a rename would take away or cannot replace."""
    try:
        if target.exists() and not target.is_file():
            return None
        folder = target.resolve().parent
        if not folder.is_dir():
            raise BadInput(f"there is no folder {folder}", hint=f"mkdir -p {shlex.quote(str(folder))}")
    except PermissionError:
        raise _forbidden("write", target, f"repo export - > {target}") from None
    return folder / f".{target.name}.partial"


def _reading(source: Path) -> BinaryIO:
    if str(source) == "-":
        return os.fdopen(0, "rb", closefd=False)
    try:
        return source.open("rb")
    except PermissionError:
        raise _forbidden("read", source, f"repo import - < {source}") from None


def _writing(partial: Path, target: Path) -> BinaryIO:
    try:
        return partial.open("wb")
    except PermissionError:
        raise _forbidden("write", target, f"repo export - > {target}") from None


def _forbidden(verb: str, path: Path, way_round: str) -> BadInput:
    """An installed box runs its commands as the service's user, who has no business in other people's folders."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    return BadInput(f"the user {user} may not {verb} {path}", hint=f"pds-lite {way_round}")


def _writer(file: BinaryIO) -> Callable[[bytes], None]:
    def write(piece: bytes) -> None:
        file.write(piece)

    return write


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
