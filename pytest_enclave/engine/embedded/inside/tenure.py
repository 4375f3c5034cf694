"""For whom an enclave is there: its clients, the process that holds it, and, where it is kept, nobody until a moment.

Processes are known by descriptors of theirs (pidfds), which their clients bring: numbers mean nothing in here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pytest_enclave.engine.embedded.inside.loop import Loop

LOOK = 30.0
"""Seconds between two looks at the clock while an enclave is kept: a machine may sleep, and clocks are set."""


class Tenure:
    """Calls `over` when nobody uses the enclave any more, nobody holds it, and it is not kept.

    `holder` is a descriptor, used up here; `used` tells whether there are clients. Until one of them has asked for
    anything the holder does not count: whoever opened it may have been interrupted, and know nothing of it.
    """

    def __init__(self, loop: Loop, holder: int, used: Callable[[], bool], over: Callable[[], None]) -> None:
        self._loop = loop
        self._used = used
        self._over = over
        self._until: float | None = None
        self._looks = 0
        self._begun = False
        self._holder: int | None = None
        self._watch(holder)

    def begin(self) -> None:
        """A client has asked for something."""
        self._begun = True

    def pass_to(self, holder: int) -> None:
        """From now on the enclave lives for this process (a descriptor, used up), and is kept no more."""
        self.begin()
        self._forget()
        self._until = None
        self._looks += 1
        self._watch(holder)

    def keep(self, until: float) -> None:
        """Let it stay without its holder, until then (seconds since the epoch)."""
        self._until = until
        self._looks += 1
        self._look(until, self._looks)

    def reconsider(self) -> None:
        """A client has gone, or the holder, or time has passed."""
        held = self._begun and self._holder is not None
        if not self._used() and not held and (self._until is None or time.time() >= self._until):
            self._over()

    def _look(self, until: float, number: int) -> None:
        """Look again and again, unless another time has been told meanwhile, or another holder."""
        if number != self._looks:
            return
        left = until - time.time()
        if left > 0:
            self._loop.after(min(left, LOOK), lambda: self._look(until, number))
        else:
            self.reconsider()

    def _watch(self, holder: int) -> None:
        self._holder = holder
        self._loop.watch(holder, self._ended)

    def _ended(self) -> None:
        self._forget()
        self.reconsider()

    def _forget(self) -> None:
        if self._holder is not None:
            self._loop.forget(self._holder)
            os.close(self._holder)
            self._holder = None
