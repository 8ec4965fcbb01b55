"""`pds-lite version`: what is installed here, for a bug report."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from pds_lite import __version__, ujson

LIBRARIES = (
    "microdot",
    "uvicorn",
    "httptools",
    "wsproto",
    "orjson",
    "cbor2",
    "PyNaCl",
    "lmdb",
    "zeroconf",
    "coincurve",
    "cryptography",
    "dnspython",
    "Jinja2",
    "segno",
    "fido2",
    "regex",
)
"""Every dependency of pyproject.toml, in its order."""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the versions."""
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            libraries[name] = "missing"
    if arguments.json:
        facts = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
        print(ujson.dumps({**facts, "libraries": libraries}))
    else:
        print(f"pds-lite {__version__} (Python {platform.python_version()}, {platform.machine()})")
        print("  " + ", ".join(f"{name} {version}" for name, version in libraries.items()))
    return 0
