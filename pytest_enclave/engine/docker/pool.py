"""The pool of plots: got ready in the background while tests run, handed out, taken back, and removed at the end.

A plot that comes back is cleaned in the background as well; with two of them, one is cleaned while the other is in
use. Nothing here is ever the reason that a test fails: without a plot, an enclave is made as usual.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.plots import Plot
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.errors import EngineError

HANDING_OVER = 10.0
"""Seconds that whoever needs a plot waits for the pods that are just being made on it."""

CLOSING = 20.0
"""Seconds that closing the pool waits for calls to the engine that are under way."""


class _Work(msgspec.Struct, frozen=True, eq=False):
    """A plot that is being got ready: whoever wants it sets `enough`, and waits until it is `over`."""

    plot: Plot
    enough: threading.Event = msgspec.field(default_factory=threading.Event)
    over: threading.Event = msgspec.field(default_factory=threading.Event)


class Pool:
    """Plots by the services that they are for. `make` makes an empty one."""

    def __init__(self, make: Callable[[Sequence[str]], Plot]) -> None:
        self._make = make
        self._gate = Gate("the pool")
        self._lock = threading.Lock()
        self._all: list[Plot] = []
        self._free: list[Plot] = []
        self._works: list[_Work] = []
        self._hopeless = False

    def prepare(self, services: Collection[str]) -> None:
        """Get a plot for these services ready, unless one is free or about to be; returns at once.

        An engine on which that fails once is not asked again.
        """
        wanted = frozenset(services)
        with self._lock:
            coming = [*self._free, *(work.plot for work in self._works)]
            if not wanted or self._hopeless or any(plot.services == wanted for plot in coming):
                return
            plot = self._make(sorted(wanted))
            self._all.append(plot)
            self._begin(plot, first=True)

    def take(self, services: Collection[str]) -> Plot | None:
        """A plot for exactly these services, None if there is none.

        One that is being got ready is taken as it is: making more pods would take as long as doing without.
        """
        wanted = frozenset(services)
        with self._lock:
            if plot := self._pick(wanted):
                return plot
            work = next((work for work in self._works if work.plot.services == wanted), None)
            if work is None:
                return None
            work.enough.set()
        work.over.wait(HANDING_OVER)
        with self._lock:
            return self._pick(wanted)

    def give_back(self, plot: Plot) -> None:
        """An enclave has gone from the plot, and nothing of it is left: the next one may have it."""
        with self._lock:
            self._begin(plot, first=False)

    def settled(self, timeout: float) -> bool:
        """Wait until no plot is being got ready; whether that is so (seconds)."""
        deadline = time.monotonic() + timeout
        with self._lock:
            works = list(self._works)
        return all(work.over.wait(deadline - time.monotonic()) for work in works)

    def close(self) -> list[Leak]:
        """Remove every plot, also those that are in use or being made; what could not be removed."""
        self._gate.shut()
        with self._lock:
            for work in self._works:
                work.enough.set()
        self._gate.empty(CLOSING)
        with self._lock:
            plots, self._all, self._free = self._all, [], []
        return [leak for plot in plots for leak in plot.remove()]

    def _pick(self, wanted: frozenset[str]) -> Plot | None:
        found = next((plot for plot in self._free if plot.services == wanted), None)
        if found is not None:
            self._free.remove(found)
        return found

    def _begin(self, plot: Plot, *, first: bool) -> None:
        work = _Work(plot)
        thread = threading.Thread(target=self._run, args=(work, first), name=f"work on {plot.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # At the interpreter's exit no more threads are to be had; the plot is removed when the pool is closed.
            return
        self._works.append(work)

    def _run(self, work: _Work, first: bool) -> None:
        ready = False
        try:
            with self._gate.passing():
                ready = self._got_ready(work)
        except EngineError:
            # The pool is being closed, which sees to the plot.
            return
        finally:
            with self._lock:
                self._works.remove(work)
                self._hopeless |= first and not ready
                if ready:
                    self._free.append(work.plot)
            work.over.set()

    def _got_ready(self, work: _Work) -> bool:
        """Whether that worked; else the plot is gone, or, where it cannot be removed, left to the end."""
        try:
            work.plot.get_ready(work.enough)
        except EngineError:
            if not work.plot.remove():
                with self._lock:
                    self._all.remove(work.plot)
            return False
        return True
