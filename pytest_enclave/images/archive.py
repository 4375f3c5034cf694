"""The files of an archive of images, be it a tar (compressed or not) or a directory."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Protocol

from pytest_enclave.images import compression
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.manifests import DOCUMENT_LIMIT
from pytest_enclave.images.stream import Limits
from pytest_enclave.images.tar import FILE, HARD_LINK, SYMLINK, TarReader
from pytest_enclave.images.tree import ThroughLink, Tree

MOST_FILES = 100_000
"""Files in an archive of images, not in its layers."""


class Files(Protocol):
    """The files of an archive, by their names in it."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def open(self, name: str) -> tuple[int, int]:
        """A descriptor that stands where the file begins, for the caller to close, and the file's size.

        Raises ImageFault if there is no such file.
        """


def read(files: Files, name: str) -> bytes:
    """A whole document. Raises ImageFault if it is missing or too long."""
    descriptor, size = files.open(name)
    with os.fdopen(descriptor, "rb") as file:
        if size > DOCUMENT_LIMIT:
            raise ImageFault(f"{name} of the archive has {size} bytes; {DOCUMENT_LIMIT} are the limit")
        return file.read(size)


@contextmanager
def opened(path: Path, work: Path, limits: Limits) -> Iterator[Files]:
    """The files of an archive. A compressed one is unpacked in `work`, within the limits. Raises ImageFault."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ImageFault(f"{path}: {(error.strerror or str(error)).lower()}", "is the path right?") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with Tree(str(path)) as tree:
                yield _Directory(tree)
        elif not compression.kind_of(descriptor):
            yield _Tar(descriptor)
        else:
            with compression.decompressed(descriptor, status.st_size, work, limits) as plain:
                yield _Tar(plain.fileno())
    finally:
        os.close(descriptor)


class _Directory:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lock = Lock()

    def has(self, name: str) -> bool:
        try:
            os.close(self.open(name)[0])
        except ImageFault:
            return False
        return True

    def open(self, name: str) -> tuple[int, int]:
        with self._lock:
            return self._open(_checked(name))

    def _open(self, name: str) -> tuple[int, int]:
        path = tuple(os.fsencode(part) for part in name.split("/"))
        try:
            parent = self._tree.parent(path, make=False)
            if stat.S_ISLNK(os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                # Older Dockers save a layer that occurs twice as a link.
                name = _checked(posixpath.join(posixpath.dirname(name), os.readlink(path[-1], dir_fd=parent).decode()))
                path = tuple(os.fsencode(part) for part in name.split("/"))
                parent = self._tree.parent(path, make=False)
            descriptor = os.open(path[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except (OSError, ThroughLink, UnicodeDecodeError):
            raise _missing(name) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _missing(name)
        return descriptor, status.st_size


class _Tar:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._position = 0
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        archive = TarReader(self)
        for entry in archive:
            name = posixpath.normpath(entry.name.decode("utf-8", "surrogateescape"))
            if entry.kind == FILE:
                self._members[name] = (archive.position, entry.size)
            elif entry.kind in (SYMLINK, HARD_LINK):
                link = entry.link.decode("utf-8", "surrogateescape")
                base = posixpath.dirname(name) if entry.kind == SYMLINK else ""
                self._links[name] = posixpath.normpath(posixpath.join(base, link))
            if len(self._members) + len(self._links) > MOST_FILES:
                raise ImageFault(f"the archive has more than {MOST_FILES} files, as no archive of images has")

    def has(self, name: str) -> bool:
        return self._links.get(name, name) in self._members

    def open(self, name: str) -> tuple[int, int]:
        name = posixpath.normpath(name)
        try:
            offset, size = self._members[self._links.get(name, name)]
        except KeyError:
            raise _missing(name) from None
        # A descriptor of its own: it has its own position.
        descriptor = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return descriptor, size

    def take(self, count: int) -> bytes:
        data = os.pread(self._descriptor, count, self._position)
        self._position += len(data)
        return data

    def skip(self, count: int) -> int:
        passed = max(0, min(count, self._size - self._position))
        self._position += passed
        return passed


def _checked(name: str) -> str:
    name = posixpath.normpath(name)
    if name.startswith(("/", "../")) or name in ("..", "."):
        raise ImageFault(f'the archive refers to "{name}", which is outside of it')
    return name


def _missing(name: str) -> ImageFault:
    return ImageFault(f"the archive has no {name}", "it is incomplete: make it again")
