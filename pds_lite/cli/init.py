"""`pds-lite init`: prepares a data directory with keys, identity and account, or an empty box with a claim code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pds_lite import config as settings
from pds_lite import ujson
from pds_lite.box import setup
from pds_lite.box.setup import Prepared
from pds_lite.cli.typed import as_typed
from pds_lite.errors import BadInput

SERVICE_UNIT = Path("/etc/systemd/system/pds-lite.service")
SERVICE_DATA_DIR = Path("/var/lib/pds-lite")
"""Where firmware/install puts the service and its data."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The contract of decisions.md."""
    parser.add_argument("--hostname", required=True, metavar="H", help="public host name; localhost:PORT with --dev")
    parser.add_argument("--handle", metavar="h", help="default: the host name (me.test with --dev)")
    parser.add_argument("--email", metavar="e", default="", help="shown to clients; no mail server is needed")
    parser.add_argument("--did-method", choices=("plc", "web"), default="plc")
    parser.add_argument("--plc-url", metavar="U", help="publish the DID at this directory before returning")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from one line of standard input"
    )
    parser.add_argument("--empty", action="store_true", help="no account: print a claim code for createAccount")
    parser.add_argument(
        "--no-claim-code", action="store_true", help="with --empty and --dev: the first createAccount needs none"
    )
    parser.add_argument("--dev", action="store_true", help="development: http, loopback, .test handles")


def run(arguments: argparse.Namespace) -> int:
    """Prepares the box and shows, once, what is shown once."""
    if arguments.no_claim_code and not (arguments.dev and arguments.empty):
        raise BadInput("--no-claim-code goes with --empty --dev only: anyone could claim the box")
    data_dir: Path = arguments.data_dir
    if setup.is_prepared(data_dir):
        raise BadInput(f"{data_dir} is prepared already", hint="pds-lite status")
    password = None
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise BadInput("--password-stdin: the first line of standard input is empty")
    _set_aside(data_dir / settings.FILE_NAME)
    settings.write_initial(data_dir, hostname=arguments.hostname, dev=arguments.dev, plc_url=arguments.plc_url)
    shown: list[Prepared] = []

    def show(prepared: Prepared) -> None:
        if arguments.json:
            print(ujson.dumps(asdict(prepared)))
        else:
            print_prepared(prepared, data_dir, arguments.hostname)
            print(f"Next: {_next_step(data_dir)}")
        flush_output()
        shown.append(prepared)

    try:
        asyncio.run(_prepare(arguments, password, show))
    except BaseException:
        if setup.is_prepared(data_dir):
            raise
        # Only the settings written here: keys and whatever else is in the folder stay for the next try.
        (data_dir / settings.FILE_NAME).unlink(missing_ok=True)
        if shown:
            print("pds-lite: nothing was stored: what is shown above is void", file=sys.stderr)
        raise
    return 0


def flush_output() -> None:
    """What was printed has left this process; into a file, it is on the disk."""
    sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):  # a terminal or a pipe has no disk behind it
        os.fsync(sys.stdout.fileno())


def _set_aside(file: Path) -> None:
    """Settings over which no box was made: of an init that a power cut ended, or written by hand."""
    if file.exists():
        file.replace(file.with_name(f"{file.name}.old"))


async def _prepare(arguments: argparse.Namespace, password: str | None, show: Callable[[Prepared], None]) -> None:
    from pds_lite.app import open_box

    async with open_box(arguments.data_dir) as services:
        if arguments.empty:
            show(await setup.wait_for_claim(services, with_code=not arguments.no_claim_code))
            return
        await setup.make_account(
            services,
            handle=arguments.handle,
            email=arguments.email,
            password=password,
            did_method=arguments.did_method,
            publish=arguments.plc_url is not None,
            show=show,
        )


def print_prepared(prepared: Prepared, data_dir: Path, hostname: str) -> None:
    """What a person has to write down."""
    print(f"Prepared {data_dir} for {hostname}.")
    if prepared.did is not None:
        print(f"  DID           {prepared.did}")
        print(f"  handle        {prepared.handle}")
    if prepared.password is not None:
        print(f"  password      {prepared.password}")
    if prepared.recovery_key is not None:
        print(f"  recovery key  {prepared.recovery_key}")
        print("                Write it down: it overrules this box for your identity, and it is kept nowhere.")
    if prepared.claim_code is not None:
        print(f"  claim code    {prepared.claim_code}")
        print("                Give it as the invite code when you create or move your account here.")


def _next_step(data_dir: Path) -> str:
    if data_dir == SERVICE_DATA_DIR and SERVICE_UNIT.exists():
        return "sudo systemctl restart pds-lite"
    return as_typed("pds-lite serve", data_dir)
