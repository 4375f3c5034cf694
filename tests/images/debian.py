"""Debian packages from the machine's own package sources: no root, and no change to its package state."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote


class AptError(Exception):
    """apt-get is missing, or it failed."""


class Downloads:
    """A folder of package files, filled by apt-get with what is asked for."""

    def __init__(self, folder: Path) -> None:
        """Keep everything, the package lists too, below `folder`."""
        self._folder = folder
        self._files = folder / "debs"
        self._lists = folder / "state" / "lists"

    def closure(self, packages: Sequence[str], skip: Sequence[str]) -> list[Path]:
        """Return the files of `packages` and of all they depend on, except names that match `skip`.

        Raises AptError if there is no apt-get, or a package cannot be resolved or downloaded.
        """
        [files] = self.closures([(packages, skip)])
        return files

    def closures(self, wanted: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[list[Path]]:
        """Return what `closure` does, for several pairs of packages and exceptions at once. Raises AptError."""
        if not shutil.which("apt-get"):
            raise AptError(
                "building the test images needs apt-get: run this on Debian or Ubuntu (a container of either will do)"
            )
        self._prepare()
        try:
            return self._fetch(wanted)
        except AptError:
            # Lists that were never fetched or are out of date name files that the mirror does not have.
            self._apt("update")
            return self._fetch(wanted)

    def _prepare(self) -> None:
        for folder in (self._files, self._lists / "partial", self._folder / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "state" / "status").touch()

    def _fetch(self, wanted: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[list[Path]]:
        names = [self._resolved(packages, skip) for packages, skip in wanted]
        missing = sorted({name for each in names for name in each if not (self._files / name).exists()})
        if missing:
            self._apt("download", *map(_requirement, missing))
        return [[self._files / name for name in each] for each in names]

    def _resolved(self, packages: Sequence[str], skip: Sequence[str]) -> list[str]:
        """Return the names of the files of the packages, and of those they depend on."""
        if not packages:
            return []
        listing = self._apt("install", "-y", "--no-install-recommends", "--print-uris", *packages)
        names = [line.split()[1] for line in listing.splitlines() if line.startswith("'")]
        return [name for name in names if not _matches(name.partition("_")[0], skip)]

    def _apt(self, command: str, *arguments: str) -> str:
        state = self._folder / "state"
        options = {
            "Dir::State": state,
            # An empty status file: nothing counts as installed, so the closure is complete.
            "Dir::State::status": state / "status",
            "Dir::Cache": self._folder,
            # Container images of Debian turn this cache off; without it each call parses all lists again.
            "Dir::Cache::pkgcache": "packages.bin",
            # Else apt, when root, drops to a user who may not write below a home directory.
            "APT::Sandbox::User": "root",
        }
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        done = subprocess.run(
            ["apt-get", "-qq", *flags, command, *arguments],
            cwd=self._files,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AptError(f"apt-get {command} failed:\n{done.stderr.strip()}")
        return done.stdout


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _requirement(file_name: str) -> str:
    """Return what apt-get calls the package in `NAME_VERSION_ARCHITECTURE.deb`."""
    name, version, _ = file_name.split("_")
    return f"{name}={unquote(version)}"
