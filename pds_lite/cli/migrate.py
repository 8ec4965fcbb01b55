"""`pds-lite migrate`: moves an account to this box, and follows the job that does it.

    pds-lite migrate --from alice.example.com           begin, or go on
    pds-lite migrate                                    go on with what is needed
    pds-lite migrate --status | --abandon
    pds-lite migrate --did DID --car FILE --blobs DIR --recovery-key-stdin     without an old host

The job runs in the daemon and does not end with this command. What it needs (password, codes) is asked for at a
terminal, or read from standard input, a line each in the order of the questions. Exit status 0: done or rehearsed;
3: something is needed that was not given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pds_lite import ujson
from pds_lite.box.control import RefusedByDaemon
from pds_lite.cli import daemon
from pds_lite.cli.recovery_key import show_new_recovery_key
from pds_lite.cli.typed import as_typed
from pds_lite.errors import BadInput, BadSyntax, Unavailable

if TYPE_CHECKING:
    from pds_lite.atproto.crypto import PrivateKey

NEEDED = 3
_PIECE = 1 << 20
INTERRUPTED = 130
LISTED = 20
"""Missing blobs that are named."""
_SECRET = frozenset({"password"})
_PROMPTS = {
    "auth_factor": "sign-in code",
    "plc_code": "the code (empty if none came)",
    "accept_missing": "go on without these blobs, for good? (yes or no)",
}
_GO_ON = {
    "password": "",
    "auth_factor": " --auth-factor CODE",
    "plc_code": " --plc-code CODE    (no mail came: --new-plc-code)",
    "accept_missing": "    tries them again; with --accept-missing-blobs it goes on without them",
    "document": "    when the document says so",
}
"""Behind `pds-lite migrate`: how to go on with what was asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The forms of the module's docstring."""
    parser.add_argument("--from", dest="source", metavar="HANDLE_OR_URL", help="the account, or its host's URL")
    parser.add_argument("--account", metavar="HANDLE", help="whose account, if --from is a URL")
    parser.add_argument("--handle", metavar="NAME", help="the handle to have here (default: the same)")
    parser.add_argument("--rehearse", action="store_true", help="stop before the identity changes")
    parser.add_argument("--new-recovery-key", action="store_true", help="make a key of yours the identity's first")
    parser.add_argument("--accept-missing-blobs", action="store_true", help="do not stop for blobs that are gone")
    parser.add_argument("--ignore-preflight", action="store_true", help="begin although something is wrong")
    parser.add_argument("--plc-code", metavar="CODE", help="the code that the old host has mailed for the identity")
    parser.add_argument("--new-plc-code", action="store_true", help="have the old host mail another one")
    parser.add_argument("--auth-factor", metavar="CODE", help="the sign-in code of the old host")
    parser.add_argument("--password-stdin", action="store_true", help="read the old host's password from a line")
    parser.add_argument("--status", action="store_true", help="where the job stands, with each missing blob")
    parser.add_argument("--abandon", action="store_true", help="take everything back; the old host keeps the account")
    files = parser.add_argument_group("without an old host")
    files.add_argument("--did", help="the identity")
    files.add_argument("--car", type=Path, metavar="FILE", help="its repository")
    files.add_argument("--blobs", type=Path, metavar="DIR", help="its blobs, in files named by CID")
    files.add_argument("--recovery-key-stdin", action="store_true", help="read a rotation key of yours from a line")


def run(arguments: argparse.Namespace) -> int:
    """Runs one form."""
    if arguments.status or arguments.abandon:
        answer = daemon.run(arguments.data_dir, "migrate.status" if arguments.status else "migrate.abandon")
        _show(arguments, answer)
        return 0
    if arguments.car is not None:
        return _from_files(arguments)
    return _Dialogue(arguments).run()


