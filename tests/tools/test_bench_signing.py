"""tools/bench_signing: every figure it prints was measured, and what was not measured is absent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_signing.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), "--seconds", "0.01", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def tool():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("bench_signing", TOOL)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_json_names_device_versions_and_every_operation_asked_for():
    finished = run("--json")
    report = json.loads(finished.stdout)
    operations = {(row["what"], row["library"], row["operation"].partition(",")[0]) for row in report["results"]}

    for what, library in (("k256", "coincurve"), ("k256", "cryptography"), ("p256", "cryptography")):
        assert {(what, library, name) for name in ("sign", "verify", "parse public key")} <= operations
    assert {
        ("k256", "coincurve", "sign a commit"),
        ("argon2id", "PyNaCl", "hash"),
        ("ed25519", "PyNaCl", "sign"),
    } <= operations
    assert report["python"].startswith("3.")
    assert report["libraries"]["coincurve"]
    assert ("board" in report) == Path("/proc/device-tree/model").exists()
    for row in report["results"]:
        assert row["operations_measured"] >= 5
        assert row["fastest_round_us"] <= row["wall_us"] <= row["slowest_round_us"]
    assert "suggested file: board_configs/measured/" in finished.stderr


def test_the_table_has_a_line_for_each_operation():
    lines = run().stdout.splitlines()

    assert "Python 3." in lines[0]
    assert sum("argon2id: hash" in line for line in lines) == 1


def test_memory_that_cannot_be_read_is_absent(tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, "memory_kib", lambda field: None)
    rows = tool.measure_group(("ed25519", "PyNaCl"), 0.01)

    assert all("memory_kib" not in row and "peak_memory_kib" not in row for row in rows)
    tool.print_table({**tool.describe_device(), "results": rows})
    assert capsys.readouterr().out.splitlines()[-1].split()[-2:] == ["-", "-"]


def test_a_missing_library_has_no_rows_but_a_sentence(tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, "GROUPS", {("nothing", "such"): dict})

    assert tool.measure_all(0.01) == []
    assert "not measured: nothing with such" in capsys.readouterr().err


def test_the_file_is_named_after_the_board_in_the_device_tree(tool, monkeypatch, tmp_path):
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi Zero 2 W Rev 1.0\0")
    monkeypatch.setattr(tool, "DEVICE_TREE_MODEL", model)
    report = {**tool.describe_device(), "python": "3.11.2"}

    assert report["board"] == "Raspberry Pi Zero 2 W Rev 1.0"
    assert tool.file_name(report) == "board_configs/measured/raspberry-pi-zero-2-w-rev-1-0-py311-signing.json"
