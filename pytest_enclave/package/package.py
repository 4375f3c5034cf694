"""What users name when they ask for an environment: a package directory, a single script, or text in a test."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pytest_enclave.errors import PackageError
from pytest_enclave.package import locators
from pytest_enclave.package.files import FileState, read_text

Resolver: TypeAlias = Callable[[str, str], "Path | None"]
"""Finds what lies outside the package: `resolve(absolute locator, name of the calling file)`, None where it cannot."""


@dataclass(frozen=True, slots=True)
class Source:
    """Starlark text in place of a package. Locations are told as `name:line:column`."""

    text: str
    name: str = "<source>"


@dataclass(frozen=True, slots=True)
class Found:
    """What a locator stands for: the name locations use (relative to the root, or absolute), and the real path."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was found usable by `load.load`.

    `root` is its directory with all symbolic links resolved, `name` what its manifest says, `main` the main file
    relative to the root. A script that stands alone has neither root nor name: `main` is then only what locations
    call it, and its text is that of `script`, or `text` where a test gave it. `manifest` is the state of the file that
    made it a package.
    """

    main: str
    name: str | None = None
    root: Path | None = None
    manifest: FileState | None = None
    script: Path | None = None
    text: str | None = None

    @property
    def title(self) -> str:
        """How messages call it: by the manifest's name, else by its file."""
        return f"package `{self.name}`" if self.name else f"script `{self.main}`"

    def read_main(self) -> tuple[str, FileState | None]:
        """The main file's text, and the state of the file it was read from (None: text that a test gave).

        Raises PackageError where it cannot be read or is empty.
        """
        if self.text is not None:
            return self._not_empty(self.text), None
        text, state = read_text(self.script or self._inside(self.main, self.main), self.main)
        return self._not_empty(text), state

    def find(self, locator: str, caller: str, resolve: Resolver | None = None) -> Found:
        """The file or directory that a locator written in the file `caller` stands for (behaviour.md §3.4).

        Raises PackageError where it is malformed, leads out of the package, or leads nowhere.
        """
        name = locators.absolute(locator, caller, self.name)
        if locators.is_remote(name):
            path = resolve(name, caller) if resolve else None
            if path is None:
                raise PackageError(
                    f"remote packages are not supported yet: `{locator}`",
                    remedy="copy what you need into this package and name it by a relative locator",
                )
            return Found(name, path)
        return Found(name, self._existing(locator, name))

    def _existing(self, locator: str, name: str) -> Path:
        path = self._inside(locator, name)
        if not path.exists():
            raise PackageError(
                f"`{locator}` does not exist in {self.title}" + (f" (looked for `{name}`)" if name != locator else ""),
                remedy=_nearest(path),
            )
        return path

    def _inside(self, locator: str, name: str) -> Path:
        """The real path, which symbolic links must not lead out of the package."""
        if self.root is None:
            raise PackageError(
                f"`{locator}` is a relative locator, but {self.title} is not part of a package",
                remedy="relative locators need a `kurtosis.yml` with a `name` beside or above the script",
            )
        try:
            path = (self.root / name).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise PackageError(f"`{locator}` cannot be followed: {error}") from None
        if not path.is_relative_to(self.root):
            raise PackageError(
                f"`{locator}` leads out of {self.title}, to {path}",
                remedy="copy the file into the package: packages see nothing outside their own directory",
            )
        return path

    def _not_empty(self, text: str) -> str:
        if not text.strip():
            raise PackageError(f"`{self.main}` is empty", remedy="define `def run(plan):` in it")
        return text


def _nearest(path: Path) -> str:
    """What lies beside the missing file under a similar name."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, 1)
    return f"did you mean `{near[0]}`, which lies beside it?" if near else ""
