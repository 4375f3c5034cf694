"""Freezing an enclave: what services have written so far becomes a layer, which forks begin with as they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.embedded.inside.service import Outcome, Service

if TYPE_CHECKING:
    from pytest_enclave.engine.embedded.inside.init import Init

GRACE = 20.0
"""Seconds that a service has to end: what it still has to write is what forks begin with."""


class Freezing:
    """Stops what runs, makes what it has written a layer, and lets it go on from there.

    `start` starts a service again; `frozen` is told the `services` and persistent `directories` as they are then, and
    the `error` where something went wrong.
    """

    def __init__(
        self,
        init: Init,
        start: Callable[[Service, dict[str, Any], Outcome], None],
        frozen: Callable[[dict[str, Any]], None],
    ) -> None:
        self._directories = init.directories
        self._services = [service for service in init.services.values() if service.status != "absent"]
        self._alive = [service for service in self._services if service.alive]
        self._paused = [service for service in self._alive if service.status == "paused"]
        self._start = start
        self._frozen = frozen
        self._pending = 0
        self._answer: dict[str, Any] = {"services": [], "directories": {}}

    def begin(self) -> None:
        """Stop the services; the rest follows as they end. Nobody else may start or end one until it is told."""
        self._pending = len(self._alive)
        for service in self._alive:
            service.stop(GRACE, self._stopped)
        if not self._alive:
            self._take()

    def _stopped(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._take()

    def _take(self) -> None:
        try:
            self._answer["services"] = [self._state(service) for service in self._services]
            self._answer["directories"] = self._directories.freeze()
        except OSError as failure:
            self._answer |= {"error": str(failure), "kind": "system"}
        self._pending = len(self._alive)
        for service in self._alive:
            self._start(service, service.spec, self._started)
        if not self._alive:
            self._finish()

    def _state(self, service: Service) -> dict[str, Any]:
        status = service.status
        if service in self._alive:
            status = "paused" if service in self._paused else "running"
        return {"number": service.number, "status": status, "exit": service.exit, "spec": service.freeze()}

    def _started(self, outcome: dict[str, Any]) -> None:
        self._pending -= 1
        self._answer |= outcome
        if self._pending == 0:
            self._finish()

    def _finish(self) -> None:
        for service in self._paused:
            if service.alive:
                service.pause()
        self._frozen(self._answer)
