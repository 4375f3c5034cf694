"""Directories of enclaves, for journals and artifacts: a lock on each tells that its session lives.

A session that is killed leaves its directories; the next one to end in order removes them.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "pytest-enclave-"

YOUNGEST = 60.0
"""Seconds that a directory must be old to be swept: one that was just made may not be locked yet."""

_NAME = re.compile(rf"{PREFIX}.+-[0-9a-f]{{16}}")


@dataclass(frozen=True, slots=True)
class EnclaveDirectory:
    """A directory that is there, and locked until it is removed or this process ends."""

    path: Path
    _lock: int

    @classmethod
    def make(cls, enclave: str) -> EnclaveDirectory:
        """A new one, for an enclave of that name."""
        path = Path(tempfile.gettempdir(), f"{PREFIX}{enclave}-{secrets.token_hex(8)}")
        path.mkdir(mode=0o700)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(path, lock)

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove the directories of this user's sessions that are gone."""
    with os.scandir(tempfile.gettempdir()) as entries:
        found = [entry.path for entry in entries if _NAME.fullmatch(entry.name)]
    for path in found:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = os.fstat(lock)
            if state.st_uid == os.geteuid() and time.time() - state.st_mtime > YOUNGEST:
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
