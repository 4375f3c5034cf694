"""Locators: how package code names files (behaviour.md §3.4).

Within the package a file's name is its path from the root (`src/db.star`), elsewhere its absolute locator
(`github.com/author/repo/lib.star`). A relative locator is relative to the file it is written in, in both.
"""

from __future__ import annotations

import posixpath
import re

from pytest_enclave.errors import PackageError

HOST = "github.com"

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_FOREIGN_HOST = re.compile(r"(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev)/", re.IGNORECASE)


def is_remote(name: str) -> bool:
    """Whether a file's name is that of a file in another package."""
    return name.lower().startswith(f"{HOST}/")


def absolute(locator: str, caller: str, package: str | None) -> str:
    """The name of what `locator`, written in the file `caller` of `package` or of another one, stands for.

    Raises PackageError where the locator is malformed, leads above the root, or names its own package absolutely.
    """
    _refuse_malformed(locator)
    if is_remote(locator):
        _refuse_own(locator, caller, package)
        return locator
    if is_remote(caller):
        return _within_remote(locator, caller)
    base = "" if locator.startswith("/") else posixpath.dirname(caller)
    name = posixpath.normpath(posixpath.join(base, locator.lstrip("/")))
    if name == ".." or name.startswith("../"):
        raise PackageError(
            f"`{locator}` leads out of the package, above its root",
            remedy="packages see nothing outside their own directory; `/` is the package's root",
        )
    return name


def _refuse_malformed(locator: str) -> None:
    if not locator:
        raise PackageError("the locator is an empty string", remedy="write for example `./helpers.star`")
    if "\0" in locator:
        raise PackageError("the locator contains a NUL character")
    if scheme := _SCHEME.match(locator):
        raise PackageError(
            f"`{locator}` has a scheme: locators are written without one",
            remedy=f"write `{locator[scheme.end() :]}`",
        )
    if _FOREIGN_HOST.match(locator) and not is_remote(locator):
        raise PackageError(f"`{locator}` is not on {HOST}: packages come from there only")
    if is_remote(locator) and len([part for part in locator.split("/") if part]) < 3:
        raise PackageError(f"`{locator}` names no repository", remedy=f"write `{HOST}/author/repository/path`")


def _refuse_own(locator: str, caller: str, package: str | None) -> None:
    if package and not is_remote(caller) and f"{locator}/".lower().startswith(f"{package}/".lower()):
        raise PackageError(
            f"`{locator}` lies in this package itself, which takes relative locators only",
            remedy=f"write `{locator[len(package) :] or '/'}`",
        )


def _within_remote(locator: str, caller: str) -> str:
    """Relative to the calling file, or to its repository's root, but never above that."""
    parts = caller.split("/")
    repository, folder = "/".join(parts[:3]), "/".join(parts[3:-1])
    base = "" if locator.startswith("/") else folder
    path = posixpath.normpath(posixpath.join(base, locator.lstrip("/")))
    if path == ".." or path.startswith("../"):
        raise PackageError(f"`{locator}` leads out of the repository `{repository}`")
    return f"{repository}/{path}"
