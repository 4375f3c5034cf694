"""`replace` in `kurtosis.yml`: of the packages named there that a file lies in, the longest counts (behaviour.md §3.4).

Only the main package's `replace` counts. What stands in for a package is not looked up again, and has its own version
or none, whatever version was asked for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

import msgspec

from pytest_enclave.package.locators import Locator, parse
from pytest_enclave.package.manifest import is_local


class LocalPath(msgspec.Struct, frozen=True):
    """A path that stands in for the package `package`; `path` is that of the file in it, "" for the path itself."""

    directory: str
    package: str
    path: str


def replaced(locator: Locator, replace: Mapping[str, str]) -> tuple[Locator, ...] | LocalPath | None:
    """What stands in for a file or directory: the readings of another locator, or a path. None where nothing does."""
    for package in sorted(replace, key=len, reverse=True):
        path = locator.below(package)
        if path is not None:
            if is_local(replace[package]):
                return LocalPath(replace[package], package, path)
            return tuple(
                Locator(each.repository, posixpath.join(each.path, path).rstrip("/"), each.version)
                for each in parse(replace[package])
            )
    return None
