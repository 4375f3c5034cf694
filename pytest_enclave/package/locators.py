"""Locators: how package code names files (behaviour.md §3.4).

`github.com/author/repo/path`, with `@version` (a tag, a branch or a commit) at its end or after any part from the
repository on; or relative, to the file it is written in, or with `/` in front to the root of that file's repository.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import TypeGuard

import msgspec

from pytest_enclave.errors import PackageError

HOST = "github.com"

_SCHEME = r"[a-zA-Z][a-zA-Z0-9+.-]*://"
_FOREIGN_HOST = r"(?i)(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev)/"
_REPOSITORY = rf"(?ai)({re.escape(HOST)})/([\w.][\w.-]*)/([\w.][\w.-]*)"


class Locator(msgspec.Struct, frozen=True):
    """A file or directory by its place in a repository, `github.com/author/name`.

    `path` is relative to the repository's root, "" for the root itself; `version` is "" for the default branch.
    """

    repository: str
    path: str = ""
    version: str = ""

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"{self.place}{version}"

    @property
    def place(self) -> str:
        """The locator without its version."""
        return f"{self.repository}/{self.path}" if self.path else self.repository

    def relative(self, locator: str) -> Locator | None:
        """What a relative locator in this file stands for; None above the repository's root."""
        base = "" if locator.startswith("/") else posixpath.dirname(self.path)
        path = _normal(posixpath.join(base, locator.lstrip("/")))
        return None if path is None else Locator(self.repository, path, self.version)

    def below(self, package: str) -> str | None:
        """The path from that package's directory, "" for the directory itself; None for what lies elsewhere."""
        place, above = self.place.lower(), package.lower()
        if place == above:
            return ""
        return self.place[len(package) + 1 :] if place.startswith(f"{above}/") else None


def is_url(name: str) -> bool:
    """Whether this is no locator, but the address of a file on the web."""
    return name.lower().startswith(("http://", "https://"))


def is_remote(name: object) -> TypeGuard[str]:
    """Whether this is an absolute locator; a directory of such a name is `./github.com/…`."""
    return isinstance(name, str) and name.lower().startswith(f"{HOST}/")


def refuse_malformed(locator: str) -> None:
    """Raise PackageError for what is no locator at all."""
    if not locator:
        raise PackageError("the locator is an empty string", remedy="write for example `./helpers.star`")
    if "\0" in locator:
        raise PackageError("the locator contains a NUL character")
    if scheme := re.match(_SCHEME, locator):
        raise PackageError(
            f"`{locator}` has a scheme: locators are written without one",
            remedy=f"write `{locator[scheme.end() :]}`",
        )
    if re.match(_FOREIGN_HOST, locator) and not is_remote(locator):
        raise PackageError(f"`{locator}` is not on {HOST}: packages come from there only")


def parse(locator: str) -> tuple[Locator, ...]:
    """What an absolute locator may mean, likeliest first: versions may contain `/`, and so may what follows them.

    Raises PackageError where it is malformed.
    """
    refuse_malformed(locator)
    before, at, after = locator.partition("@")
    parts = before.split("/")
    repository = "/".join(parts[:3]).removesuffix(".git")
    if len(parts) < 3 or not _is_repository(repository):
        raise PackageError(f"`{locator}` names no repository", remedy=f"write `{HOST}/author/repository/path`")
    if at and not after.strip("/"):
        raise PackageError(f"`{locator}` names no version after its `@`", remedy="name a tag, a branch or a commit")
    path = _normal("/".join(parts[3:]).strip("/"))
    if path is None:
        raise PackageError(f"`{locator}` leads out of the repository `{repository}`")
    if not at:
        return (Locator(repository, path),)
    found = [Locator(repository, *reading) for reading in _readings(path, after.strip("/"))]
    return tuple(dict.fromkeys(found))


def _is_repository(text: str) -> bool:
    match = re.fullmatch(_REPOSITORY, text)
    return match is not None and not {match[2], match[3]} & {".", ".."}


def _readings(path: str, after: str) -> Iterator[tuple[str, str]]:
    """Path and version: the last part after the version is a file if it has a dot, as Kurtosis takes it."""
    parts = after.split("/")
    is_file = path.endswith(".star")
    cuts = [len(parts)] if is_file or "." not in parts[-1] else [len(parts) - 1, len(parts)]
    if not is_file:
        cuts += range(len(parts) - 1, 0, -1)
    for cut in cuts:
        whole = _normal(posixpath.join(path, *parts[cut:]))
        if cut and whole is not None:
            yield whole, "/".join(parts[:cut])


def _normal(path: str) -> str | None:
    """The path without dots, "" for the root; None above it."""
    normal = posixpath.normpath(path) if path else "."
    if normal == ".." or normal.startswith("../"):
        return None
    return "" if normal == "." else normal
