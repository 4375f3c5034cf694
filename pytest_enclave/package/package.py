"""What users name when they ask for an environment: a package directory, a single script, or text in a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from pytest_enclave.errors import PackageError, Problem
from pytest_enclave.package.files import FileState, read_text
from pytest_enclave.package.locators import Locator
from pytest_enclave.package.tree import Tree

Resolver: TypeAlias = Callable[[str, str], "Path | None"]
"""Finds what lies outside the package: `resolve(absolute locator, name of the calling file)`, None where it cannot."""


class Source(msgspec.Struct, frozen=True):
    """Starlark text in place of a package. Locations are told as `name:line:column`."""

    text: str
    name: str = "<source>"


class Found(msgspec.Struct, frozen=True):
    """What a locator stands for: the name locations use (relative to the package, or absolute), and the real path."""

    name: str
    path: Path


class Package(msgspec.Struct, frozen=True):
    """A package that was found usable by `load.load`.

    `root` is its directory with all symbolic links resolved, `name` what its manifest says, `main` the main file
    relative to the root. A script that stands alone has neither root nor name: `main` is then only what locations
    call it, and its text is that of `script`, or `text` where a test gave it. `manifest` is the state of the file that
    made it a package, `replace` what that says of other packages.

    `repository` is the directory of the repository that the package is a part of, None where that is not at hand;
    `is_fetched` tells that it came through git, and `warnings` what there is to say about that.
    """

    main: str
    name: str | None = None
    root: Path | None = None
    manifest: FileState | None = None
    script: Path | None = None
    text: str | None = None
    replace: Mapping[str, str] = msgspec.field(default_factory=dict)
    repository: Path | None = None
    is_fetched: bool = False
    warnings: tuple[Problem, ...] = ()

    @property
    def title(self) -> str:
        """How messages call it: by the manifest's name, else by its file."""
        return f"package `{self.name}`" if self.name else f"script `{self.main}`"

    @property
    def locator(self) -> Locator | None:
        """The package's directory as others name it; None for a script that stands alone."""
        if self.name is None:
            return None
        parts = self.name.split("/")
        return Locator("/".join(parts[:3]), "/".join(parts[3:]))

    def tree(self, locator: str) -> Tree:
        """The package's files. Raises PackageError, about this relative locator, where it has none."""
        if self.root is None:
            raise PackageError(
                f"`{locator}` is a relative locator, but {self.title} is not part of a package",
                remedy="relative locators need a `kurtosis.yml` with a `name` beside or above the script",
            )
        return Tree(self.root, self.title)

    def read_main(self) -> tuple[str, FileState | None]:
        """The main file's text, and the state of the file it was read from (None: text that a test gave).

        Raises PackageError where it cannot be read or is empty.
        """
        if self.text is not None:
            return self._not_empty(self.text), None
        path = self.script or self.tree(self.main).inside(self.main, self.main)
        text, state = read_text(path, self.main)
        return self._not_empty(text), state

    def _not_empty(self, text: str) -> str:
        if not text.strip():
            raise PackageError(f"`{self.main}` is empty", remedy="define `def run(plan):` in it")
        return text
