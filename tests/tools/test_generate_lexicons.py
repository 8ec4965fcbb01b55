"""The generated bundle: current, complete, and without what does not constrain."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_lexicons", CHECKOUT / "tools" / "generate_lexicons.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(generator: ModuleType) -> Path:
    found = generator.find_lexicon_files()
    if found is None:
        pytest.skip("lexrpc is not installed: pip install -e '.[dev]'")
    assert isinstance(found, Path)
    return found


def test_the_committed_bundle_is_current(generator: ModuleType, folder: Path) -> None:
    committed = (CHECKOUT / "pds_lite" / "lexicons.py").read_text()
    assert generator.contents(committed) == generator.contents(generator.generate(folder))


def test_generating_twice_gives_the_same_bytes_and_imports_no_lexrpc(generator: ModuleType, folder: Path) -> None:
    assert generator.generate(folder) == generator.generate(folder)
    assert "lexrpc" not in sys.modules


def test_every_wanted_document_is_in_the_bundle(generator: ModuleType, folder: Path) -> None:
    documents = generator.read_documents(folder)
    index = json.loads(generator.bundle(documents).partition(b"\n")[0])
    for nsid, defs in documents.items():
        kind = defs.get("main", {}).get("type")
        if nsid.startswith("com.atproto.") or (
            kind in {"record", "permission-set"} and nsid.startswith(("app.bsky.", "chat.bsky.", "site.standard."))
        ):
            assert nsid in index
            assert index[nsid][0] == ("" if kind is None else kind if kind in generator.MAIN_ONLY else "object")
    assert {"app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences", "app.bsky.feed.post"} <= index.keys()
    assert "app.bsky.feed.getTimeline" not in index


def test_descriptions_go_and_constraints_stay(generator: ModuleType) -> None:
    definition = {
        "type": "object",
        "description": "gone",
        "properties": {
            "description": {"type": "string", "description": "gone", "maxLength": 3, "knownValues": ["gone"]},
            "knownValues": {"type": "array", "items": {"type": "string", "description": "gone"}},
            "properties": {"type": "integer", "description": "gone", "default": 1},
        },
    }
    assert generator.constraints(definition) == {
        "type": "object",
        "properties": {
            "description": {"type": "string", "maxLength": 3},
            "knownValues": {"type": "array", "items": {"type": "string"}},
            "properties": {"type": "integer", "default": 1},
        },
    }


def test_a_reference_to_nothing_stops_the_generator(generator: ModuleType) -> None:
    holed = {"com.atproto.x": {"main": {"type": "object", "properties": {"a": {"type": "ref", "ref": "#gone"}}}}}
    with pytest.raises(SystemExit, match=r"com\.atproto\.x#gone"):
        generator.bundle(holed)
