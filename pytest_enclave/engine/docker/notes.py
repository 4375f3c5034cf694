"""What the processes that use an enclave tell each other about it beside the engine: in the enclave's home.

An enclave without a home is one process's own: nothing is written down then.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_enclave.errors import EngineError
from pytest_enclave.ledger.locks import SharedLock


class Notes:
    """The notes of one enclave: which addresses were given out, and which containers are meant to be stopped."""

    def __init__(self, home: str) -> None:
        self.directory = Path(home, "docker") if home else None
        self._stopping: set[str] = set()

    def begin_network(self) -> Callable[[], None]:
        """Who attaches waits from now on, until what is returned is called or this process is killed."""
        if self.directory is None:
            return lambda: None
        lock = SharedLock(self.directory / "network")
        # Without the lock somebody who attaches too early finds no network, and makes an enclave of his own.
        with suppress(OSError):
            self.directory.mkdir(mode=0o700, exist_ok=True)
            lock.take(wait=False)
        return lock.release

    def await_network(self) -> None:
        """Wait until nobody is making the enclave's network."""
        if self.directory is None:
            return
        lock = SharedLock(self.directory / "network")
        with suppress(OSError):
            lock.share()
        lock.release()

    @contextmanager
    def addresses(self) -> Iterator[dict[str, str]]:
        """All addresses by service, in the order in which they were given out; what is added is written down.

        One process at a time. Raises EngineError.
        """
        if self.directory is None:
            yield {}
            return
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self.directory / "addresses", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(
                f"the enclave's addresses cannot be written down in {self.directory}: {error.strerror}"
            ) from None
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            whole = file.read().rpartition(b"\n")[0]
            known = dict(line.split(" ") for line in whole.decode().splitlines())
            before = len(known)
            yield known
            if len(known) > before:
                # A line that somebody was killed in the middle of is written over.
                file.seek(len(whole) + 1 if whole else 0)
                file.truncate()
                file.write("".join(f"{name} {address}\n" for name, address in list(known.items())[before:]).encode())

    def expect_stop(self, container: str) -> None:
        """The container's next end is wanted, whoever looks."""
        self._stopping.add(container)
        if self.directory is not None:
            # It is told wrong then, no more.
            with suppress(OSError):
                self.directory.mkdir(mode=0o700, exist_ok=True)
                self._stopped(container).touch()

    def expect_start(self, container: str) -> None:
        """The container is about to be started again."""
        if self.directory is not None:
            with suppress(OSError):
                self._stopped(container).unlink()

    def started(self, container: str) -> None:
        """The container was started, by whomever."""
        self._stopping.discard(container)

    def is_stopping(self, container: str) -> bool:
        """Whether its end is a wanted one."""
        return container in self._stopping or (self.directory is not None and self._stopped(container).exists())

    def _stopped(self, container: str) -> Path:
        assert self.directory is not None
        return self.directory / f"stopped-{container[:24]}"
