#!/usr/bin/env python3
"""Writes pds_lite/lexicons.py from the lexicon files of an installed lexrpc (a dev extra; public domain).

    tools/generate_lexicons.py           write the file
    tools/generate_lexicons.py --check   exit 1 if the committed file differs from what would be written

Kept: every com.atproto document, every record type and permission set of NAMESPACES, EXTRA_ROOTS, and each definition
they refer to, directly or not. Left out: what describes and does not constrain. lexrpc is found, never imported (its
import costs 20 MB). The same lexrpc gives the same bytes with the same zlib.
"""

import argparse
import base64
import json
import sys
import zlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from pds_lite.atproto.lexicon.schema import MAIN_ONLY, parse_document  # noqa: E402

TARGET = CHECKOUT / "pds_lite" / "lexicons.py"
NAMESPACES = ("app.bsky.", "chat.bsky.", "site.standard.", "com.atproto.")
EXTRA_ROOTS = ("app.bsky.actor.getPreferences#main", "app.bsky.actor.putPreferences#main")
"""Methods outside com.atproto that a PDS answers itself."""
DESCRIPTIVE = {"description", "knownValues", "title:lang", "detail:lang"}

Docs = dict[str, dict[str, Any]]


def find_lexicon_files() -> Path | None:
    """The folder of lexicon files inside lexrpc; None if lexrpc is not installed."""
    spec = find_spec("lexrpc")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "lexicons"


def read_documents(folder: Path) -> Docs:
    """NSID to the defs of its document."""
    documents = [json.loads(path.read_bytes()) for path in sorted(folder.rglob("*.json"))]
    return {document["id"]: document["defs"] for document in documents}


def references(nsid: str, node: Any) -> set[str]:
    """Every absolute reference inside a definition."""
    if isinstance(node, list):
        return {found for item in node for found in references(nsid, item)}
    if not isinstance(node, dict):
        return set()
    named = {"ref": [node.get("ref")], "union": node.get("refs", [])}.get(str(node.get("type")), [])
    found = {absolute(nsid, reference) for reference in named if isinstance(reference, str)}
    return found.union(*(references(nsid, value) for value in node.values()))


def absolute(nsid: str, reference: str) -> str:
    document, _, name = reference.partition("#")
    return f"{document or nsid}#{name or 'main'}"


def is_root(nsid: str, name: str, definition: dict[str, Any]) -> bool:
    if nsid.startswith("com.atproto.") or f"{nsid}#{name}" in EXTRA_ROOTS:
        return True
    return nsid.startswith(NAMESPACES) and definition["type"] in {"record", "permission-set"}


def select(documents: Docs) -> set[str]:
    """The roots and all they refer to. A reference to something lexrpc lacks stops the generator."""
    wanted = [f"{nsid}#{name}" for nsid, defs in documents.items() for name in defs if is_root(nsid, name, defs[name])]
    chosen: set[str] = set()
    while wanted:
        target = wanted.pop()
        if target in chosen:
            continue
        chosen.add(target)
        nsid, _, name = target.partition("#")
        if name not in documents.get(nsid, {}):
            raise SystemExit(f"lexrpc has no {target}, which something refers to")
        wanted.extend(references(nsid, documents[nsid][name]))
    return chosen


def constraints(node: Any, *, names: bool = False) -> Any:
    """`node` without what only describes; in a map of `names` every key is kept."""
    if isinstance(node, list):
        return [constraints(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = node if names else {key: value for key, value in node.items() if key not in DESCRIPTIVE}
    return {key: constraints(value, names=key == "properties" and not names) for key, value in kept.items()}


def bundle(documents: Docs) -> bytes:
    """An index line (NSID to kind of its main definition, start, end) and the defs of each document, as JSON."""
    chosen: Docs = {}
    for target in sorted(select(documents)):
        nsid, _, name = target.partition("#")
        chosen.setdefault(nsid, {})[name] = constraints(documents[nsid][name])
    index: dict[str, tuple[str, int, int]] = {}
    text = bytearray()
    for nsid, defs in chosen.items():
        parse_document({"lexicon": 1, "id": nsid, "defs": defs})
        start = len(text)
        text += json.dumps(defs, separators=(",", ":"), ensure_ascii=False).encode()
        index[nsid] = (kind(defs), start, len(text))
    return json.dumps(index, separators=(",", ":")).encode() + b"\n" + bytes(text)


def kind(defs: dict[str, Any]) -> str:
    """What the catalog calls a document before parsing it; empty if it has no main definition."""
    if "main" not in defs:
        return ""
    return defs["main"]["type"] if defs["main"]["type"] in MAIN_ONLY else "object"


def module(packed: bytes, source: str) -> str:
    """The text of the generated module."""
    lines = base64.b64encode(packed).decode()
    wrapped = "\n".join(lines[start : start + 116] for start in range(0, len(lines), 116))
    return (
        f'"""Generated by tools/generate_lexicons.py from {source}; do not edit.\n\n'
        "BUNDLE is base64 of zlib of: one line of JSON, the index {nsid: [kind, start, end]}, then the JSON of each\n"
        "document's defs at those offsets, constraints only. Read it through pds_lite.atproto.lexicon.\n"
        f'"""\n\nBUNDLE = b"""\n{wrapped}\n"""\n'
    )


def generate(folder: Path) -> str:
    """The text that pds_lite/lexicons.py should have."""
    return module(zlib.compress(bundle(read_documents(folder)), 9), f"the lexicon files of lexrpc {version('lexrpc')}")


def contents(text: str) -> tuple[str, bytes]:
    """Docstring and unpacked data of a generated module: what must agree, whichever zlib packed it."""
    docstring, _, rest = text.partition('BUNDLE = b"""')
    return docstring, zlib.decompress(base64.b64decode(rest))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pds_lite/lexicons.py from an installed lexrpc.")
    parser.add_argument("--check", action="store_true", help="only say whether the committed file is current")
    arguments = parser.parse_args()
    folder = find_lexicon_files()
    if folder is None:
        raise SystemExit("lexrpc is not installed: pip install -e '.[dev]'")
    text = generate(folder)
    if arguments.check:
        if not TARGET.exists() or contents(TARGET.read_text()) != contents(text):
            raise SystemExit(f"{TARGET.name} is not current: run tools/generate_lexicons.py")
        print(f"{TARGET.name} is current")
        return
    TARGET.write_text(text)
    print(f"{TARGET}: {len(text)} bytes")


if __name__ == "__main__":
    main()
