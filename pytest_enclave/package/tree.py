"""A directory with files that package code may see, and nothing outside of it."""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec

from pytest_enclave.errors import PackageError


class Tree(msgspec.Struct, frozen=True):
    """`directory` with all symbolic links resolved, and how messages call it."""

    directory: Path
    title: str

    def existing(self, locator: str, path: str) -> Path:
        """The real path of what the locator stands for, by its path in here.

        Raises PackageError where nothing is there, or symbolic links lead out of the directory.
        """
        found = self.inside(locator, path)
        if not found.exists():
            raise PackageError(
                f"`{locator}` does not exist in {self.title}" + (f" (looked for `{path}`)" if path != locator else ""),
                remedy=_nearest(found),
            )
        return found

    def inside(self, locator: str, path: str) -> Path:
        """The same, but there may be nothing at it."""
        try:
            found = (self.directory / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise PackageError(f"`{locator}` cannot be followed: {error}") from None
        if not found.is_relative_to(self.directory):
            raise PackageError(
                f"`{locator}` leads out of {self.title}, to {found}",
                remedy="copy the file into the package: packages see nothing outside their own directory",
            )
        return found


def _nearest(path: Path) -> str:
    """What lies beside the missing file under a similar name."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, 1)
    return f"did you mean `{near[0]}`, which lies beside it?" if near else ""
