"""Who may run, change and use an enclave at a time: processes of one session, and tests of one process.

The rules (design §4, rule 7)

* Runs in an enclave come one after the other: each has the *turn*.
* Whoever uses an enclave, a test, shares its *use*. A run that only skips and adds goes on meanwhile; one that changes
  or removes something takes the use for itself first, and so waits until all tests that share it are over.
* A run ends by sharing the use, before it passes on the turn: what it has come to is what its test finds.
* Whoever waits for the turn or the use holds no use, of any enclave, and takes again what it had when its run is over;
  then it waits for nobody but a run that has all it needs. So nobody waits for one who waits: there is no deadlock.
* A fault of a test is a change that lasts: that test *holds* the enclave, turn and use, until the fault is healed, and
  with it all others that it uses, so that it waits for none of them in the middle of a fault. It takes their turns one
  after the other, all tests in the same order, and while it waits for tests that use them, it has these turns alone.
* Who holds enclaves and asks for yet another one would wait for it with something in hand. So that wait has an end
  (`PATIENCE`).
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
    """The enclaves whose use the running test of this process shares, or that it holds. Safe with several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shared: dict[Path, Turns] = {}
        self._dropped: set[Path] = set()
        self._broken: set[Path] = set()
        self._held: dict[Path, Turns] = {}

    def share(self, turns: Turns) -> None:
        """From now on the test uses this enclave: its lock is shared already."""
        with self.lock:
            self._shared[turns.home] = turns
            self._dropped.discard(turns.home)

    def leave(self, turns: Turns) -> None:
        """The lock of this enclave is somebody else's business for a while."""
        with self.lock:
            self._shared.pop(turns.home, None)
            self._dropped.discard(turns.home)

    def drop(self) -> None:
        """Use none for a while: something is waited for."""
        with self.lock:
            for home, turns in self._shared.items():
                turns.stop_using()
                self._dropped.add(home)

    def take_again(self) -> None:
        """Use again what was dropped, as soon as nobody changes it. Raises EngineError where one takes too long: the
        others are used again, and that one is the next time."""
        with self.lock:
            dropped = [self._shared[home] for home in sorted(self._dropped)]
        late: EngineError | None = None
        for turns in dropped:
            try:
                # One that was removed meanwhile is not used by anybody any more.
                if turns.home.is_dir():
                    self.wait(turns.share, turns)
            except EngineError as error:
                late = late or error
                continue
            with self.lock:
                self._dropped.discard(turns.home)
        if late is not None:
            raise late

    def hold(self, turns: Turns) -> None:
        """A fault in this enclave: hold it until `let_go`, and from the first fault on whatever the test uses."""
        with self.lock:
            wanted = {turns.home: turns}
            if not self._held:
                wanted |= {home: each for home, each in self._shared.items() if home.is_dir()}
        if turns.home not in self._held:
            self._have_alone([wanted[home] for home in sorted(wanted)])
        self._broken.add(turns.home)

    def let_go(self, turns: Turns) -> None:
        """No fault in this enclave any more. Without any in another, the test goes on using those that it holds."""
        if turns.home in self._broken:
            self._broken.discard(turns.home)
            if not self._broken:
                self._let_all_go()

    def wait(self, attempt: Attempt, turns: Turns) -> None:
        """Have a lock of an enclave, however long it takes. Raises EngineError where the test holds others meanwhile,
        and it takes too long."""
        if not self._broken:
            attempt(wait=True)
            return
        deadline = time.monotonic() + PATIENCE
        while not attempt(wait=False):
            if time.monotonic() > deadline:
                broken = ", ".join(sorted(home.name for home in self._broken))
                raise EngineError(
                    f"this test has a fault in enclave {broken}, and waits for enclave {turns.home.name}, which others "
                    f"have used for {PATIENCE:g} s: they may wait for {broken}",
                    remedy="ask for all enclaves of a test before its first fault",
                )
            time.sleep(INTERVAL)

    def wait_without(self, attempt: Attempt, turns: Turns) -> None:
        """The same, with no use of any: it is for the caller to take them again, unless this fails."""
        self.drop()
        try:
            self.wait(attempt, turns)
        except BaseException:
            with suppress(EngineError):
                self.take_again()
            raise

    def end(self) -> None:
        """The test is over."""
        self._broken.clear()
        self._let_all_go()
        with self.lock:
            for turns in self._shared.values():
                turns.stop_using()
            self._shared.clear()
            self._dropped.clear()

    def _have_alone(self, wanted: list[Turns]) -> None:
        begun: list[Turns] = []
        try:
            for turns in wanted:
                turns.begin()
                begun.append(turns)
            self.drop()
            while (needed := next((turns for turns in wanted if not turns.be_alone(wait=False)), None)) is not None:
                for turns in wanted:
                    turns.stop_using()
                # With nothing in hand but turns: who uses it waits for nobody then.
                self.wait(needed.be_alone, needed)
        except BaseException:
            with self.lock:
                for turns in begun:
                    turns.stop_using()
                self._dropped.update(self._shared.keys() & {turns.home for turns in begun})
            for turns in begun:
                turns.pass_on()
            with suppress(EngineError):
                self.take_again()
            raise
        with self.lock:
            for turns in wanted:
                self._held[turns.home] = turns
                self.leave(turns)
        self.take_again()

    def _let_all_go(self) -> None:
        with self.lock:
            held, self._held = self._held, {}
        for turns in held.values():
            turns.end()


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
        self.home = home
        self._uses = uses
        self._use = SharedLock(home / "use")
        self._turn = SharedLock(home / "turn")
        self._is_alone = False
        self._takers = 0

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Have the turn; what is yielded makes sure that no test uses the enclave, until the turn is over.

        Afterwards this process's test uses it. Who has the turn may take it again, as part of it.
        """
        self.begin()
        try:
            yield self._await_being_alone
        finally:
            self.end()

    def use(self) -> None:
        """This process's test uses the enclave, as soon as nobody changes it."""
        if not self._use.is_held:
            if not self.share(wait=False):
                self._uses.wait_without(self.share, self)
                self._uses.take_again()
            self._uses.share(self)

    def hold(self) -> None:
        """Be alone with it until `let_go`: no other test uses it, nobody else runs anything in it.

        Who holds it may take the turn, as often as need be. Raises EngineError where that takes too long.
        """
        self._uses.hold(self)

    def let_go(self) -> None:
        """Hold it no more: this process's test goes on using it. Nothing happens where it is not held."""
        self._uses.let_go(self)

    # what tests with faults in several enclaves do with each

    def begin(self) -> None:
        """Have the turn, once more if need be."""
        if not self._turn.is_held and not self._turn.take(wait=False):
            self._uses.wait_without(self._turn.take, self)
        with self._uses.lock:
            self._takers += 1

    def end(self) -> None:
        """Have had it: who was the last to take it uses the enclave, and passes it on."""
        if not self._is_last():
            return
        try:
            # It may have been removed meanwhile.
            with suppress(FileNotFoundError):
                self._use.share()
                self._uses.share(self)
        finally:
            self._turn.release()
            self._uses.take_again()

    def pass_on(self) -> None:
        """Have had it, and go back to what was before."""
        if self._is_last():
            self._turn.release()

    def _is_last(self) -> bool:
        with self._uses.lock:
            self._takers -= 1
            if self._takers:
                return False
        self._is_alone = False
        return True

    def be_alone(self, *, wait: bool) -> bool:
        """Be the only one who uses it; whether that is so."""
        self._is_alone = self._is_alone or self._use.take(wait=wait)
        return self._is_alone

    def share(self, *, wait: bool) -> bool:
        """Use it with others; whether that is so."""
        return self._use.share(wait=wait)

    def stop_using(self) -> None:
        """Do not use it, alone or with others."""
        self._is_alone = False
        self._use.release()

    def _await_being_alone(self) -> None:
        if not self._is_alone:
            self._uses.drop()
            self._uses.leave(self)
            self._uses.wait(self.be_alone, self)
