"""Reading a package's files: only regular ones, of a sane size, in UTF-8; and whether they changed since."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pytest_enclave.errors import PackageError
from pytest_enclave.source import Location

READ_LIMIT = 64 * 1024 * 1024
"""Bytes that a file read as text may have."""


class FileState(msgspec.Struct, frozen=True):
    """A cheap fingerprint: when it was modified, when anything about it was changed (nanoseconds), and size in bytes.

    All are None for a path where nothing was, -1 is a size that means nothing, as a directory's. Programs may set the
    first time back, and so put another file of the same size in its place, but not the second.
    """

    path: Path
    mtime_ns: int | None
    ctime_ns: int | None
    size: int | None

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state that the path is in now."""
        try:
            status = path.stat()
        except OSError:
            return cls(path, None, None, None)
        return cls.told(path, status)

    @classmethod
    def told(cls, path: Path, status: os.stat_result) -> FileState:
        """The state that the system tells of."""
        size = status.st_size if stat.S_ISREG(status.st_mode) else -1
        return cls(path, status.st_mtime_ns, status.st_ctime_ns, size)


def unchanged(states: Iterable[FileState]) -> bool:
    """Whether every file is still as it was; what was interpreted from them may then be used again."""
    return all(FileState.of(state.path) == state for state in states)


def read_text(path: Path, name: str, *, errors: str = "strict") -> tuple[str, FileState]:
    """The text of a file, with its line ends as `\\n`, and the state it was in when read.

    `errors` is what `bytes.decode` does about bytes that are not UTF-8.

    Raises PackageError where it is missing, not a regular file, too large, not readable, or not UTF-8.
    """
    data, state = _read(path, name)
    try:
        text = data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
        raise PackageError(
            f"byte {data[error.start]:#04x} at offset {error.start} is not UTF-8",
            location=Location(name, line, column),
            remedy="save the file as UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n"), state


def _read(path: Path, name: str) -> tuple[bytes, FileState]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PackageError(f"`{name}` does not exist (looked for {path})") from None
    except OSError as error:
        raise PackageError(f"`{name}` cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    try:
        _refuse_unreadable(status, name)
    except PackageError:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        return file.read(READ_LIMIT + 1), FileState.told(path, status)


def _refuse_unreadable(status: os.stat_result, name: str) -> None:
    """Opened without blocking and asked afterwards, so that nothing can be swapped in between."""
    if stat.S_ISDIR(status.st_mode):
        raise PackageError(f"`{name}` is a directory, where a file is needed")
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"`{name}` is neither a file nor a directory, but a device, pipe or socket")
    if status.st_size > READ_LIMIT:
        raise PackageError(f"`{name}` is larger than {READ_LIMIT // 2**20} MiB, the most that is read as text")
