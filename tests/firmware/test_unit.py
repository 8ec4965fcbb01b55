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


def test_the_service_may_ask_whether_the_clock_is_set():
    """A board without a hardware clock has only adjtimex to go by; forbidden, it would refuse every write after a day.

    ProtectClock= and the set @privileged both forbid it, so it must be allowed again after the latter.
    """
    lines = UNIT.read_text().splitlines()
    assert not any(line.startswith("ProtectClock=") for line in lines)
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    allowed = filters.index("SystemCallFilter=adjtimex clock_adjtime")
    assert all("@privileged" not in line for line in filters[allowed:])


def test_the_service_may_keep_its_threads_on_one_core():
    filters = [line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    allowed = filters.index("SystemCallFilter=sched_setaffinity")
    assert all("@resources" not in line for line in filters[allowed:])


def test_systemd_waits_for_the_server_but_the_server_not_for_the_internet():
    assert unit_settings()["Type"] == "notify"
    assert "network-online.target" not in unit_settings()["After"]


def wrapper(tmp_path, environment, *words):
    """Runs the installed command's script with `env` in place of the program; its output."""
    program, settings = tmp_path / "program", tmp_path / "environment"
    program.write_text("#!/bin/sh\nenv\nprintf 'word:%s\\n' \"$@\"\n")
    program.chmod(0o755)
    settings.write_text(environment)
    script = (FIRMWARE / "rootfs/usr/local/bin/pds-lite").read_text()
    script = script.replace("/etc/pds-lite/environment", str(settings))
    script = script.replace("/opt/pds-lite/current/bin/pds-lite", str(program))
    script = script.replace("$(id -u)", "1").replace("$(id -un)", "pds-lite")
    done = subprocess.run(["sh", "-c", script, "pds-lite", *words], env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_goes_by_the_settings_of_the_service(tmp_path):
    """As systemd reads EnvironmentFile=: plain and quoted values, nothing executed, no other names."""
    said = wrapper(
        tmp_path,
        '# mine\nPDS_LITE_RELAYS=a, b\nPDS_LITE_PLC_URL="https://plc.example"\nPDS_LITE_PORT=$(id)\nLD_PRELOAD=x\n'
        "PDS_LITE_HOST='::1'",
        "account",
        "two words",
    ).splitlines()

    for line in (
        "PDS_LITE_RELAYS=a, b",
        "PDS_LITE_PLC_URL=https://plc.example",
        "PDS_LITE_PORT=$(id)",
        "PDS_LITE_HOST=::1",
        "PDS_LITE_DATA_DIR=/var/lib/pds-lite",
        "word:account",
        "word:two words",
    ):
        assert line in said
    assert not any(line.startswith("LD_PRELOAD") for line in said)


def test_a_box_without_settings_of_its_own_runs_its_commands(tmp_path):
    assert "word:status" in wrapper(tmp_path, "", "status")


def test_root_leaves_no_files_in_the_checkout():
    """pip builds where the sources lie: the installer hands it a copy."""
    install = (FIRMWARE / "install").read_text()
    assert '--no-compile "$source"' in install
    assert 'pip install --quiet --disable-pip-version-check --no-compile "$here"' not in install


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


def test_who_does_not_mean_it_loses_nothing():
    """The question comes before anything is taken away."""
    uninstall = (FIRMWARE / "uninstall").read_text()
    assert uninstall.index("read -r answer") < uninstall.index("systemctl disable") < uninstall.index("rm -rf")


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
