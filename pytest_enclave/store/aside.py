"""Journals that cannot be used are set aside, so that somebody can look at them; only the latest ones stay."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

SUFFIXES = ("", "-wal", "-shm", "-seal")
"""What a journal consists of: the file itself, and what SQLite and this package keep beside it."""

KEPT = 5
"""Journals in the directory, the latest ones."""

_NAME = re.compile(r"\d{8}T\d{6}-\d{9}-.*\.sqlite")


def set_aside(path: Path, directory: Path) -> Path:
    """Move a journal with all its files to the directory; returns where its main file is, or would be, now.

    Its name there begins with when that was (UTC), and goes on with which it is: the directory that it was in.
    Raises OSError where that is not possible.
    """
    directory.mkdir(parents=True, exist_ok=True)
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    moment = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}-{nanoseconds:09d}"
    target = directory / f"{moment}-{path.absolute().parent.name}.sqlite"
    for suffix in SUFFIXES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.move(source, target.with_name(target.name + suffix))
    aside = {entry.name[: entry.name.rindex(".sqlite") + 7] for entry in directory.glob("*.sqlite*")}
    for name in sorted(filter(_NAME.fullmatch, aside))[:-KEPT]:
        for suffix in SUFFIXES:
            (directory / (name + suffix)).unlink(missing_ok=True)
    return target
