"""The benchmark prints what it measured and notices a regression; no figure is judged here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECKOUT / "tools" / "bench_core.py"), "--quick", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    done = bench("--json", "--only", "validate")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_the_report_says_what_was_measured_and_where(report: dict[str, Any]) -> None:
    assert {"machine", "cpus", "python", "libraries"} <= report.keys()
    assert [row["name"] for row in report["results"]] == [
        "post: validate", "like: validate", "createRecord: validate input",
    ]  # fmt: skip
    assert all(row["best_cpu_us"] > 0 for row in report["results"])


@pytest.mark.parametrize(("earlier", "status"), [(1e9, 0), (1e-6, 1)])
def test_a_regression_beyond_the_factor_fails(
    report: dict[str, Any], tmp_path: Path, earlier: float, status: int
) -> None:
    for row in report["results"]:
        row["best_cpu_us"] = earlier
    before = tmp_path / "before.json"
    before.write_text(json.dumps(report))
    done = bench("--only", "like: validate", "--compare", str(before))
    assert done.returncode == status, done.stderr
    assert ("SLOWER" in done.stdout) == bool(status)


def test_rows_the_earlier_report_lacks_are_no_regression(report: dict[str, Any], tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    before.write_text(json.dumps({**report, "results": []}))
    done = bench("--only", "like: validate", "--compare", str(before))
    assert done.returncode == 0
    assert "new" in done.stdout


def test_a_name_nobody_has_is_an_error() -> None:
    assert bench("--only", "no such thing").returncode == 2


@pytest.mark.slow
def test_every_row_can_be_measured() -> None:
    done = bench("--json")
    assert done.returncode == 0, done.stderr
    names = {row["name"].partition(":")[0] for row in json.loads(done.stdout)["results"]}
    assert names >= {"post", "like", "tree", "commit", "store", "export", "import", "createRecord"}