class _Dialogue:
    """Questions and answers until the job is done."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._given: dict[str, Any] = {
            "from": arguments.source,
            "account": arguments.account,
            "handle": arguments.handle,
            "rehearse": arguments.rehearse,
            "ignore_preflight": arguments.ignore_preflight,
            "accept_missing": "yes" if arguments.accept_missing_blobs else None,
            "plc_code": arguments.plc_code,
            "new_plc_code": "yes" if arguments.new_plc_code else None,
            "auth_factor": arguments.auth_factor,
        }

    def run(self) -> int:
        arguments = self._arguments
        if arguments.password_stdin:
            self._given["password"] = _line("password")
        if arguments.new_recovery_key:
            self._given["recovery_key"] = show_new_recovery_key()
        command = "migrate.begin" if arguments.source else "migrate.resume"
        try:
            return self._talk(command)
        except KeyboardInterrupt:
            text = "Interrupted. A server that runs goes on with the move. Look: pds-lite migrate --status. Go on, or"
            text = f"{text} watch again: pds-lite migrate. Take it back: pds-lite migrate --abandon."
            print(f"\n{as_typed(text, arguments.data_dir)}", file=sys.stderr)
            return INTERRUPTED
        except RefusedByDaemon:
            raise
        except Unavailable as problem:
            hint = "pds-lite migrate, when the server runs again: the move goes on where it was"
            raise Unavailable(problem.message, hint=hint) from None

    def _talk(self, command: str) -> int:
        while True:
            given = {name: value for name, value in self._given.items() if value}
            answer = daemon.run(self._arguments.data_dir, command, given, receive=_tell)
            if answer["state"] != "needs":
                _show(self._arguments, answer)
                return 0
            self._given.pop(answer["needs"], None)  # used, and not enough
            self._given.pop("new_plc_code", None)
            self._given["asked_again"] = True
            reply = self._ask(answer)
            if reply is None:
                _show(self._arguments, answer)
                return NEEDED
            self._given[answer["needs"]] = reply

    def _ask(self, answer: dict[str, Any]) -> str | None:
        """The owner's answer, None if there is none."""
        needs = answer["needs"]
        if needs == "document":
            return None
        if needs == "accept_missing":
            _show_missing(answer)
        print(answer["text"], file=sys.stderr)
        reply = _line(needs)
        return None if needs == "accept_missing" and (reply or "").lower() != "yes" else reply


def _from_files(arguments: argparse.Namespace) -> int:
    if not arguments.did or not arguments.recovery_key_stdin:
        raise BadInput("--car goes with --did and --recovery-key-stdin")
    key = _read_key()
    password = _line("password") if arguments.password_stdin else None
    given = {"did": arguments.did, "handle": arguments.handle, "key": key.did_key, "password": password}
    with arguments.car.open("rb") as file:
        answer = daemon.run(arguments.data_dir, "migrate.files", given, body=lambda: _pieces(file))
    print(f"{answer['records']} records are here", file=sys.stderr)
    if arguments.blobs is not None:
        _bring_blobs(arguments.data_dir, arguments.blobs)
    if arguments.rehearse:
        _show(arguments, {**answer, "state": "rehearsed", "text": "nothing has changed for the world"})
        return 0
    return _finish(arguments, key)


def _finish(arguments: argparse.Namespace, key: PrivateKey) -> int:
    from pds_lite.atproto import plc

    missing = daemon.run(arguments.data_dir, "migrate.missing", receive=lambda _piece: None)["missing"]
    if missing and not arguments.accept_missing_blobs:
        print(f"{missing} blobs are missing; --accept-missing-blobs goes on without them", file=sys.stderr)
        return NEEDED
    planned = daemon.run(arguments.data_dir, "migrate.plan", {"key": key.did_key})["operation"]
    signed = plc.sign_op(planned, key) if planned is not None else None
    _show(arguments, daemon.run(arguments.data_dir, "migrate.finish", {"operation": signed}))
    return 0


def _bring_blobs(data_dir: Path, folder: Path) -> None:
    """Those of the missing blobs that lie in `folder` or a folder in it, in files named by CID."""
    names = bytearray()
    daemon.run(data_dir, "migrate.missing", receive=names.extend)
    wanted, brought = set(names.decode().split()), 0
    for path in _files_of(folder):
        cid = path.name.partition(".")[0]
        if cid not in wanted:
            continue
        with path.open("rb") as file:
            reason = daemon.run(data_dir, "migrate.blob", {"cid": cid}, body=partial(_pieces, file))["reason"]
        if reason:
            print(f"{path}: {reason}", file=sys.stderr)
        else:
            wanted.discard(cid)
            brought += 1
    print(f"{brought} blobs were brought, {len(wanted)} are missing", file=sys.stderr)
    for cid in sorted(wanted)[:LISTED]:
        print(f"missing {cid}: no file of that name", file=sys.stderr)
    if len(wanted) > LISTED:
        print(f"... and {len(wanted) - LISTED} more", file=sys.stderr)


