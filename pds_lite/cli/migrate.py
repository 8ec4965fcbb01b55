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
from pds_lite.cli import daemon
from pds_lite.errors import BadInput, BadSyntax

if TYPE_CHECKING:
    from pds_lite.atproto.crypto import PrivateKey

NEEDED = 3
_PIECE = 1 << 20
_SECRET = frozenset({"password"})
_CHECK = "after a look at the list above, type yes to go on without these blobs"


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
            "auth_factor": arguments.auth_factor,
        }

    def run(self) -> int:
        arguments = self._arguments
        if arguments.password_stdin:
            self._given["password"] = _line("password")
        if arguments.new_recovery_key:
            self._given["recovery_key"] = self._make_recovery_key()
        command = "migrate.begin" if arguments.source else "migrate.resume"
        while True:
            given = {name: value for name, value in self._given.items() if value}
            answer = daemon.run(arguments.data_dir, command, given, receive=_tell)
            if answer["state"] != "needs":
                _show(arguments, answer)
                return 0
            self._given.pop(answer["needs"], None)  # used, and not enough
            reply = self._ask(answer)
            if reply is None:
                _show(arguments, answer)
                return NEEDED
            self._given[answer["needs"]] = reply

    def _ask(self, answer: dict[str, Any]) -> str | None:
        """The owner's answer, None if there is none."""
        needs = answer["needs"]
        if needs == "accept_missing":
            _show_missing(answer)
            print(_CHECK, file=sys.stderr)
        print(answer["text"], file=sys.stderr)
        if needs == "document":
            return None
        reply = _line(needs)
        return None if needs == "accept_missing" and (reply or "").lower() != "yes" else reply

    def _make_recovery_key(self) -> str:
        """The did:key of a new key, whose private half is shown this once."""
        import secrets

        from pds_lite.atproto.crypto import K256Key
        from pds_lite.atproto.crypto.private_key import format_private_key

        key = K256Key.generate(secrets.token_bytes(40))
        print(f"recovery key  {format_private_key(key)}", file=sys.stderr)
        print(
            "              Write it down: it overrules this box for your identity, and it is kept nowhere.",
            file=sys.stderr,
        )
        return key.did_key


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
    print(f"{brought} blobs are here, {len(wanted)} are missing", file=sys.stderr)


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
    words = what.replace("_", " ")
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
    words = [f"{answer['state']}: {answer['did']}"]
    words += [f"step {answer['step']}"] if "step" in answer else []
    words += [str(answer[name]) for name in ("text", "problem") if answer.get(name)]
    print("; ".join(words))
    if answer.get("claim_code"):
        print(f"claim code    {answer['claim_code']}")
    if answer["state"] == "rehearsed":
        print("Next: pds-lite migrate, without --rehearse; or pds-lite migrate --abandon")


def _show_missing(answer: dict[str, Any]) -> None:
    for blob in answer.get("missing_blobs", ()):
        print(f"missing {blob['cid']}: {blob['reason']} ({blob['tries']} tries)", file=sys.stderr)
