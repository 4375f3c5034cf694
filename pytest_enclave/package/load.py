"""From what a user names to a `Package`, or to an error that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_enclave.errors import PackageError
from pytest_enclave.package import manifest
from pytest_enclave.package.package import Package, Source

MAIN = "main.star"


def load(target: str | os.PathLike[str] | Source) -> Package:
    """The package that a directory, a `.star` file, or a test's `Source` stands for.

    A `.star` file below a `kurtosis.yml` is that package with another main file; any other stands alone.
    Raises PackageError where there is none, or its manifest is wrong.
    """
    if isinstance(target, Source):
        return Package(main=target.name, text=_encodable(target).replace("\r\n", "\n").replace("\r", "\n"))
    try:
        path = Path(target).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise PackageError(f"there is no package at {os.fspath(target)}", remedy=_where_to_look(target)) from None
    if path.is_dir():
        return _directory(path)
    if path.suffix != ".star":
        raise PackageError(
            f"{path} is neither a package directory nor a `.star` file",
            remedy="name the directory that holds `kurtosis.yml`, or a Starlark file",
        )
    root = _package_above(path)
    if root is None:
        return Package(main=path.name, script=path)
    described = manifest.read(root / manifest.FILE)
    return Package(main=path.relative_to(root).as_posix(), name=described.name, root=root, manifest=described.state)


def _directory(path: Path) -> Package:
    if not (path / manifest.FILE).exists():
        raise PackageError(
            f"{path} is not a package: it has no `{manifest.FILE}`",
            remedy=f"write one with the line `name: github.com/author/{path.name or 'repository'}`",
        )
    described = manifest.read(path / manifest.FILE)
    if not (path / MAIN).exists():
        raise PackageError(
            f"package `{described.name}` has no `{MAIN}` in {path}",
            remedy="write one with `def run(plan):`, or name the `.star` file to run",
        )
    return Package(main=MAIN, name=described.name, root=path, manifest=described.state)


def _package_above(path: Path) -> Path | None:
    return next((folder for folder in path.parents if (folder / manifest.FILE).is_file()), None)


def _where_to_look(target: str | os.PathLike[str]) -> str:
    text = os.fspath(target)
    if text.startswith("github.com/"):
        return "remote packages are not supported yet: clone it and name the directory"
    return f"the path is taken relative to {Path.cwd()}" if not os.path.isabs(text) else ""


def _encodable(source: Source) -> str:
    """The text, if there is a UTF-8 form of it: lone surrogates have none."""
    try:
        source.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PackageError(f"character {error.start} of `{source.name}` is half a surrogate pair, not text") from None
    return source.text