def _files_of(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("b*")):
        if path.is_file() and _is_cid(path.name.partition(".")[0]):
            yield path


def _is_cid(text: str) -> bool:
    from pds_lite.atproto.syntax.cid import parse_cid

    try:
        return bool(parse_cid(text))
    except BadSyntax:
        return False


async def _pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _read_key() -> PrivateKey:
    from pds_lite.atproto.crypto.private_key import parse_private_key

    return parse_private_key(_line("recovery key", is_secret=True) or "")


def _line(what: str, *, is_secret: bool | None = None) -> str | None:
    """A line from the owner: asked for at a terminal, else the next one of standard input; None at its end."""
    words = _PROMPTS.get(what, what)
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n") or None
    if is_secret or (is_secret is None and what in _SECRET):
        from getpass import getpass

        return getpass(f"{words} (it is not shown): ") or None
    print(f"{words}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or None


def _tell(piece: bytes) -> None:
    """Progress, on standard error, so that --json stays alone on standard output."""
    sys.stderr.write(piece.decode("utf-8", "replace"))
    sys.stderr.flush()


def _show(arguments: argparse.Namespace, answer: dict[str, Any]) -> None:
    if arguments.json:
        print(ujson.dumps(answer))
        return
    _show_missing(answer)
    print(_sentence(answer))
    if answer.get("problem") and answer["state"] != "needs":
        print(f"The last run ended with: {answer['problem']}")
    if answer.get("claim_code"):
        print(f"Another way in, by a tool that asks for an invite code: {answer['claim_code']}")
    following = _next_command(answer)
    if following:
        print(f"Next: {as_typed(following, arguments.data_dir)}")


def _sentence(answer: dict[str, Any]) -> str:
    """What has come of it, for a person."""
    who = f"{answer['handle']} ({answer['did']})" if answer.get("handle") else str(answer["did"])
    match answer["state"]:
        case "done":
            return f"Done: {who} lives on this box."
        case "rehearsed":
            return f"Rehearsed: everything of {who} is on this box, and nothing has changed for the world."
        case "needs":
            return f"Waiting: {answer['text']}"
        case "abandoned":
            return f"Taken back: {who} stays at {answer['from'] or 'its host'}, and this box is empty."
    step = f"{answer['step']}: {answer.get('doing', '')}".rstrip(": ")
    state = "Under way" if answer["state"] == "running" else "At rest"
    return f"{state}: {who} from {answer['from'] or 'files'}, at {step}"


def _next_command(answer: dict[str, Any]) -> str:
    match answer["state"]:
        case "rehearsed" | "stopped" if not answer["from"]:
            return "the same command again, with --car, without --rehearse; or pds-lite migrate --abandon"
        case "rehearsed":
            return "pds-lite migrate    moves it; or pds-lite migrate --abandon, to take it back"
        case "needs":
            return f"pds-lite migrate{_GO_ON[answer['needs']]}"
        case "running":
            return "pds-lite migrate    watches it"
        case "done":
            return "pds-lite doctor    looks whether all is well, and whether you hold a key to your identity"
        case "stopped" if answer.get("step") != "done":
            return "pds-lite migrate    goes on"
    return ""


def _show_missing(answer: dict[str, Any]) -> None:
    blobs = answer.get("missing_blobs", ())
    for blob in blobs:
        if blob["tries"]:
            times = "once" if blob["tries"] == 1 else f"{blob['tries']} times"
            print(f"missing {blob['cid']}: {blob['reason']} (tried {times})", file=sys.stderr)
    untried = sum(not blob["tries"] for blob in blobs)
    if untried and answer.get("from"):
        print(f"{untried} or more blobs are still to be fetched", file=sys.stderr)
