"""The files of a simulated service: those its script gives it, and those of the directories mounted in it.

A simulated service has no others: its image is a name only. Files of artifacts are read from the artifacts'
directories at the time they are asked for. Nothing ever writes to a persistent directory, so it has what the script
gives to the first service at its path.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path, PurePosixPath

from pytest_enclave.engine.protocol import NotReached

CHUNK = 64 * 1024
"""The size of the pieces that a tar stream comes in, in bytes."""


class Directories:
    """The persistent directories of an enclave: the content of each one's files by relative path, by its key."""

    def __init__(self, content: Mapping[str, Mapping[PurePosixPath, bytes]] | None = None) -> None:
        self._content = dict(content or {})

    def fill(self, key: str, content: Mapping[PurePosixPath, bytes]) -> None:
        """Be what a service's image has there, unless there is something already."""
        if not self._content.get(key):
            self._content[key] = dict(content)

    def content(self, key: str) -> Mapping[PurePosixPath, bytes]:
        """The files of one."""
        return self._content[key]

    def copy(self) -> Directories:
        """The same, for another enclave."""
        return Directories(self._content)


class Files:
    """What a service can read: `scripted` is content by absolute path, `mounts` artifacts' directories by mount path.

    `shared` has keys of persistent `directories` by mount path.
    """

    def __init__(
        self,
        scripted: Mapping[str, bytes],
        mounts: Mapping[str, Path],
        shared: Mapping[str, str],
        directories: Directories,
    ) -> None:
        self._scripted = {PurePosixPath(path): content for path, content in scripted.items()}
        self._mounts = {PurePosixPath(path): directory for path, directory in mounts.items()}
        self._shared = {PurePosixPath(path): key for path, key in shared.items()}
        self._directories = directories
        for path, key in self._shared.items():
            below = {known: self._scripted.pop(known) for known in [*self._scripted] if path in known.parents}
            directories.fill(key, {known.relative_to(path): content for known, content in below.items()})

    def within(self, directories: Directories) -> Files:
        """The same files in another enclave."""
        other = copy(self)
        other._directories = directories
        return other

    def content(self, path: str) -> bytes:
        """A file's content. Raises NotReached, in the words of `cat`, where there is no such file."""
        wanted = PurePosixPath(path)
        found = self._tree().get(wanted)
        if isinstance(found, bytes):
            return found
        if found is not None and found.is_file():
            return found.read_bytes()
        if any(wanted in (known, *known.parents) for known in self._tree()):
            raise NotReached("Is a directory")
        raise NotReached("No such file or directory")

    def tar(self, path: str) -> Iterator[bytes]:
        """A file, or a directory with all below it, under its own name, the same bytes for the same files.

        Raises NotReached where there is neither.
        """
        wanted = PurePosixPath(path)
        members = {known: source for known, source in self._tree().items() if wanted in (known, *known.parents)}
        if not members:
            raise NotReached(f"no such file or directory: {path}")
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for known, source in sorted(members.items()):
                _add(archive, str(known.relative_to(wanted.parent)), source)
        content = stream.getvalue()
        return (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))

    def _tree(self) -> dict[PurePosixPath, bytes | Path | None]:
        """Every path there is: its content, the artifact's file or directory, or None for a persistent directory.

        What is scripted wins.
        """
        tree: dict[PurePosixPath, bytes | Path | None] = {}
        for path, key in self._shared.items():
            tree[path] = None
            tree.update((path / name, content) for name, content in self._directories.content(key).items())
        for mount, directory in sorted(self._mounts.items()):
            root = directory.resolve()
            tree[mount] = root
            tree.update((mount / path.relative_to(root).as_posix(), path) for path in _inside(root))
        return {**tree, **self._scripted}


def _inside(root: Path) -> Iterator[Path]:
    """All below a directory, but links that lead out of it, into files that are none of the enclave's."""
    return (path for path in root.rglob("*") if path.resolve().is_relative_to(root))


def _add(archive: tarfile.TarFile, name: str, source: bytes | Path | None) -> None:
    if source is None:
        member = tarfile.TarInfo(name)
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
        return
    if isinstance(source, bytes):
        member = tarfile.TarInfo(name)
        member.size = len(source)
        archive.addfile(member, io.BytesIO(source))
        return
    member = archive.gettarinfo(source, name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    if member.isreg():
        with source.open("rb") as opened:
            archive.addfile(member, opened)
    else:
        archive.addfile(member)
