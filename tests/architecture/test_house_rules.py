"""What imports cannot show: every module says what it is for, the core is pure, and the README tells all there is."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from pds_lite.cli.main import COMMANDS
from pds_lite.config import Config

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "pds_lite").rglob("*.py"))
README = (ROOT / "README.md").read_text()


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_begins_by_saying_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{named(path)} has no docstring"


@pytest.mark.parametrize("path", sorted((ROOT / "pds_lite" / "atproto").rglob("*.py")), ids=named)
def test_the_core_asks_no_clock(path):
    """`datetime` is allowed there for parsing; reading the time is not."""
    text = path.read_text()
    for call in (".now(", ".utcnow(", ".today(", "time.time", "monotonic("):
        assert call not in text, f"{named(path)} calls {call}"


def test_no_file_is_a_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "common", "manager", "misc"}
    assert not [named(path) for path in MODULES if path.stem in drawers or path.parent.name in drawers]


def test_the_readme_lists_every_setting():
    settings = {field.name for field in fields(Config) if "parse" in field.metadata}
    assert settings == {name for name in settings if f"`{name}`" in README}


def test_the_readme_lists_every_command():
    assert set(COMMANDS) == {name for name in COMMANDS if f"`pds-lite {name}" in README}


def test_the_readme_lists_every_dependency():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    names = re.findall(r'^\s+"([A-Za-z0-9_-]+)', block, re.MULTILINE)
    assert names
    assert set(names) == {name for name in names if f"| {name} |" in README}


def test_every_file_that_the_readme_names_is_there():
    for name in re.findall(r"`(pds_lite/[a-z_/0-9.]+|tests/[a-z_/]+|tools/[a-z_/.]+)`", README):
        assert (ROOT / name).exists(), name
