"""`pds-lite account`: the account, its passwords and codes, and whether it is active here."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pds_lite import ujson
from pds_lite.cli import daemon
from pds_lite.errors import BadInput

_ACTIONS = {
    "show": "the account and its sessions",
    "password": "set a new password, random unless --password-stdin; ends every session",
    "second-factor-off": "switch the second factor off, when authenticator and recovery codes are lost",
    "codes": "codes that wait to be typed in somewhere",
    "claim-code": "on an empty box: a new claim code for createAccount",
    "app-passwords": "list app passwords; `create NAME` or `revoke NAME`",
    "activate": "make the account speak from here, and announce it",
    "deactivate": "stop the account here; reading and moving out still work",
    "publish": "publish a DID that was made offline",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, sentence in _ACTIONS.items():
        action = actions.add_parser(name, help=sentence, description=f"{sentence[0].upper()}{sentence[1:]}.")
        action.add_argument("--data-dir", type=_path, default=argparse.SUPPRESS, metavar="D")
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name == "password":
            action.add_argument("--password-stdin", action="store_true", help="read the new password from a line")
        if name == "app-passwords":
            action.add_argument("verb", nargs="?", choices=("create", "revoke"))
            action.add_argument("name", nargs="?")
            action.add_argument("--privileged", action="store_true", help="may read direct messages")


def run(arguments: argparse.Namespace) -> int:
    """Runs one action; `show` if none is named."""
    action = arguments.action or "show"
    command, parameters = f"account.{action}", _parameters(action, arguments)
    if action == "app-passwords" and arguments.verb:
        command = f"{command}.{arguments.verb}"
    answer = daemon.run(arguments.data_dir, command, parameters)
    if arguments.json:
        print(ujson.dumps(answer))
    else:
        _PRINTERS.get(action, _print_fields)(answer)
    return 0


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)


def _parameters(action: str, arguments: argparse.Namespace) -> dict[str, Any]:
    if action == "password" and arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise BadInput("--password-stdin: the first line of standard input is empty")
        return {"password": password}
    if action == "app-passwords" and arguments.verb:
        if not arguments.name:
            raise BadInput("which one?", hint=f"pds-lite account app-passwords {arguments.verb} NAME")
        return {"name": arguments.name, "privileged": arguments.privileged}
    return {}


def _print_fields(answer: dict[str, Any]) -> None:
    for name, value in answer.items():
        if not isinstance(value, list):
            print(f"{name.replace('_', ' '):16} {value}")


def _print_account(answer: dict[str, Any]) -> None:
    _print_fields(answer)
    for session in answer["sessions"]:
        how = f"app password {session['app_password']!r}" if session["app_password"] else "the password"
        print(f"session          opened {session['created']} with {how}, last used {session['used']}")


def _print_password(answer: dict[str, Any]) -> None:
    if answer["password"] is None:
        print("the password is changed; every session has ended")
    else:
        print(f"new password, shown this once: {answer['password']}")


def _print_codes(answer: dict[str, Any]) -> None:
    for code in answer["codes"]:
        print(f"{code['code']}  {code['purpose']}, until {code['expires']}")
    if not answer["codes"]:
        print("no code is pending")


def _print_app_passwords(answer: dict[str, Any]) -> None:
    if "password" in answer:
        print(f"app password {answer['name']!r}, shown this once: {answer['password']}")
    elif "name" in answer:
        print(f"revoked {answer['name']!r}; its sessions have ended")
    for row in answer.get("app_passwords", ()):
        print(f"{row['created']}  {row['name']}{'  (privileged)' if row['privileged'] else ''}")
    if answer.get("app_passwords") == []:
        print("there are no app passwords")


_PRINTERS = {
    "show": _print_account,
    "password": _print_password,
    "codes": _print_codes,
    "app-passwords": _print_app_passwords,
}
