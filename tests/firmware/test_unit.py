"""The service runs with least privilege, and the scripts that install it are sound shell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
UNIT = FIRMWARE / "rootfs/etc/systemd/system/pds-lite.service"
MAX_EXPOSURE = 2.0
"""systemd's own score, 0 (locked up) to 10 (exposed); most distribution services stand above 9."""


def unit_settings():
    return dict(
        line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")
    )


def test_the_unit_runs_as_its_own_user_without_privileges():
    settings = unit_settings()
    assert settings["User"] == "pds-lite"
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["ProtectSystem"] == "strict"
    assert settings["StateDirectoryMode"] == "0700"


def test_systemd_finds_the_unit_little_exposed(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (apt-get install systemd)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    score = re.search(r"Overall exposure level for pds-lite.service: ([0-9.]+)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_the_scripts_parse_and_refuse_to_run_without_root_or_with_unknown_words(script):
    assert subprocess.run(["sh", "-n", FIRMWARE / script], check=False).returncode == 0
    done = subprocess.run(["sh", FIRMWARE / script, "--nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_every_path_the_installer_makes_is_taken_away_or_kept_on_purpose():
    """Whatever `install` writes outside the data and settings, `uninstall` removes."""
    uninstall = (FIRMWARE / "uninstall").read_text()
    for path in (
        "/opt/pds-lite",
        "/etc/systemd/system/pds-lite.service",
        "pds-lite.service.d",
        "/usr/local/bin/pds-lite",
    ):
        assert path in (FIRMWARE / "install").read_text()
        assert path in uninstall
