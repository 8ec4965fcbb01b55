"""`pds-lite identity`: the DID, its keys, and what the owner can do about them.

`undo` and `recover` need nothing but the recovery key and the directory, so they work on any computer when the box is
lost or in somebody else's hands. The key is read from standard input (hidden at a terminal) and never from the command
line. What will change is shown and asked for before it is published, and looked at in the directory afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pds_lite import ujson
from pds_lite.atproto.syntax import is_plc_did
from pds_lite.cli import daemon
from pds_lite.cli.recovery_key import show_new_recovery_key
from pds_lite.cli.typed import as_typed
from pds_lite.errors import BadInput, PdsError

if TYPE_CHECKING:
    from pds_lite.atproto.crypto import PrivateKey
    from pds_lite.services.recovery import RecoveryTool

T = TypeVar("T")
PUBLIC_PLC = "https://plc.directory"
_AT_THE_BOX = {
    "show": "keys, names and history of the identity; alarms; with --did of any identity, without a box",
    "handle": "change the handle to NAME, once it leads here",
    "rotate-key": "sign with a new key from now on",
    "new-recovery-key": "make a new key of yours, shown once, the identity's first; the others stay",
    "publish": "publish a DID that was made offline",
    "acknowledge": "the change that raised an alarm was right",
}
_ANYWHERE = {
    "undo": "with the recovery key: take back the last operation, or --operation and all after it (within 72 hours)",
    "recover": "with the recovery key: lead the identity to another host or to other keys",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, sentence in {**_AT_THE_BOX, **_ANYWHERE}.items():
        action = actions.add_parser(name, help=sentence, description=f"{sentence[0].upper()}{sentence[1:]}.")
        action.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="D")
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name == "handle":
            action.add_argument("name", metavar="NAME")
        if name in (*_ANYWHERE, "show"):
            action.add_argument("--did", help="the identity; default: the account of the box on this computer")
            action.add_argument("--plc-url", metavar="U", help=f"the directory (default: the box's, or {PUBLIC_PLC})")
        if name in _ANYWHERE:
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name == "undo":
            action.add_argument("--operation", metavar="CID", help="the first operation to take back")
        if name == "recover":
            action.add_argument("--pds", metavar="URL", help="the new host, such as https://pds.example.com")
            action.add_argument("--signing-key", metavar="K", help="did:key of the new host's signing key")
            action.add_argument("--rotation-key", metavar="K", action="append", default=[], help="did:key to add")
            action.add_argument("--drop-key", metavar="K", action="append", default=[], help="did:key to remove")
            action.add_argument("--handle", metavar="NAME", help="the new handle")


def run(arguments: argparse.Namespace) -> int:
    """Runs one action; `show` if none is named."""
    action = arguments.action or "show"
    if action in _ANYWHERE:
        return _recover(arguments, action)
    if action == "show" and getattr(arguments, "did", None):
        answer = asyncio.run(_show_any(*_whose(arguments)))
    elif action == "publish":
        answer = daemon.run(arguments.data_dir, "account.publish")
    elif action == "new-recovery-key":
        answer = _new_recovery_key(arguments.data_dir)
    else:
        parameters = {"handle": arguments.name} if action == "handle" else {}
        answer = daemon.run(arguments.data_dir, f"identity.{action}", parameters)
    if arguments.json:
        print(ujson.dumps(answer))
    elif action == "show":
        _print_identity(answer, arguments.data_dir)
    else:
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in answer.items()))
    return 0


def _new_recovery_key(data_dir: Path) -> dict[str, Any]:
    """Asks first whether there is anything that a key can stand in: one shown for nothing would be relied upon."""
    box = daemon.run(data_dir, "identity.show")
    if not is_plc_did(box["did"] or ""):
        raise BadInput(f"{box['did']} is not a did:plc and has no rotation keys" if box["did"] else "no account yet")
    if box["problem"]:
        raise BadInput(box["problem"])
    key = show_new_recovery_key()
    try:
        answer: dict[str, Any] = daemon.run(data_dir, "identity.new-recovery-key", {"key": key})
    except PdsError:
        print("This key was NOT added to your identity: do not rely on it.", file=sys.stderr, flush=True)
        raise
    return answer


def _recover(arguments: argparse.Namespace, action: str) -> int:
    did, url = _whose(arguments)
    answer = asyncio.run(_change(arguments, action, did, url, _read_key()))
    if answer is None:
        print("nothing was changed", file=sys.stderr)
        return 1
    print(ujson.dumps(answer) if arguments.json else f"done: operation {answer['operation']} is in force at {url}")
    return 0


async def _change(
    arguments: argparse.Namespace, action: str, did: str, url: str, key: PrivateKey
) -> dict[str, Any] | None:
    """Plans, shows, asks, publishes; None when the answer is no."""
    from pds_lite.services.recovery import Wishes, plan_view

    async def work(tool: RecoveryTool) -> dict[str, Any] | None:
        if action == "undo":
            plan = await tool.plan_undo(key.did_key, arguments.operation)
        else:
            wishes = Wishes(
                arguments.pds, arguments.signing_key, arguments.handle, arguments.rotation_key, arguments.drop_key
            )
            plan = await tool.plan_change(key.did_key, wishes)
        shown = {"did": did, **plan_view(plan)}
        _print_plan(shown, url)
        if not (arguments.yes or await asyncio.to_thread(_agreed)):
            return None
        return {**shown, "operation": await tool.publish(plan, key)}

    return await _with_directory(did, url, work)


async def _show_any(did: str, url: str) -> dict[str, Any]:
    from pds_lite.box.identity_commands import log_view

    async def work(tool: RecoveryTool) -> dict[str, Any]:
        return {"did": did, "directory": url, "log": log_view(await tool.audit())}

    return await _with_directory(did, url, work)


async def _with_directory(did: str, url: str, work: Callable[[RecoveryTool], Awaitable[T]]) -> T:
    from pds_lite.clock import Clock
    from pds_lite.net.http_client import HttpClient
    from pds_lite.net.plc_directory import PlcDirectory
    from pds_lite.services.recovery import RecoveryTool

    http = HttpClient(ca_file=os.environ.get("PDS_LITE_CA_FILE") or None)
    try:
        return await work(RecoveryTool(PlcDirectory(http, url), Clock(), did))
    finally:
        await http.close()


def _whose(arguments: argparse.Namespace) -> tuple[str, str]:
    """(DID, URL of the directory): as given, else those of the box on this computer."""
    did, url = arguments.did, arguments.plc_url or os.environ.get("PDS_LITE_PLC_URL")
    if not did or (not url and (arguments.data_dir / "pds-lite.toml").exists()):
        box = _box(arguments.data_dir)
        did, url = did or box["did"], url or box["directory"]
    if not did:
        raise BadInput("which identity?", hint=f"pds-lite identity {arguments.action} --did did:plc:...")
    return did, (url or PUBLIC_PLC).rstrip("/")


def _box(data_dir: Path) -> dict[str, Any]:
    if not (data_dir / "pds-lite.toml").exists():
        return {"did": None, "directory": None}
    answer: dict[str, Any] = daemon.run(data_dir, "identity.show")
    return answer


def _read_key() -> PrivateKey:
    from pds_lite.atproto.crypto.private_key import parse_private_key

    if sys.stdin.isatty():
        from getpass import getpass

        return parse_private_key(getpass("recovery key (it is not shown): "))
    return parse_private_key(sys.stdin.readline())


def _agreed() -> bool:
    """A typed yes: at a terminal, or as the line after the key."""
    print("publish this? Type yes: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() == "yes"


def _print_plan(plan: dict[str, Any], url: str) -> None:
    """On standard error, so that --json stays alone on standard output."""
    print(f"{plan['did']} at {url}", file=sys.stderr)
    for entry in plan["undone"]:
        print(f"  takes back {entry['operation']}, signed by {entry['signer']}", file=sys.stderr)
    for line in plan["changes"] or ["  nothing else changes"]:
        print(f"  {line}", file=sys.stderr)


def _print_identity(answer: dict[str, Any], data_dir: Path) -> None:
    print(f"{answer['did'] or 'no account yet'}  {answer.get('handle') or ''}")
    of_plc_alone = ("rotation_key", "directory")
    for name in ("signing_key", *of_plc_alone):
        if name in answer and (name not in of_plc_alone or is_plc_did(answer["did"] or "")):
            print(f"  {name.replace('_', ' '):13} {answer[name]}{' (of this box)' if name == 'rotation_key' else ''}")
    if answer["did"] and not answer.get("published", True):
        print(as_typed("  made offline, and not published yet: pds-lite identity publish", data_dir))
    if answer.get("unfinished_rotation"):
        print(as_typed("  a rotation of the signing key is unfinished: pds-lite identity rotate-key", data_dir))
    if answer.get("problem"):
        print(f"  the directory: {answer['problem']}")
    log = answer["log"]
    if log is not None:
        print(f"  names         {', '.join(log['names'])}{'  TOMBSTONED' if log['tombstoned'] else ''}")
        for number, key in enumerate(log["rotation_keys"], 1):
            print(f"  rotation {number}    {key}")
        for name, value in {**log["keys"], **log["services"]}.items():
            print(f"  {name:13} {value}")
        for entry in log["operations"]:
            mark = "  (undone)" if entry["undone"] else ""
            print(f"  {entry['created']}  {entry['kind']} {entry['operation']} by {entry['signer']}{mark}")
    for alarm in answer.get("alarms", ()):
        print(f"  ALARM: {as_typed(alarm['text'], data_dir)}")
    if answer.get("trouble"):
        print(f"  ALARM: {answer['trouble']}")
