"""Who may run, change and use an enclave at a time: processes of one session, and tests of one process.

The rules (design §4, rule 7)

* Runs in an enclave come one after the other: each has the *turn*.
* Whoever uses an enclave, a test, shares its *use*. A run that only skips and adds goes on meanwhile; one that changes
  or removes something takes the use for itself first, and so waits until all tests that share it are over.
* A run ends by sharing the use, before it passes on the turn: what it has come to is what its test finds.
* Whoever waits for the turn or the use holds no use, of any enclave, and takes again what it had when its run is over;
  then it waits for nobody but a run that has all it needs. So nobody waits for one who waits: there is no deadlock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_enclave.ledger.locks import SharedLock


class Uses:
    """The enclaves whose use the running test of this process shares. Safe with several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shared: dict[Path, SharedLock] = {}
        self._dropped: set[Path] = set()

    def share(self, path: Path, lock: SharedLock) -> None:
        """From now on the test uses this enclave: the lock is shared already."""
        with self._lock:
            self._shared[path] = lock
            self._dropped.discard(path)

    def leave(self, path: Path) -> None:
        """The lock of this enclave is somebody else's business for a while."""
        with self._lock:
            self._shared.pop(path, None)
            self._dropped.discard(path)

    def drop(self) -> None:
        """Use none for a while: something is waited for."""
        with self._lock:
            for path, lock in self._shared.items():
                lock.release()
                self._dropped.add(path)

    def take_again(self) -> None:
        """Use again what was dropped, as soon as nobody changes it."""
        with self._lock:
            dropped = [(path, self._shared[path]) for path in sorted(self._dropped)]
            self._dropped.clear()
        for path, lock in dropped:
            # One that was removed meanwhile is not used by anybody any more.
            if path.parent.is_dir():
                lock.share()

    def end(self) -> None:
        """The test is over."""
        with self._lock:
            for lock in self._shared.values():
                lock.release()
            self._shared.clear()
            self._dropped.clear()


class Undisputed:
    """The turns of an enclave that one process has for itself."""

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Have the turn (`Turns.taken`)."""
        yield lambda: None

    def use(self) -> None:
        """This process's test uses the enclave."""


class Turns:
    """The turns of one enclave, as one process takes them; `home` is the enclave's."""

    def __init__(self, home: Path, uses: Uses) -> None:
        self._uses = uses
        self._path = home / "use"
        self._use = SharedLock(self._path)
        self._turn = SharedLock(home / "turn")
        self._alone = False

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Have the turn; what is yielded makes sure that no test uses the enclave, until the turn is over.

        Afterwards this process's test uses it. Who has the turn may take it again, as part of it.
        """
        if self._turn.is_held:
            yield self._be_alone
            return
        if not self._turn.take(wait=False):
            self._uses.drop()
            self._turn.take()
        try:
            yield self._be_alone
        finally:
            self._alone = False
            try:
                # It may have been removed meanwhile.
                with suppress(FileNotFoundError):
                    self._use.share()
                    self._uses.share(self._path, self._use)
            finally:
                self._turn.release()
                self._uses.take_again()

    def use(self) -> None:
        """This process's test uses the enclave, as soon as nobody changes it."""
        if not self._use.is_held:
            if not self._use.share(wait=False):
                self._uses.drop()
                self._use.share()
                self._uses.take_again()
            self._uses.share(self._path, self._use)

    def _be_alone(self) -> None:
        if not self._alone:
            self._uses.drop()
            self._uses.leave(self._path)
            self._use.take()
            self._alone = True
