"""`pds-lite serve`: runs the server; with nothing prepared it first makes a working local box and says what is next."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pds_lite import config as settings
from pds_lite import cores, ujson
from pds_lite.app import build, listen, open_box
from pds_lite.box import readiness, setup
from pds_lite.cli.typed import as_typed
from pds_lite.config import Config

DEFAULT_PORT = 2583


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The contract of decisions.md."""
    parser.add_argument("--host", default=None, help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=None, help=f"port to listen on (default {DEFAULT_PORT})")
    parser.add_argument("--dev", action="store_true", help="development: http, loopback peers, .test handles")
    parser.add_argument("--no-mdns", action="store_true", help="do not announce the box on the LAN")


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    if _is_fresh(arguments.data_dir):
        _prepare(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for sentence in settings.misspelt(os.environ):
        logging.warning("%s", sentence)
    config = settings.load(arguments.data_dir, overrides=_overrides(arguments))
    _warn_of_another_port(config)
    asyncio.run(_serve(config))
    return 0


def _warn_of_another_port(config: Config) -> None:
    """A box for trying out was made for one port; apps and pages follow its URL, wherever it listens now."""
    port = config.hostname.partition(":")[2]
    if port and config.unix_socket is None and port != str(config.port):
        logging.warning(
            "this box was made for port %s, and %s is what apps follow: listen there", port, config.public_url
        )


async def _serve(config: Config) -> None:
    cores.stay()
    workers = ThreadPoolExecutor(thread_name_prefix="worker", initializer=cores.roam)
    asyncio.get_running_loop().set_default_executor(workers)
    app = build(config)

    def ready() -> None:
        place = config.unix_socket or f"{config.host}:{config.port}"
        print(f"pds-lite serves {config.public_url} on {place}", file=sys.stderr, flush=True)
        readiness.notify(readiness.READY)

    try:
        app.start()
        await app.serve(ready)
    finally:
        readiness.notify(readiness.STOPPING)
        await app.stop()


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives; None where it says nothing."""
    return {
        "host": arguments.host,
        "port": arguments.port,
        "dev": True if arguments.dev else None,
        "mdns": False if arguments.no_mdns else None,
    }


def _is_fresh(data_dir: Path) -> bool:
    """Nothing is prepared, or an earlier first start was cut off; a public box waits for its owner's init."""
    if not (data_dir / settings.FILE_NAME).exists():
        return True
    return not setup.is_prepared(data_dir) and settings.load(data_dir).dev


def _prepare(arguments: argparse.Namespace) -> None:
    from pds_lite.cli.init import flush_output, print_prepared

    data_dir: Path = arguments.data_dir
    if not (data_dir / settings.FILE_NAME).exists():
        place = settings.load(data_dir, overrides=_overrides(arguments) | {"hostname": "localhost", "dev": True})
        if place.unix_socket is None:
            listen(place.host, place.port).close()  # the port becomes part of the identity: it must be ours to have
        settings.write_initial(data_dir, hostname=f"localhost:{place.port}", dev=True)
    hostname = settings.load(data_dir).hostname

    def show(prepared: setup.Prepared) -> None:
        if arguments.json:
            print(ujson.dumps(asdict(prepared)))
        else:
            print_prepared(prepared, data_dir, hostname)
            print(_first_steps(f"http://{hostname}", prepared))
        flush_output()

    async def prepare() -> None:
        async with open_box(data_dir) as services:
            await setup.make_account(
                services, handle=None, email="", password=None, did_method="plc", publish=False, show=show
            )

    asyncio.run(prepare())


def _first_steps(url: str, prepared: setup.Prepared) -> str:
    """What to try now: a snippet that signs in and posts (curl, or Python where there is no curl), the account page."""
    snippet = _CURL_SNIPPET if shutil.which("curl") else _PYTHON_SNIPPET
    for name, value in (("@URL@", url), ("@HANDLE@", prepared.handle), ("@PASSWORD@", prepared.password)):
        snippet = snippet.replace(name, value or "")
    return f"""
This is a box for trying out: its DID is not published. Post with it from another terminal:

{snippet}

Your account page: {url}/account
For a public box: {as_typed("pds-lite init", Path("DIR"))} --hostname your.domain
"""


_CURL_SNIPPET = r"""  URL=@URL@/xrpc JSON='Content-Type: application/json'
  TOKEN=$(curl -s $URL/com.atproto.server.createSession -H "$JSON" \
    -d '{"identifier": "@HANDLE@", "password": "@PASSWORD@"}' | sed 's/.*"accessJwt":"\([^"]*\).*/\1/')
  curl -s $URL/com.atproto.repo.createRecord -H "Authorization: Bearer $TOKEN" -H "$JSON" \
    -d '{"repo": "@HANDLE@", "collection": "app.bsky.feed.post",
         "record": {"text": "Hello from my own box", "createdAt": "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"}}'"""
_PYTHON_SNIPPET = """python3 - <<'END'
import datetime, json, urllib.request
def call(method, body, token=""):
    headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + token} if token else {})
    request = urllib.request.Request("@URL@/xrpc/" + method, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))
token = call("com.atproto.server.createSession", {"identifier": "@HANDLE@", "password": "@PASSWORD@"})["accessJwt"]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
record = {"text": "Hello from my own box", "createdAt": now}
post = {"repo": "@HANDLE@", "collection": "app.bsky.feed.post", "record": record}
print(json.dumps(call("com.atproto.repo.createRecord", post, token)))
END"""
