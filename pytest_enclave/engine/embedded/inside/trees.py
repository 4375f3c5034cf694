"""Removing what a service has written, however deep it is."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, links never followed; nothing if it is not there. Raises OSError.

    Directories are brought up into the top one before they are emptied, so no depth is too much. To be called with the
    right to change whatever is there.
    """
    with suppress(FileNotFoundError):
        top = os.open(path, _DIRECTORY)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path)


def _empty(top: int) -> None:
    raised = 0
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            directory = _open(name, top)
            try:
                for entry in os.listdir(directory):
                    if stat.S_ISDIR(os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode):
                        raised += 1
                        _raise(entry, directory, top, raised)
                    else:
                        os.unlink(entry, dir_fd=directory)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=top)


def _raise(entry: str, directory: int, top: int, number: int) -> None:
    """Move a directory up, under a name that nothing there has."""
    with suppress(FileNotFoundError):
        while True:
            os.stat(f"{number}.removed", dir_fd=top, follow_symlinks=False)
            number += 1 << 32
    os.rename(entry, f"{number}.removed", src_dir_fd=directory, dst_dir_fd=top)


def _open(name: str, top: int) -> int:
    """Open a directory; one that its owner may not read is opened up before."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=top)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=top)
        return os.open(name, _DIRECTORY, dir_fd=top)
