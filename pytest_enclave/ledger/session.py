"""Sessions: runs of pytest with all their processes, told from others, and known to live or to have ended."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pytest_enclave.ledger.locks import SharedLock, is_locked


class Session(msgspec.Struct, frozen=True):
    """A session, as one of its processes has it. `holder` is the id of its main process, for which it lives.

    `lock` is None in the others: workers, which the main process waits for.
    """

    id: str
    holder: int
    lock: SharedLock | None

    @property
    def is_main(self) -> bool:
        """Whether this is its main process."""
        return self.lock is not None

    @classmethod
    def begin(cls, directory: Path, identity: str) -> Session:
        """Begin a session, in its main process."""
        path = directory / identity
        lock = SharedLock(path)
        lock.take()
        return cls(identity, os.getpid(), lock)

    def end(self) -> None:
        """The session is over, where this is its main process."""
        if self.lock is not None:
            self.lock.release()


def lives(directory: Path, identity: str) -> bool:
    """Whether the main process of a session lives."""
    return is_locked(directory / identity)
