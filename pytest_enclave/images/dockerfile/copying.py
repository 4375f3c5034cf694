"""What `COPY` and `ADD` put into an image, as a tar archive of it."""

from __future__ import annotations

import lzma
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.tar import XATTR
from pytest_enclave.package.digest import digest_of_selected
from pytest_enclave.package.wildcards import Wildcards

_DAMAGED = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(ValueError, ArithmeticError, LookupError, RecursionError),
)
"""What reading an archive raises where it is not one as a whole."""

_REMOTE = ("http://", "https://", "ftp://", "git@", "git://", "ssh://")


def refuse_remote(sources: Sequence[str]) -> None:
    """Raise ImageFault for a source that would have to be downloaded."""
    for source in sources:
        if source.startswith(_REMOTE):
            raise ImageFault(f"`ADD {source}` is not supported: nothing is downloaded", "let a `RUN` download it")


class Context:
    """A build context: `paths` are what belongs to it, relative to `directory`."""

    def __init__(self, directory: str, paths: Sequence[str]) -> None:
        self._directory = Path(directory)
        self._paths = paths

    def select(self, source: str) -> list[str]:
        """The paths that a source names, by itself or by wildcards. Raises ImageFault where it names none."""
        wanted = posixpath.normpath("/" + source).lstrip("/")
        if not wanted:
            return [""]
        if posixpath.normpath(source).startswith("../"):
            raise ImageFault(f"`{source}` leads out of the build context")
        try:
            parts = [_fitting(part) for part in wanted.split("/")]
        except ValueError as error:
            raise ImageFault(f"`{source}` is no pattern: {error}", "write `[[]` for a `[` in a name") from None
        everything = {*self._paths, *(parent for path in self._paths for parent in _parents(path))}
        found = [path for path in sorted(everything) if _matches(path.split("/"), parts)]
        if not found:
            raise ImageFault(f"`{source}` is not in the build context", "is it spelt so, and not in `.dockerignore`?")
        return found

    def is_directory(self, path: str) -> bool:
        """Whether a path of the context is a directory."""
        return path == "" or stat.S_ISDIR(self._mode(path))

    def is_archive(self, path: str) -> bool:
        """Whether a path of the context is an archive that `ADD` unpacks; a link to one is not. Raises ImageFault."""
        if not stat.S_ISREG(self._mode(path)):
            return False
        try:
            with _opened(self._inside(path)) as file, tarfile.open(fileobj=file):
                return True
        except tarfile.TarError:
            return False
        except _DAMAGED as error:
            raise _damaged(path, error) from None

    def digest(self, selected: Sequence[str]) -> str:
        """A digest of what these paths hold. Raises PackageError."""
        below = [inner for path in selected for inner in self._paths if _is_below(inner, path) or inner == path]
        return digest_of_selected(self._directory, below, "the build context")[0]

    def write(self, selected: Sequence[str], target: IO[bytes], *, unpack: bool) -> None:
        """Write files by their names, and what is in directories; with `unpack` also what is in archives."""
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in selected:
                if unpack and self.is_archive(path):
                    self._unpack(path, tar)
                elif self.is_directory(path):
                    for inner in self._paths:
                        if _is_below(inner, path):
                            self._add(tar, inner, inner[len(path) + 1 if path else 0 :])
                else:
                    self._add(tar, path, posixpath.basename(path))

    def _add(self, tar: tarfile.TarFile, path: str, name: str) -> None:
        tar.add(self._inside(path), name, recursive=False, filter=_owned_by_root)

    def _unpack(self, path: str, tar: tarfile.TarFile) -> None:
        try:
            with _opened(self._inside(path)) as file, tarfile.open(fileobj=file) as inner:
                for member in inner:
                    tar.addfile(member, inner.extractfile(member) if member.isreg() else None)
        except _DAMAGED as error:
            raise _damaged(path, error) from None

    def _mode(self, path: str) -> int:
        try:
            return self._inside(path).lstat().st_mode
        except OSError:
            return 0

    def _inside(self, path: str) -> Path:
        """Where a path of the context is: behind no link that leads out of it. Raises ImageFault."""
        file = self._directory / path
        if path and not file.parent.resolve().is_relative_to(self._directory.resolve()):
            raise ImageFault(f"`{path}` lies behind a link that leads out of the build context")
        return file


def _opened(file: Path) -> IO[bytes]:
    return open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _damaged(path: str, error: Exception) -> ImageFault:
    return ImageFault(f"the archive `{path}` cannot be unpacked: {error}", "is it there as a whole?")


def without_top(archive: IO[bytes], target: IO[bytes]) -> bool:
    """Write what is in the one directory of an archive, or its one file; whether it is a directory."""
    attribute = XATTR.decode()
    with (
        tarfile.open(fileobj=archive, mode="r") as read,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as written,
    ):
        members = read.getmembers()
        is_directory = bool(members) and members[0].isdir()
        length = len(members[0].name) + 1 if is_directory else 0
        for member in members[1:] if is_directory else members:
            content = read.extractfile(member) if member.isreg() else None
            member.name = member.name[length:]
            # Long names are there once more, and would count.
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key.startswith(attribute)}
            if member.islnk():
                member.linkname = member.linkname[length:]
            written.addfile(member, content)
    return is_directory


def _fitting(pattern: str) -> Callable[[str], bool]:
    return Wildcards.of(pattern).fit if any(char in pattern for char in "*?[") else pattern.__eq__


def _matches(parts: Sequence[str], pattern: Sequence[Callable[[str], bool]]) -> bool:
    return len(parts) == len(pattern) and all(fits(part) for part, fits in zip(parts, pattern, strict=True))


def _is_below(path: str, directory: str) -> bool:
    return not directory or path.startswith(f"{directory}/")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
