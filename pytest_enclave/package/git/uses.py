"""When fetched commits were last used; those that nobody has used for long are removed.

Who uses a commit notes so once a day, with the commit's lock held; who removes one looks, with that lock held. So what
is in use is never removed: it was noted a day ago at most, or is about to be fetched again.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

DAY = 86400.0
"""Seconds after which a use is noted again, and after which it is looked again for what may go."""

KEPT = 60 * DAY
"""Seconds for which a commit is kept after its last use."""


class Uses:
    """Of the commits kept below `root`; each is known by a name, `author-name-COMMIT`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def is_recent(self, name: str) -> bool:
        """Whether a use of this commit is noted already. Where nothing can be noted, there is nothing to do."""
        return _age(self._root / "uses" / name) < DAY

    def note(self, name: str) -> None:
        """Note that a commit is used now; its lock is held."""
        with contextlib.suppress(OSError):
            (self._root / "uses").mkdir(mode=0o700, exist_ok=True)
            (self._root / "uses" / name).touch()

    def prune(self) -> None:
        """Remove the commits that were last used long ago, if nobody has done so today. Locks are not waited for."""
        from filelock import FileLock, Timeout

        with contextlib.suppress(OSError, Timeout), FileLock(self._root / "locks" / "prune.lock", timeout=0):
            looked = self._root / "uses" / "pruned"
            if _age(looked) < DAY:
                return
            looked.touch()
            for tree in list((self._root / "trees").glob("*/*/*")):
                name = "-".join(tree.parts[-3:])
                if self._idle(tree, name):
                    with contextlib.suppress(OSError, Timeout), FileLock(self._lock(name), timeout=0):
                        self._remove(tree, name)

    def _remove(self, tree: Path, name: str) -> None:
        if self._idle(tree, name):
            # At once gone for all others, however long it takes.
            gone = Path(tempfile.mkdtemp(prefix="unused.", dir=self._root / "work"))
            tree.rename(gone / "tree")
            shutil.rmtree(gone, ignore_errors=True)
            (self._root / "uses" / name).unlink(missing_ok=True)

    def _idle(self, tree: Path, name: str) -> bool:
        return min(_age(tree), _age(self._root / "uses" / name)) > KEPT

    def _lock(self, name: str) -> Path:
        return self._root / "locks" / f"{name}.lock"


def _age(path: Path) -> float:
    """Seconds since a file was changed; endless where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
