"""Where a store may live: a local folder of ours alone, entered by one process at a time.

LMDB maps its file into memory and locks it with the kernel of one machine; on a network file system either can fail
silently, so those are refused by name. Folders are 0700, files 0600: keys and password hashes lie in the store.
"""

import fcntl
import os
from pathlib import Path

from pds_lite.errors import ConfigError, Unavailable

LOCK_FILE = "store.lock"
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_TYPES = """
    nfs nfs4 cifs smb3 smbfs 9p afs ceph coda ncpfs glusterfs lustre davfs beegfs orangefs pvfs2
    fuse.sshfs fuse.glusterfs fuse.rclone fuse.s3fs fuse.curlftpfs fuse.davfs2 fuse.ceph fuse.juicefs fuse.smbnetfs
    fuse.gcsfuse fuse.goofys fuse.vmhgfs-fuse
"""
"""As mountinfo names them."""


def make_private_folder(folder: Path) -> None:
    """Creates `folder` and its parents; takes it from everybody but its owner."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def sync_folder(folder: Path) -> None:
    """Makes names created, renamed or removed in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_network_file_system(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raises ConfigError if `folder` lies on a network file system; silent where the kernel lists no mounts."""
    try:
        kind = _file_system_type(folder.resolve(), mounts.read_text())
    except OSError:
        return
    if kind in _NETWORK_TYPES.split():
        raise ConfigError(
            f"{folder} is on a network file system ({kind}), where the store cannot be kept safe",
            hint="Choose a data directory on a disk or card of this machine.",
        )


def _file_system_type(folder: Path, mountinfo: str) -> str:
    """The type of the mount with the longest path above `folder`; of equal ones the last covers the others.

    A line is: id parent major:minor root MOUNT-POINT options [tags...] - TYPE source options (proc(5)).
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount_point = Path(_unescape(left.split(" ")[4]))
        if len(mount_point.parts) >= best and (folder == mount_point or mount_point in folder.parents):
            best, kind = len(mount_point.parts), right.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    """Undo what mountinfo does to names: it writes space, tab, newline and backslash as three octal digits."""
    for code in ("\\040", "\\011", "\\012", "\\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text


def take_lock(folder: Path) -> int:
    """The descriptor whose flock keeps every other process out until it is closed. Raises Unavailable."""
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Unavailable(
            f"the store in {folder} is in use by another pds-lite",
            error="StoreInUse",
            hint="pds-lite status    shows what that one does; to have it end: Ctrl-C, or sudo systemctl stop pds-lite",
        ) from None
    return handle
