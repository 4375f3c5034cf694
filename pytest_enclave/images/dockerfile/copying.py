"""What `COPY` and `ADD` put into an image, as a tar archive of it."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.package.digest import digest_of_selected

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
        parts = wanted.split("/")
        everything = {*self._paths, *(parent for path in self._paths for parent in _parents(path))}
        found = [path for path in sorted(everything) if _matches(path.split("/"), parts)]
        if not found:
            raise ImageFault(f"`{source}` is not in the build context", "is it spelt so, and not in `.dockerignore`?")
        return found

    def is_directory(self, path: str) -> bool:
        """Whether a path of the context is a directory."""
        return path == "" or ((self._directory / path).is_dir() and not (self._directory / path).is_symlink())

    def is_archive(self, path: str) -> bool:
        """Whether a path of the context is an archive that `ADD` unpacks."""
        file = self._directory / path
        return file.is_file() and tarfile.is_tarfile(file)

    def digest(self, selected: Sequence[str]) -> str:
        """A digest of what these paths hold. Raises PackageError."""
        below = [inner for path in selected for inner in self._paths if _is_below(inner, path) or inner == path]
        return digest_of_selected(self._directory, below, "the build context")[0]

    def write(self, selected: Sequence[str], target: IO[bytes], *, unpack: bool) -> None:
        """Write files by their names, and what is in directories; with `unpack` also what is in archives."""
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in selected:
                if unpack and self.is_archive(path):
                    _copy_archive(self._directory / path, tar)
                elif self.is_directory(path):
                    for inner in self._paths:
                        if _is_below(inner, path):
                            self._add(tar, inner, inner[len(path) + 1 if path else 0 :])
                else:
                    self._add(tar, path, posixpath.basename(path))

    def _add(self, tar: tarfile.TarFile, path: str, name: str) -> None:
        tar.add(self._directory / path, name, recursive=False, filter=_owned_by_root)


def _copy_archive(archive: Path, tar: tarfile.TarFile) -> None:
    with tarfile.open(archive) as inner:
        for member in inner:
            tar.addfile(member, inner.extractfile(member) if member.isreg() else None)


def without_top(archive: IO[bytes], target: IO[bytes]) -> bool:
    """Write what is in the one directory of an archive, or its one file; whether it is a directory."""
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
            if member.islnk():
                member.linkname = member.linkname[length:]
            written.addfile(member, content)
    return is_directory


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))


def _is_below(path: str, directory: str) -> bool:
    return not directory or path.startswith(f"{directory}/")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
