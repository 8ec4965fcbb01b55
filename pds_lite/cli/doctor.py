"""`pds-lite doctor`: looks for trouble. Exit status 0 when there is none, 1 otherwise."""

from __future__ import annotations

import argparse

from pds_lite import ujson
from pds_lite.cli import daemon


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--store"""
    parser.add_argument("--store", action="store_true", help="check every record, block, blob and event on the disk")


def run(arguments: argparse.Namespace) -> int:
    """Prints each problem as `code: what is wrong`."""
    answer = daemon.run(arguments.data_dir, "doctor.store" if arguments.store else "doctor")
    problems = answer["problems"]
    if arguments.json:
        print(ujson.dumps({"ok": not problems, "problems": problems}))
    elif not problems:
        print("the store is clean" if arguments.store else "no trouble found")
    else:
        for problem in problems:
            print(f"{problem['code']}: {problem['text']}")
    return 1 if problems else 0
