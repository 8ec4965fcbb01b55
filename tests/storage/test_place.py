"""A store lives on a disk of this machine, in a folder of its owner."""

from pathlib import Path

import pytest

from pds_lite.errors import ConfigError
from pds_lite.storage.place import make_private_folder, refuse_network_file_system

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /srv rw shared:1 - nfs4 server:/export rw
31 30 8:2 / /srv/local rw master:2 shared:5 - ext4 /dev/sda2 rw
32 22 0:41 / /with\\040space rw - cifs //nas/share rw
33 22 0:42 / /mnt/ssh rw - fuse.sshfs me@host: rw
34 22 8:3 / /over rw - nfs server:/x rw
35 22 8:3 / /over rw - xfs /dev/sdb rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    return tmp_path / "mountinfo"


@pytest.mark.parametrize("folder", ["/srv", "/srv/pds", "/srv/localish", "/with space/pds", "/mnt/ssh/a/b"])
def test_network_file_systems_are_refused_by_name(folder: str, mounts: Path) -> None:
    with pytest.raises(ConfigError, match="network file system"):
        refuse_network_file_system(Path(folder), mounts)


@pytest.mark.parametrize("folder", ["/", "/home/pi", "/srv/local/pds", "/mnt", "/over/pds", "/with"])
def test_local_ones_are_not(folder: str, mounts: Path) -> None:
    refuse_network_file_system(Path(folder), mounts)


def test_a_kernel_without_a_mount_list_is_believed(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path, tmp_path / "nothing")


def test_an_open_folder_is_taken_from_everybody_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o755)
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    make_private_folder(folder / "c")
    assert (folder / "c").stat().st_mode & 0o777 == 0o700
