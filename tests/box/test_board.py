"""The board is chosen by the device tree, and a wrong file is refused with file, field and reason."""

import re
from pathlib import Path

import pytest

from pds_lite.box import board
from pds_lite.box.board import Limits, detect, load_board
from pds_lite.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "board_configs"
BOARDS = sorted(CONFIGS.glob("*.toml"))
INVALID = sorted((Path(__file__).parents[1] / "boards").glob("invalid-*.toml"))


def device_tree(root: Path, *compatible: str) -> Path:
    folder = root / "proc" / "device-tree"
    folder.mkdir(parents=True)
    (folder / "compatible").write_bytes(b"".join(text.encode() + b"\0" for text in compatible))
    return root


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_shipped_board_parses(path):
    found = load_board(path)
    assert found.id == path.stem
    assert found.limits.memory_mb < found.ram_mb


def test_every_family_is_used():
    used = {re.search(r'extends = "(.*)"', path.read_text())[1] for path in BOARDS if path.stem != "generic"}
    assert used == {path.stem for path in (CONFIGS / "families").glob("*.toml")}


def test_no_two_boards_claim_the_same_compatible_string():
    strings = [text for path in BOARDS for text in board._read(path).get("compatible", ())]
    assert len(strings) == len(set(strings))


def test_the_most_specific_string_wins(tmp_path):
    root = device_tree(tmp_path, "raspberrypi,model-zero-2-w", "brcm,bcm2837")
    assert detect(root, CONFIGS).id == "rpi-zero-2-w"


def test_an_unknown_board_and_no_device_tree_get_generic(tmp_path):
    assert detect(tmp_path / "nothing", CONFIGS).id == "generic"
    assert detect(device_tree(tmp_path, "acme,unheard-of"), CONFIGS).id == "generic"


def test_generic_is_the_built_in_default(tmp_path):
    assert load_board(CONFIGS / "generic.toml").limits == Limits()
    assert detect(tmp_path, tmp_path / "no-such-folder").limits == Limits()


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_file_is_refused_for_its_stated_reason(path, tmp_path):
    """The first line of each sample says which field and reason the refusal must name."""
    wanted = path.read_text().splitlines()[0].removeprefix("# refused: ")
    families = tmp_path / "families"
    families.mkdir()
    for family in (CONFIGS / "families").glob("*.toml"):
        (families / family.name).write_text(family.read_text())
    copy = tmp_path / path.name
    copy.write_text(path.read_text())

    with pytest.raises(ConfigError) as refusal:
        load_board(copy)
    assert str(refusal.value).startswith(f"board_configs/{path.name}: ")
    assert wanted in str(refusal.value)


def test_no_board_is_named_in_the_code():
    names = [load_board(path).name for path in BOARDS] + [path.stem for path in BOARDS if path.stem != "generic"]
    for source in (CONFIGS.parent / "pds_lite").rglob("*.py"):
        text = source.read_text()
        assert not [name for name in names if name in text and name != "any machine"], source


def test_a_chosen_folder_that_is_not_there_is_no_reason_to_take_another(tmp_path, monkeypatch):
    monkeypatch.setenv("PDS_LITE_BOARD_CONFIGS", str(tmp_path / "misspelt"))
    with pytest.raises(ConfigError, match="misspelt"):
        board.detect(tmp_path)
