"""`pds-lite discover`: the boxes on this network, with what each says of itself, and whom to believe.

A box signs its claim, which shows that nobody changed it, not that its key is the owner's. So, as ssh does, the first
key seen for an account is remembered (in $XDG_STATE_HOME/pds-lite/known_boxes.json), and another one later is called
out. The fingerprint to compare stands in `pds-lite status` on the box itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pds_lite import ujson
from pds_lite.errors import BadData

if TYPE_CHECKING:
    from pds_lite.box.mdns import FoundBox

_MAX_KNOWN = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--seconds, --forget"""
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to listen (default 3)")
    parser.add_argument("--forget", metavar="DID", help="forget the key remembered for an account, then listen")


def run(arguments: argparse.Namespace) -> int:
    """Prints one box a line; exit status 1 if none answered or one is not to be trusted."""
    from pds_lite.box import mdns

    file = _known_file()
    known = _read_known(file)
    if arguments.forget:
        known.pop(arguments.forget, None)
    boxes = asyncio.run(mdns.discover(arguments.seconds))
    verdicts = judge(boxes, known)
    _write_known(file, known)
    if arguments.json:
        print(ujson.dumps([asdict(box) | {"verdict": verdict} for box, verdict in zip(boxes, verdicts, strict=True)]))
    else:
        for box, verdict in zip(boxes, verdicts, strict=True):
            _print(box, verdict)
        if not boxes:
            print("no box answered on this network")
    return 0 if boxes and not any(verdict.startswith("impostor") for verdict in verdicts) else 1


def judge(boxes: list[FoundBox], known: dict[str, str]) -> list[str]:
    """One word a box (known, unclaimed), or "impostor: why"; `known` (DID to fingerprint) gains the new ones."""
    verdicts = []
    for box in boxes:
        if box.problem:
            verdicts.append(f"impostor: {box.problem}")
        elif not box.claimed:
            verdicts.append("unclaimed")
        elif any(
            other.did == box.did and other.fingerprint != box.fingerprint and not other.problem for other in boxes
        ):
            remembered = known.get(box.did)
            same = remembered == box.fingerprint
            verdicts.append("known" if same else f"impostor: another box claims {box.did} under another key")
        elif known.setdefault(box.did, box.fingerprint) != box.fingerprint:
            verdicts.append(f"impostor: the key seen first for {box.did} was {known[box.did]}")
        else:
            verdicts.append("known")
    return verdicts


def _print(box: FoundBox, verdict: str) -> None:
    who = f"{box.handle}  {box.did}" if box.claimed else "unclaimed"
    print(f"{box.host.rstrip('.')}:{box.port}  {who}  pds-lite {box.version}  key {box.fingerprint}")
    if verdict.startswith("impostor"):
        print(f"  DO NOT TRUST ({verdict})")
        print("  compare the key with `pds-lite status` on your box; if you replaced the box: discover --forget DID")


def _known_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "pds-lite" / "known_boxes.json"


def _read_known(file: Path) -> dict[str, str]:
    try:
        known = ujson.loads(file.read_bytes())
    except (OSError, BadData):
        return {}
    return known if isinstance(known, dict) else {}


def _write_known(file: Path, known: dict[str, str]) -> None:
    """Keeps the newest; a home that cannot be written to only costs the memory."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ujson.dumps(dict(list(known.items())[-_MAX_KNOWN:])))
    except OSError:
        return
