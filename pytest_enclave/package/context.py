"""The build context of an image: which files of a directory belong to it, and a digest of what they hold."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from pytest_enclave.errors import PackageError
from pytest_enclave.package.digest import digest_of_selected
from pytest_enclave.package.files import FileState, read_text
from pytest_enclave.package.ignoring import Ignored
from pytest_enclave.package.tree import Tree

IGNORE = ".dockerignore"
"""The file that says what of the directory does not belong to the context."""


def read_context(directory: Path, build_file: str, name: str) -> tuple[str, tuple[FileState, ...]]:
    """The digest of the context, and the states of everything that was read for it.

    Raises PackageError where the directory or the build file is none, or something cannot be read.
    """
    if not directory.is_dir():
        raise PackageError(f"`{name}` is not a directory", remedy="name the directory that the image is built from")
    file = _build_file(directory, build_file, name)
    ignore = FileState.of(directory / IGNORE)
    digest, states = digest_of_selected(directory, context_paths(directory, build_file, name), name)
    return digest, (ignore, FileState.of(file), *states)


def read_build_file(directory: Path, build_file: str, name: str, *, strict: bool = True) -> str:
    """The text of the build file; what is not UTF-8 in it is an error only where that is strict.

    Raises PackageError where it is no file of the context, too large, or cannot be read.
    """
    file = _build_file(directory, build_file, name)
    return read_text(file, _named(name, build_file), errors="strict" if strict else "replace")[0]


def context_paths(directory: Path, build_file: str, name: str) -> list[str]:
    """What belongs to the context, files and directories, relative to it, in order. Raises PackageError.

    The build file belongs to it whatever is ignored, and what it leads to if it is a link.
    """
    file = _build_file(directory, build_file, name)
    always = {IGNORE, posixpath.normpath(build_file), file.relative_to(directory.resolve()).as_posix()}
    try:
        return sorted(_below(directory, _ignored(directory, name), always))
    except OSError as error:
        raise PackageError(f"`{error.filename}` cannot be read: {error.strerror}") from None


def _build_file(directory: Path, build_file: str, name: str) -> Path:
    # Without its `..`, as the Docker API looks for it, whatever a link before them leads to.
    file = _tree(directory, name).existing(build_file, posixpath.normpath(build_file))
    if not file.is_file():
        raise PackageError(f"`{build_file}` in `{name}` is not a file")
    return file


def _ignored(directory: Path, name: str) -> Ignored:
    title = _named(name, IGNORE)
    file = _tree(directory, name).inside(IGNORE, IGNORE)
    return Ignored.of(read_text(file, title)[0], title) if file.exists() else Ignored()


def _tree(directory: Path, name: str) -> Tree:
    return Tree(directory.resolve(), f"`{name}`")


def _named(name: str, path: str) -> str:
    return path if name == "." else f"{name}/{path}"


def _below(directory: Path, ignored: Ignored, always: set[str]) -> Iterator[str]:
    parents = {os.path.dirname(path) for path in always}
    parents |= {above.as_posix() for path in parents for above in Path(path).parents}
    left = [("", ignored)]
    while left:
        prefix, known = left.pop()
        with os.scandir(directory / prefix) as entries:
            for entry in entries:
                path, of_it = f"{prefix}{entry.name}", known.below(entry.name)
                if path in always or not of_it.itself:
                    yield path
                if entry.is_dir(follow_symlinks=False) and (path in parents or not of_it.wholly):
                    left.append((f"{path}/", of_it))
