"""What a file tree is built from: overlays, binds, tmpfs, and the kernel's own file systems. All mounts are private.

Works as root of a user namespace too; there, what a mount was locked to by the namespace above it stays so.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pytest_enclave.linux.syscalls import (
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    mount,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_OPTIONS = 4000
"""The options of a mount must fit into a page of 4,096 bytes."""

SPECIAL = frozenset(":,\\")
"""What separates or escapes in an overlay's options, in a way that differs between kernels."""

TERMINALS_GROUP = 5
"""The group `tty`, the same on all distributions."""

_LOCKED = (
    (2, MS_NOSUID),
    (4, MS_NODEV),
    (8, MS_NOEXEC),
    (1024, MS_NOATIME),
    (2048, MS_NODIRATIME),
    (4096, MS_RELATIME),
    (8192, MS_NOSYMFOLLOW),
)
"""Flags as statvfs tells them, and as mount takes them. A remount may not clear them in a user namespace."""


def tmpfs(target: str, options: str = "") -> None:
    """Mount an empty tmpfs. `options` are such as `mode=755,size=64m`."""
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, options)


def bind(source: str, target: str, read_only: bool = False, recursive: bool = False) -> None:
    """Show a file or directory at another place; what is mounted below it too, as it is, if `recursive`."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """Let nothing be written by this mount any more; other mounts of the same files stay as they are."""
    present = os.statvfs(target).f_flag
    locked = sum(flag for told, flag in _LOCKED if present & told)
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | locked)


def overlay(lowers: Sequence[str], upper: str, work: str, target: str) -> None:
    """Mount directories as one: `lowers` from the bottom to the top, and `upper`, where writes go.

    `work` is an empty directory next to `upper`. Removed files are told by whiteouts, replaced directories by user
    xattrs: `upper` must be on a file system that has them. Raises OSError, E2BIG where there are too many lowers.
    """
    paths = [*reversed(lowers), upper, work]
    options = _overlay_options(paths)
    if len(os.fsencode(options)) <= LONGEST_OPTIONS and not any(SPECIAL & set(path) for path in paths):
        mount("overlay", target, "overlay", MS_NODEV, options)
        return
    # Short names without special characters: the directories as descriptors, by /proc.
    opened: list[int] = []
    try:
        for path in paths:
            opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
        options = _overlay_options([f"/proc/self/fd/{descriptor}" for descriptor in opened])
        if len(options) > LONGEST_OPTIONS:
            raise OSError(
                errno.E2BIG, f"an overlay of {len(lowers)} directories is more than one mount can take", target
            )
        mount("overlay", target, "overlay", MS_NODEV, options)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def proc(target: str) -> None:
    """Mount the processes of this PID namespace."""
    mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def sysfs_read_only(target: str) -> None:
    """Mount sysfs with the devices of this network namespace; nothing in it can be written."""
    mount("sysfs", target, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)


def devpts(target: str) -> None:
    """Mount an instance of pseudo terminals of its own; its `ptmx` is open to all."""
    options = "newinstance,ptmxmode=0666,mode=0620"
    try:
        mount("devpts", target, "devpts", MS_NOSUID | MS_NOEXEC, f"{options},gid={TERMINALS_GROUP}")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # This user namespace has no such group.
        mount("devpts", target, "devpts", MS_NOSUID | MS_NOEXEC, options)


def private_root() -> None:
    """Keep the mounts of this mount namespace to itself: none comes in from others, none goes out."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def tmpfs_has_user_xattrs(directory: str) -> bool:
    """Whether an overlay's upper can be in `directory`, on a tmpfs: before Linux 6.6 it cannot. It must be our own."""
    try:
        os.setxattr(directory, "user.enclave", b"")
        os.removexattr(directory, "user.enclave")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


def _overlay_options(paths: Sequence[str]) -> str:
    *lowers, upper, work = paths
    return f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},userxattr"
