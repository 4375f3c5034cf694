"""A digest of what a file or directory tree contains: names, executable bits, link targets and bytes; no times."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_enclave.errors import PackageError
from pytest_enclave.package.files import FileState

_CHUNK = 1024 * 1024


def digest_of(path: Path, name: str) -> tuple[str, tuple[FileState, ...]]:
    """The digest of a file or tree in 64 hex digits, and the states of everything that was read for it.

    Raises PackageError for what is neither file, directory nor link, and for links that lead out of the tree.
    """
    digest = hashlib.sha256()
    states = [FileState.of(path)]
    if not path.is_dir():
        _add(digest, path, "", name)
        return digest.hexdigest(), tuple(states)
    for entry in _tree(path):
        relative = entry.relative_to(path).as_posix()
        _add(digest, entry, relative, name)
        if not entry.is_symlink():
            states.append(FileState.of(entry))
        else:
            _refuse_escaping_link(entry, path, name)
    return digest.hexdigest(), tuple(states)


def digest_of_selected(root: Path, paths: Iterable[str], name: str) -> tuple[str, tuple[FileState, ...]]:
    """The same of some of the files and directories below `root`, wherever links lead to. Raises PackageError."""
    digest = hashlib.sha256()
    states = [FileState.of(root)]
    for relative in paths:
        path = root / relative
        _add(digest, path, relative, name)
        if not path.is_symlink():
            states.append(FileState.of(path))
    return digest.hexdigest(), tuple(states)


def _tree(directory: Path) -> Iterator[Path]:
    """Everything below, in an order that does not depend on the file system."""
    for entry in sorted(directory.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _tree(entry)


def _add(digest: hashlib._Hash, path: Path, relative: str, name: str) -> None:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            _entry(digest, "link", relative, os.readlink(path))
        elif stat.S_ISDIR(mode):
            _entry(digest, "directory", relative)
        elif stat.S_ISREG(mode):
            _entry(digest, "program" if mode & stat.S_IXUSR else "file", relative, str(path.stat().st_size))
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        else:
            raise PackageError(f"`{name}` holds `{relative or path.name}`, a device, pipe or socket")
    except OSError as error:
        raise PackageError(f"`{name}`: `{relative or path.name}` cannot be read: {error.strerror}") from None


def _entry(digest: hashlib._Hash, *parts: str) -> None:
    """Each part behind its length, so that no two different trees give the same bytes."""
    for part in parts:
        data = os.fsencode(part)
        digest.update(b"%d:" % len(data) + data)


def _refuse_escaping_link(link: Path, root: Path, name: str) -> None:
    if not link.resolve().is_relative_to(root.resolve()):
        raise PackageError(
            f"`{name}` holds the link `{link.relative_to(root)}`, which leads out of it, to {os.readlink(link)}"
        )
