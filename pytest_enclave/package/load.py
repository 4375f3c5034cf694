"""From what a user names to a `Package`, or to an error that says what is missing."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec.structs import replace

from pytest_enclave.errors import PackageError, Problem
from pytest_enclave.package import locators, manifest
from pytest_enclave.package.git.repositories import Checkout, Repositories
from pytest_enclave.package.package import Package, Resolver, Source
from pytest_enclave.package.tree import Tree

MAIN = "main.star"


def load(
    target: str | os.PathLike[str] | Source, resolve: Resolver | None = None, others: Repositories | None = None
) -> Package:
    """The package that a directory, a `.star` file, an absolute locator, or a test's `Source` stands for.

    A `.star` file below a `kurtosis.yml` is that package with another main file; any other stands alone. Locators are
    found by `resolve` or, where that does not know them, fetched into `others`. Raises PackageError where there is
    none, or its manifest is wrong.
    """
    if isinstance(target, Source):
        return Package(main=target.name, text=_encodable(target).replace("\r\n", "\n").replace("\r", "\n"))
    if locators.is_remote(target):
        return _remote(target, resolve, others)
    try:
        path = Path(target).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise PackageError(f"there is no package at {os.fspath(target)}", remedy=_where_to_look(target)) from None
    return _local(path)


def _local(path: Path) -> Package:
    if path.is_dir():
        return _directory(path)
    if path.suffix != ".star":
        raise PackageError(
            f"{path} is neither a package directory nor a `.star` file",
            remedy="name the directory that holds `kurtosis.yml`, or a Starlark file",
        )
    root = next((folder for folder in path.parents if (folder / manifest.FILE).is_file()), None)
    if root is None:
        return Package(main=path.name, script=path)
    return _package(path.relative_to(root).as_posix(), root, _described(root))


def _directory(path: Path) -> Package:
    if not (path / manifest.FILE).exists():
        raise PackageError(
            f"{path} is not a package: it has no `{manifest.FILE}`",
            remedy=f"write one with the line `name: github.com/author/{path.name or 'repository'}`",
        )
    described = _described(path)
    if not (path / MAIN).exists():
        raise PackageError(
            f"package `{described.name}` has no `{MAIN}` in {path}",
            remedy="write one with `def run(plan):`, or name the `.star` file to run",
        )
    return _package(MAIN, path, described)


def _described(root: Path) -> manifest.Manifest:
    return manifest.read(Tree(root, f"the package in {root}").inside(manifest.FILE, manifest.FILE))


def _package(main: str, root: Path, described: manifest.Manifest) -> Package:
    package = Package(
        main=main, name=described.name, root=root, manifest=described.state, replace=described.replace, repository=root
    )
    inner = package.locator.path.split("/") if package.locator and package.locator.path else []
    if not inner:
        return package
    # A package inside a repository: its siblings are at hand if this is a clone, by the looks of it.
    above = root.parents[len(inner) - 1] if len(root.parts) > len(inner) else root
    is_clone = list(root.parts[-len(inner) :]) == inner and (above / ".git").exists()
    return replace(package, repository=above if is_clone else None)


def _remote(target: str, resolve: Resolver | None, others: Repositories | None) -> Package:
    readings = locators.parse(target)
    path = resolve(str(readings[0]), "") if resolve else None
    if path is not None:
        return load(path)
    if others is None:
        raise PackageError(f"`{target}` is in another repository, and nothing is fetched here")
    checkout = others.checkout(readings)
    path = checkout.tree.existing(target, checkout.locator.path)
    return _fetched(target, path, checkout)


def _fetched(target: str, path: Path, checkout: Checkout) -> Package:
    top = checkout.tree.directory
    inside = [path, *path.parents][: len(path.relative_to(top).parts) + 1]
    root = next((folder for folder in inside if (folder / manifest.FILE).is_file()), None)
    if root is None or (path.is_dir() and root != path):
        raise PackageError(
            f"`{target}` is not a package: it has no `{manifest.FILE}`", remedy="name a directory that has one"
        )
    inner = root.relative_to(top).as_posix()
    repository = checkout.locator.repository
    place = repository if inner == "." else f"{repository}/{inner}"
    shown = f"{place}/{manifest.FILE}"
    file = checkout.tree.inside(shown, (root / manifest.FILE).relative_to(top).as_posix())
    manifest.refuse_other_place(manifest.read(file, shown), place, shown)
    warnings = (Problem(checkout.warning, severity="warning"),) if checkout.warning else ()
    return replace(_local(path), repository=top, is_fetched=True, warnings=warnings)


def _where_to_look(target: str | os.PathLike[str]) -> str:
    text = os.fspath(target)
    if with_scheme := re.search(rf"[a-z]:/+({re.escape(locators.HOST)}/.+)", text):
        return f"packages of other repositories are named without a scheme: `{with_scheme[1]}`"
    return f"the path is taken relative to {Path.cwd()}" if not os.path.isabs(text) else ""


def _encodable(source: Source) -> str:
    """The text, if there is a UTF-8 form of it: lone surrogates have none."""
    try:
        source.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PackageError(f"character {error.start} of `{source.name}` is half a surrogate pair, not text") from None
    return source.text
