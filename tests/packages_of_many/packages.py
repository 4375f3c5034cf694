"""A package tree like those of public packages: many small files, of several repositories, pinned and replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.package.hub import Hub

HERE = Path(__file__).parent


def publish(hub: Hub) -> None:
    """Have the repositories on the hub: `author/name` on the branch `main`, `author/name@tag` with the tag alone."""
    for folder in sorted(HERE.glob("repositories/*/*")):
        name, _, tag = folder.relative_to(HERE / "repositories").as_posix().partition("@")
        files = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}
        hub.commit(name, files, branch="" if tag else "main", tags=(tag,) if tag else ())


def market(directory: Path) -> Path:
    """A copy of the main package, and beside it of the one that stands in for another."""
    for name in ("market", "mail"):
        shutil.copytree(HERE / name, directory / name)
    return directory / "market"
