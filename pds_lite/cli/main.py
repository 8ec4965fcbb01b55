"""The `pds-lite` command: finds the subcommand, runs it, and words its failures for a person at a keyboard."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pds_lite.cli.typed import as_typed, default_data_dir, remedy
from pds_lite.errors import PdsError

COMMANDS = {
    "init": "prepare a data directory: keys, identity, account",
    "serve": "run the server (prepares a local box first where there is none)",
    "status": "what this box is, and how it does",
    "doctor": "look for trouble; with --store check every stored byte",
    "account": "show the account; passwords, app passwords, codes; activate or deactivate",
    "identity": "the DID: show, new handle or key; undo and recover with the recovery key, on any computer",
    "repo": "export, import or verify the repository",
    "migrate": "move an account to this box from another host, and follow the job",
    "discover": "find boxes on this network",
    "version": "versions of pds-lite and of what it stands on",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the process's exit status: 0 done, 1 refused or failed, 2 not understood, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_unwritten()  # the reader of our output went away (`| head`): nothing to say
    except OSError as problem:
        where = f": {problem.filename}" if problem.filename else ""
        _complain(f"{problem.strerror or problem}{where}", remedy(problem, words))
        _drop_unwritten()
    except KeyboardInterrupt:
        return 130
    return 1


def _drop_unwritten() -> None:
    """Output that could not be written is not tried again at exit, where Python 3.11 would make status 120 of it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pds-lite", description="A personal data server for one person.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((word for word in words if word in COMMANDS), None)
    run = None
    for name, sentence in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=sentence, description=f"{sentence[0].upper()}{sentence[1:]}.")
        if name == chosen:
            module = _load(name)
            subparser.add_argument(
                "--data-dir", type=Path, default=None, metavar="D", help="where this box keeps everything"
            )
            subparser.add_argument("--json", action="store_true", help="answer in JSON")
            module.add_arguments(subparser)
            run = module.run
    arguments = parser.parse_args(words)
    if arguments.version:
        return int(_load("version").run(argparse.Namespace(json=False)))
    if run is None:
        parser.print_help()
        return 2
    if arguments.data_dir is None:
        arguments.data_dir = default_data_dir()
    try:
        return int(run(arguments))
    except PdsError as problem:
        texts = (as_typed(text, arguments.data_dir) for text in (problem.message or problem.error, problem.hint))
        _complain(*texts)
        return 1


def _load(command: str) -> ModuleType:
    """The module of a command. Looking for garbage meanwhile would cost a fifth of the start, and ever after what it
    brings would be looked through again: it stays, so it is set aside.
    """
    gc.disable()
    try:
        return importlib.import_module(f"pds_lite.cli.{command}")
    finally:
        gc.freeze()
        gc.enable()


def _complain(message: str, hint: str) -> None:
    print(f"pds-lite: {message}", file=sys.stderr)
    if hint:
        print(f"  try: {hint}", file=sys.stderr)
