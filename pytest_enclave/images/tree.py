"""Writing below one directory, whatever names an archive has: links that the archive made are never followed.

Every path is walked from the directory's own descriptor, component by component, with O_NOFOLLOW. Standard library
alone: this runs in the unpacking process.
"""

from __future__ import annotations

import errno
import os
import stat

from pytest_enclave.images.faults import ImageFault

DEEPEST = 256
"""Directories below each other; more are an attack on whatever removes them again."""

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ThroughLink(Exception):
    """A path leads through something that is no directory."""


class Tree:
    """The directory `root`, open for changes. Paths are tuples of names. Not for several threads."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, OPEN_DIRECTORY)
        self._open: list[tuple[bytes, int]] = []

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget(0)
        os.close(self._root)

    def parent(self, path: tuple[bytes, ...], make: bool = True) -> int:
        """The descriptor of the directory that `path` lies in; good until the next call.

        Directories on the way are made if they are missing. Raises ThroughLink, or FileNotFoundError without `make`.
        """
        wanted = path[:-1]
        if len(wanted) > DEEPEST:
            raise ImageFault(f"directories {len(wanted)} deep; {DEEPEST} are the limit")
        same = 0
        while same < len(self._open) and same < len(wanted) and self._open[same][0] == wanted[same]:
            same += 1
        self._forget(same)
        for name in wanted[same:]:
            self._open.append((name, self._step(name, make)))
        return self._top

    def directory(self, path: tuple[bytes, ...]) -> int:
        """The descriptor of a directory that is there, for the caller to close. Raises ThroughLink, OSError."""
        if not path:
            return os.dup(self._root)
        return self._into(path[-1], self.parent(path, make=False))

    def clear(self, path: tuple[bytes, ...]) -> None:
        """Remove what is at `path`, be it a tree. The root itself stays."""
        parent = self.parent(path)
        try:
            os.unlink(path[-1], dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            remove(parent, path[-1])

    @property
    def _top(self) -> int:
        return self._open[-1][1] if self._open else self._root

    def _step(self, name: bytes, make: bool) -> int:
        try:
            return self._into(name, self._top)
        except FileNotFoundError:
            if not make:
                raise
        os.mkdir(name, 0o755, dir_fd=self._top)
        os.chmod(name, 0o755, dir_fd=self._top)
        return self._into(name, self._top)

    def _into(self, name: bytes, parent: int) -> int:
        try:
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ThroughLink(name.decode("utf-8", "backslashreplace")) from None
            raise

    def _forget(self, keep: int) -> None:
        while len(self._open) > keep:
            os.close(self._open.pop()[1])


def remove(parent: int, name: bytes) -> None:
    """Remove a file or a whole tree in the directory `parent`, links never followed. Raises OSError.

    Directories that their owner has locked away from himself are opened up first.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    try:
        directory = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        directory = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        entries = os.listdir(directory)
        if entries and os.fstat(directory).st_mode & 0o700 != 0o700:
            os.fchmod(directory, 0o700)
        for entry in entries:
            remove(directory, os.fsencode(entry))
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)
