"""Which board this is and what it may use: facts and limits read from board_configs/.

A board file states facts; code asks for facts and limits, never for a board's name. A file names the device tree
`compatible` strings it answers to and extends a family (one per SoC), whose values it may override. Rules: every key is
known, typed and ranged; a contradiction (more memory promised than the board has) is refused with file, field and
reason. A machine without a device tree, or with one nobody described, gets `generic`, whose limits are the defaults
below, so the box also starts where no board_configs folder is installed.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pds_lite.errors import ConfigError

_DEVICE_TREE = "proc/device-tree"
_GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a board the server may use. MB are 2^20 bytes."""

    map_mb: int = 16384
    """LMDB's address space, the ceiling of records and events; costs no memory."""
    overlay_mb: int = 4
    """Old values kept for exports that run while records change."""
    event_log_mb: int = 256
    """Stored firehose events; the oldest go first."""
    did_cache: int = 500
    """DID documents and handles remembered."""
    argon2_mb: int = 19
    argon2_ops: int = 2
    connections: int = 256
    subscribers: int = 64
    exports: int = 2
    """Repository exports running at once."""
    memory_mb: int = 256
    """What the service may hold before the system reclaims from it; the systemd unit's MemoryHigh."""


@dataclass(frozen=True, slots=True)
class Board:
    """Facts of the board this process runs on, and its limits."""

    id: str
    name: str
    family: str
    arch: str
    ram_mb: int
    storage: str
    rtc: bool
    ethernet: bool
    wlan: bool
    watchdog: bool
    page_size: int
    limits: Limits


_RANGES: dict[str, tuple[int, int]] = {
    "ram_mb": (256, 1 << 20),
    "page_size": (4096, 65536),
    "map_mb": (64, 1 << 20),
    "overlay_mb": (1, 256),
    "event_log_mb": (16, 65536),
    "did_cache": (10, 100_000),
    "argon2_mb": (19, 1024),
    "argon2_ops": (2, 16),
    "connections": (16, 10_000),
    "subscribers": (2, 5_000),
    "exports": (1, 16),
    "memory_mb": (64, 1 << 18),
}
_WORDS = {"arch": ("aarch64", "armv7l", "x86_64", "any"), "storage": ("sd", "emmc", "nvme", "any")}
_FACTS: dict[str, type] = {
    "name": str,
    "family": str,
    "arch": str,
    "ram_mb": int,
    "storage": str,
    "rtc": bool,
    "ethernet": bool,
    "wlan": bool,
    "watchdog": bool,
    "page_size": int,
}
_LIMITS = {field.name: int for field in fields(Limits)}


def configs_folder() -> Path | None:
    """PDS_LITE_BOARD_CONFIGS, else board_configs of the checkout or of the installation; None if there is none.

    Raises ConfigError if the one that was chosen is no folder.
    """
    chosen = os.environ.get("PDS_LITE_BOARD_CONFIGS")
    if chosen:
        if not Path(chosen).is_dir():
            raise ConfigError(f"PDS_LITE_BOARD_CONFIGS = {chosen!r}: there is no such folder")
        return Path(chosen)
    places = (
        Path(__file__).resolve().parents[2] / "board_configs",
        Path(sys.prefix) / "share" / "pds-lite" / "board_configs",
    )
    return next((place for place in places if place.is_dir()), None)


def detect(root: Path = Path("/"), configs: Path | None = None) -> Board:
    """The board whose file names the most specific of the device tree's compatible strings, else `generic`.

    Raises ConfigError if a board file is invalid.
    """
    configs = configs or configs_folder()
    if configs is None:
        return _generic_board()
    compatible = _device_tree_compatible(root)
    boards = {path.stem: path for path in sorted(configs.glob("*.toml"))}
    by_string = {text: path for path in boards.values() for text in _read(path).get("compatible", ())}
    for text in compatible:
        if text in by_string:
            return load_board(by_string[text])
    return load_board(boards[_GENERIC]) if _GENERIC in boards else _generic_board()


def load_board(path: Path) -> Board:
    """One board file merged over its family. Raises ConfigError with file, field and reason."""
    own = _read(path)
    _check_compatible(path, own)
    base: Mapping[str, Any] = {}
    if "extends" in own:
        family_path = path.parent / "families" / f"{own['extends']}.toml"
        if not family_path.is_file():
            raise _wrong(path, "extends", f"there is no families/{own['extends']}.toml")
        base = _read(family_path)
        _check_keys(family_path, base, allow=())
    _check_keys(path, own, allow=("extends", "compatible"))
    facts = {key: value for key, value in {**base, **own}.items() if key in _FACTS}
    limits = {**base.get("limits", {}), **own.get("limits", {})}
    for key in _FACTS:
        if key not in facts:
            raise _wrong(path, key, "is missing here and in the family")
    board = Board(id=path.stem, limits=Limits(**limits), **facts)
    if board.limits.memory_mb > board.ram_mb * 3 // 4:
        raise _wrong(path, "limits.memory_mb", f"is more than three quarters of ram_mb ({board.ram_mb})")
    if board.limits.argon2_mb > board.limits.memory_mb // 3:
        raise _wrong(path, "limits.argon2_mb", "is more than a third of memory_mb")
    return board


def _generic_board() -> Board:
    return Board(_GENERIC, "any machine", _GENERIC, "any", 1024, "any", False, True, True, False, 4096, Limits())


def _device_tree_compatible(root: Path) -> list[str]:
    try:
        return (
            (root / _DEVICE_TREE / "compatible").read_bytes()[:4096].decode("ascii", "replace").strip("\0").split("\0")
        )
    except OSError:
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise _wrong(path, "file", f"is not readable as TOML: {problem}") from None


def _check_compatible(path: Path, table: Mapping[str, Any]) -> None:
    strings = table.get("compatible")
    if path.stem == _GENERIC and strings is None:
        return
    if (
        not isinstance(strings, list)
        or not strings
        or not all(isinstance(text, str) and "," in text for text in strings)
    ):
        raise _wrong(path, "compatible", 'must be a list of device tree strings such as "vendor,board"')


def _check_keys(path: Path, table: Mapping[str, Any], allow: tuple[str, ...]) -> None:
    for key, value in table.items():
        if key == "limits" and isinstance(value, dict):
            for name, number in value.items():
                _check_value(path, f"limits.{name}", name, number, _LIMITS)
        elif key not in allow:
            _check_value(path, key, key, value, _FACTS)


def _check_value(path: Path, field: str, key: str, value: object, known: Mapping[str, type]) -> None:
    if key not in known:
        raise _wrong(path, field, f"is not a known field; known are {', '.join(sorted(known))}")
    if type(value) is not known[key]:
        raise _wrong(path, field, f"must be {known[key].__name__}, not {type(value).__name__}")
    if isinstance(value, int) and key in _RANGES:
        low, high = _RANGES[key]
        if not low <= value <= high:
            raise _wrong(path, field, f"is {value}, outside {low} to {high}")
    if key in _WORDS and value not in _WORDS[key]:
        raise _wrong(path, field, f"is {value!r}, not one of {', '.join(_WORDS[key])}")


def _wrong(path: Path, field: str, reason: str) -> ConfigError:
    where = f"families/{path.name}" if path.parent.name == "families" else path.name
    return ConfigError(f"board_configs/{where}: {field} {reason}")
