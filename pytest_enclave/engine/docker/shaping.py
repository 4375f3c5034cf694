"""How packets travel between an enclave's services: said to processes that hold them up (`shaper/`).

Where this is root on the engine's own machine, one process does it for all services (`local_shaper`), else one in a
container beside each (`sidecars`). They know how packets travel: where there are none, nothing is between any services.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

from pytest_enclave.engine.docker.local_shaper import LocalShaper
from pytest_enclave.engine.docker.shape import NOTHING, Running, Shape, Surroundings
from pytest_enclave.engine.docker.sidecars import Sidecars
from pytest_enclave.errors import EngineError
from pytest_enclave.ledger.locks import SharedLock


class Way(Protocol):
    """A way to shape traffic."""

    @property
    def is_on(self) -> bool:
        """Whether anything may be between services. Costs no call."""

    def shape(self, shape: Shape, addresses: Mapping[str, str], running: Running) -> None:
        """Have this and nothing else. Raises EngineError."""

    def shaped(self) -> Shape:
        """What there is, whoever said so. Raises EngineError."""

    def names(self, service: str) -> bool:
        """Whether it was said that something is between this service and others. Raises EngineError."""

    def starting(self, name: str) -> None:
        """A service is about to be started. Raises EngineError."""

    def started(self, name: str, address: str, container: str) -> None:
        """A service was started, by whomever. Raises EngineError."""

    def end(self) -> None:
        """Have nothing any more. Raises EngineError."""


class Shaping:
    """How packets travel in one enclave, as this process has it. Safe with several threads and processes."""

    def __init__(self, around: Surroundings) -> None:
        self._notes = around.notes
        self._locks = {"shaping": threading.RLock(), "starting": threading.RLock()}
        self._sidecars_wanted = around.plan.sidecars
        self._local, self._sidecars = LocalShaper(around), Sidecars(around)

    @property
    def is_on(self) -> bool:
        """Whether anything may be between services. Costs no call."""
        return self._way() is not None

    def shape(self, shape: Shape, addresses: Mapping[str, str], running: Running) -> None:
        """Packets travel like this from now on (`Site.shape`)."""
        if unknown := sorted({name for ends in shape.connections for name in ends} - addresses.keys()):
            names = ", ".join(f'"{name}"' for name in unknown)
            raise EngineError(f"cannot shape the enclave's traffic: no service has an address for {names}")
        with self._alone("shaping"):
            way = self._way()
            if way is None and shape.connections:
                way = self._sidecars if self._needs_sidecars(addresses, running) else self._local
            if way is not None:
                way.shape(shape, addresses, running)

    def shaped(self) -> Shape:
        """How packets travel now (`Site.shaped`)."""
        way = self._way()
        return way.shaped() if way is not None else NOTHING

    @contextmanager
    def starting(self, name: str, address: str) -> Iterator[Callable[[str], None]]:
        """Start a service inside, and say which container that is: then what was said of it holds.

        Of two that something is between, one is started after the other: they must not meet before that.
        """

        def started(container: str) -> None:
            # Somebody may have begun with it meanwhile.
            self.started(name, address, container)

        if (way := self._way()) is not None and way.names(name):
            with self._alone("starting"):
                with self._alone("shaping"):
                    way.starting(name)
                yield started
        else:
            yield started

    def started(self, name: str, address: str, container: str) -> None:
        """A service was started, by whomever. Raises EngineError."""
        if self.is_on:
            with self._alone("shaping"):
                if (way := self._way()) is not None:
                    way.started(name, address, container)

    def end(self) -> None:
        """Nothing is between any services any more, and no process is there for it."""
        # What cannot be ended now goes with the containers.
        with suppress(EngineError):
            if (way := self._way()) is not None:
                way.end()

    def _way(self) -> Way | None:
        ways: tuple[Way, ...] = (self._local, self._sidecars)
        return next((way for way in ways if way.is_on), None)

    def _needs_sidecars(self, addresses: Mapping[str, str], running: Running) -> bool:
        if self._sidecars_wanted is not None:
            return self._sidecars_wanted
        return not self._local.is_possible(addresses, running)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Be the only one of the enclave that does this."""
        with self._locks[what]:
            if self._notes.directory is None:
                yield
                return
            lock = SharedLock(self._notes.directory / what)
            with suppress(OSError):
                self._notes.directory.mkdir(mode=0o700, exist_ok=True)
                lock.take()
            try:
                yield
            finally:
                lock.release()
