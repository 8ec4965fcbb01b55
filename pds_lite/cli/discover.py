"""`pds-lite discover`: the boxes on this network, with what each says of itself."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict

from pds_lite import ujson
from pds_lite.box import mdns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--seconds"""
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to listen (default 3)")


def run(arguments: argparse.Namespace) -> int:
    """Prints one box a line; exit status 1 if none answered."""
    boxes = asyncio.run(mdns.discover(arguments.seconds))
    if arguments.json:
        print(ujson.dumps([asdict(box) for box in boxes]))
        return 0 if boxes else 1
    for box in boxes:
        who = f"{box.handle}  {box.did}" if box.claimed else "unclaimed"
        print(f"{box.host.rstrip('.')}:{box.port}  {who}  pds-lite {box.version}  key {box.fingerprint}")
        if box.problem:
            print(f"  DO NOT TRUST: {box.problem}")
    if not boxes:
        print("no box answered on this network")
    return 0 if boxes else 1
