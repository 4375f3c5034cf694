"""The build context of an image: which files of a directory belong to it, and a digest of what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pytest_enclave.errors import PackageError
from pytest_enclave.package.digest import digest_of_selected
from pytest_enclave.package.files import FileState
from pytest_enclave.package.tree import Tree

IGNORE = ".dockerignore"
"""The file that says what of the directory does not belong to the context."""


def read_context(directory: Path, build_file: str, name: str) -> tuple[str, tuple[FileState, ...]]:
    """The digest of the context, and the states of everything that was read for it.

    Raises PackageError where the directory or the build file is none, or something cannot be read.
    """
    if not directory.is_dir():
        raise PackageError(f"`{name}` is not a directory", remedy="name the directory that the image is built from")
    file = Tree(directory, f"`{name}`").existing(build_file, build_file)
    if not file.is_file():
        raise PackageError(f"`{build_file}` in `{name}` is not a file")
    ignore = FileState.of(directory / IGNORE)
    digest, states = digest_of_selected(directory, context_paths(directory, build_file), name)
    return digest, (ignore, FileState.of(file), *states)


def context_paths(directory: Path, build_file: str) -> list[str]:
    """What belongs to the context, files and directories, relative to it, in order. Raises PackageError."""
    patterns = _ignored(directory)
    if not patterns:
        return sorted(_below(directory, ""))
    # The SDK takes longer to import than most packages to interpret.
    from docker.utils.build import exclude_paths

    try:
        return sorted(exclude_paths(str(directory), patterns, build_file))
    except OSError as error:
        raise _unreadable(error) from None


def _ignored(directory: Path) -> list[str]:
    try:
        lines = (directory / IGNORE).read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(error) from None
    return [text for line in lines if (text := line.strip()) and not text.startswith("#")]


def _below(directory: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(directory))
    except OSError as error:
        raise _unreadable(error) from None
    for entry in entries:
        yield f"{prefix}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(directory / entry.name, f"{prefix}{entry.name}/")


def _unreadable(error: OSError) -> PackageError:
    return PackageError(f"`{error.filename}` cannot be read: {error.strerror}")
