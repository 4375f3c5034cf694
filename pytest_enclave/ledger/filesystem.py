"""Whether files are on this machine, or on another one's disk: locks say little there."""

from __future__ import annotations

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2", "ncpfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "s3fs", "ceph", "rclone", "gcsfuse", "juicefs", "lustre")}
)
"""Types of file systems that several machines may have at once."""


def remote_type(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path is on, if that is another machine's; else, or if nobody can tell, ""."""
    try:
        device = os.stat(path).st_dev
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, described = line.partition(" - ")
        if mount.split()[2:3] == [number] and (kind := described.partition(" ")[0]) in REMOTE:
            return kind
    return ""
