"""Locks on files, which the kernel frees when their process ends, however that happens."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class SharedLock:
    """A lock on a file that several processes may have at once (`share`), or one alone. There is one file for each.

    Not safe with several threads; several objects for one file are as strangers to each other, also in one process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._process = 0

    @property
    def is_held(self) -> bool:
        """Whether this object has it."""
        return self._descriptor is not None

    def share(self, *, wait: bool = True) -> bool:
        """Have it with others who share it; whether that is so. Raises FileNotFoundError if its directory is gone."""
        return self._lock(fcntl.LOCK_SH, wait)

    def take(self, *, wait: bool = True) -> bool:
        """Have it alone; whether that is so. Raises FileNotFoundError where its directory is gone."""
        return self._lock(fcntl.LOCK_EX, wait)

    def release(self) -> None:
        """Give it back, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # Forks of this process have it too, and must not keep it; nor must they give back what is their parent's.
        if self._process == os.getpid():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _lock(self, kind: int, wait: bool) -> bool:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            self._process = os.getpid()
        try:
            fcntl.flock(self._descriptor, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.release()
            return False
        except BaseException:
            self.release()
            raise
        return True


def is_locked(path: Path) -> bool:
    """Whether anybody has the lock on a file; nobody has where there is no file."""
    if not path.exists():
        return False
    lock = SharedLock(path)
    try:
        return not lock.take(wait=False)
    except FileNotFoundError:
        return False
    finally:
        lock.release()
