"""`pds-lite status`: what this box is, which limits hold, and how it does."""

from __future__ import annotations

import argparse

from pds_lite import ujson
from pds_lite.cli import daemon
from pds_lite.cli.typed import as_typed


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the box's state; works with and without a running daemon."""
    facts = daemon.run(arguments.data_dir, "status")
    if arguments.json:
        print(ujson.dumps(facts))
        return 0
    print(f"pds-lite {facts['version']} at {facts['url']}{' (development mode)' if facts['dev'] else ''}")
    if facts["did"] is None:
        print("  no account yet")
    else:
        print(f"  account     {facts['handle']}  {facts['did']}  ({facts['account']})")
        if not facts["published"]:
            how = "" if facts["dev"] else f": {as_typed('pds-lite account publish', arguments.data_dir)}"
            print(f"              its DID is not published{how}")
    print(f"  repository  {facts['records']} records, rev {facts['rev'] or 'none'}")
    print(f"  stream      seq {facts['seq']}, {facts['subscribers']} subscribers; {facts['sessions']} sessions")
    for alarm in facts["plc_watch"]["alarms"]:
        print(f"  ALARM       {as_typed(alarm['text'], arguments.data_dir)}")
    if facts["plc_watch"]["trouble"]:
        print(f"  ALARM       {facts['plc_watch']['trouble']}")
    if facts["read_only"]:
        print(f"  READ-ONLY   {facts['read_only']}")
    if not facts["clock_trusted"]:
        print("  clock       nothing confirms it (no time server, no hardware clock)")
    print(f"  LAN key     {facts['fingerprint']}  (pds-lite discover shows the same, or it is not this box)")
    print(f"  disk        {facts['disk_free'] >> 20} MB free at {facts['data_dir']}")
    print(f"  board       {facts['board']['name']} ({facts['board']['id']})")
    print("  limits      " + ", ".join(f"{name} {value}" for name, value in facts["limits"].items()))
    return 0
