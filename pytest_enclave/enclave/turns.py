"""Who may run, change and use an enclave at a time: processes of one session, and tests of one process.

The rules (design §4, rule 7)

* Runs in an enclave come one after the other: each has the *turn*.
* Whoever uses an enclave, a test, shares its *use*. A run that only skips and adds goes on meanwhile; one that changes
  or removes something takes the use for itself first, and so waits until all tests that share it are over.
* A run ends by sharing the use, before it passes on the turn: what it has come to is what its test finds.
* Whoever waits for the turn or the use holds no use, of any enclave, and takes again what it had when its run is over;
  then it waits for nobody but a run that has all it needs. So nobody waits for one who waits: there is no deadlock.
* A fault of a test is a change that lasts: that test *holds* the enclave, turn and use, until the fault is healed. It
  begins to hold it while it has no use of another, and tries anew where it cannot have these again at once.
* Who holds an enclave would wait for another one with something in hand. So that wait has an end (`PATIENCE`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pytest_enclave.errors import EngineError
from pytest_enclave.ledger.locks import SharedLock

PATIENCE = 60.0
"""Seconds that a test which holds an enclave waits for another one."""

INTERVAL = 0.02
"""Seconds between its looks."""


class Attempt(Protocol):
    """A way to have a lock: whether it could be had."""

    def __call__(self, *, wait: bool) -> bool:
        """Try it, at once or as long as it takes."""


class Uses:
    """The enclaves whose use the running test of this process shares. Safe with several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shared: dict[Path, SharedLock] = {}
        self._dropped: set[Path] = set()
        self._held: set[Path] = set()

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
                self.wait(lock.share)

    def try_again(self) -> SharedLock | None:
        """Use again what was dropped, as far as it can be had at once: the first that cannot, None if all can."""
        with self._lock:
            for path in sorted(self._dropped):
                lock = self._shared[path]
                if path.parent.is_dir() and not lock.share(wait=False):
                    return lock
                self._dropped.discard(path)
        return None

    def hold(self, path: Path) -> None:
        """The test holds this enclave from now on: it waits with something in hand."""
        with self._lock:
            self._held.add(path)

    def let_go(self, path: Path) -> None:
        """It does so no more."""
        with self._lock:
            self._held.discard(path)

    def wait(self, attempt: Attempt) -> None:
        """Have a lock, however long it takes. Raises EngineError where the test holds an enclave meanwhile, and it
        takes too long."""
        if not self._held:
            attempt(wait=True)
            return
        deadline = time.monotonic() + PATIENCE
        while not attempt(wait=False):
            if time.monotonic() > deadline:
                raise EngineError(
                    f"this test has a fault in one enclave, and waits for another, which others have used "
                    f"for {PATIENCE:g} s: they may wait for this one",
                    remedy="ask for all enclaves of a test before the first fault, "
                    "and heal the faults of one enclave before those of another begin",
                )
            time.sleep(INTERVAL)

    def end(self) -> None:
        """The test is over."""
        with self._lock:
            for lock in self._shared.values():
                lock.release()
            self._shared.clear()
            self._dropped.clear()
            self._held.clear()


class Undisputed:
    """The turns of an enclave that one process has for itself."""

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Have the turn (`Turns.taken`)."""
        yield lambda: None

    def use(self) -> None:
        """This process's test uses the enclave."""

    def hold(self) -> None:
        """It is changed for a while (`Turns.hold`)."""

    def let_go(self) -> None:
        """It is as before."""


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
        self._take_turn()
        try:
            yield self._be_alone
        finally:
            self._alone = False
            try:
                self._go_on_using()
            finally:
                self._turn.release()
                self._uses.take_again()

    def use(self) -> None:
        """This process's test uses the enclave, as soon as nobody changes it."""
        if not self._use.is_held:
            if not self._use.share(wait=False):
                self._uses.drop()
                self._uses.wait(self._use.share)
                self._uses.take_again()
            self._uses.share(self._path, self._use)

    def hold(self) -> None:
        """Be alone with it until `let_go`: no other test uses it, nobody else runs anything in it.

        Who holds it may take the turn, as often as need be.
        """
        try:
            while (needed := self._try_to_hold()) is not None:
                self._give_back()
                # With nothing in hand, of this enclave or another.
                self._uses.drop()
                self._uses.wait(needed.share)
        except BaseException:
            self._give_back()
            raise
        self._uses.hold(self._path)

    def let_go(self) -> None:
        """Hold it no more: this process's test goes on using it. Nothing happens where it is not held."""
        if not self._alone:
            return
        self._uses.let_go(self._path)
        self._alone = False
        try:
            self._go_on_using()
        finally:
            self._turn.release()

    def _try_to_hold(self) -> SharedLock | None:
        """Hold it, and use what else the test uses: None, or the lock of that which cannot be had beside it."""
        self._take_turn()
        self._be_alone()
        return self._uses.try_again()

    def _take_turn(self) -> None:
        if not self._turn.take(wait=False):
            self._uses.drop()
            self._uses.wait(self._turn.take)

    def _go_on_using(self) -> None:
        """Whoever had it alone shares its use now. It may have been removed meanwhile."""
        with suppress(FileNotFoundError):
            self._use.share()
            self._uses.share(self._path, self._use)

    def _give_back(self) -> None:
        self._alone = False
        self._use.release()
        self._turn.release()

    def _be_alone(self) -> None:
        if not self._alone:
            self._uses.drop()
            self._uses.leave(self._path)
            self._uses.wait(self._use.take)
            self._alone = True
