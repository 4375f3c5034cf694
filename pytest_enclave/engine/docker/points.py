"""The freezes that an enclave has to do with: the one that it began with, if it is a fork, and its own latest one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_enclave.engine.docker.freezing import Freezer
    from pytest_enclave.engine.docker.frozen import FrozenEnclave

REMOVING = 15.0
"""Seconds that removing the images of a freeze may take, while the enclave goes on."""


class Points:
    """What an enclave holds of freezes until it is closed, and what it removes of them if nobody else holds them."""

    def __init__(
        self,
        enclave: str,
        endpoint: str,
        remover: Callable[[], APIClient],
        freezer: Callable[[], Freezer],
        origin: FrozenEnclave | None,
    ) -> None:
        self._enclave = enclave
        self._endpoint = endpoint
        self._remover = remover
        self._freezer = freezer
        self._origin = origin
        self._freezing = threading.Lock()
        self._lock = threading.Lock()
        self._latest: FrozenEnclave | None = None
        self._held = [origin] if origin is not None else []

    def freeze(self, services: Sequence[tuple[Service, ContainerState]], addresses: Mapping[str, str]) -> None:
        """Freeze services, which from now on is the latest point. Raises EngineError, ServiceError: then it is not."""
        from pytest_enclave.engine.docker.frozen import FrozenEnclave

        with self._freezing:
            name = f"{self._enclave}-{secrets.token_hex(4)}"
            point = FrozenEnclave(name, addresses, self._remove_images, self._origin)
            point.hold(self._enclave)
            with self._lock:
                self._held.append(point)
            try:
                self._freezer().freeze(services, point)
            except BaseException:
                self._release(point)
                raise
            with self._lock:
                before, self._latest = self._latest, point
            if before is not None:
                self._release(before)

    def hold(self, holder: str) -> FrozenEnclave:
        """The latest point, for a fork that holds it from now on. Raises EngineError if there is none."""
        with self._lock:
            if self._latest is None:
                raise EngineError(f"{self._enclave} was never frozen, so there is nothing that a fork could begin with")
            self._latest.hold(holder)
            return self._latest

    def close(self, deadline: float) -> list[Leak]:
        """Let go of all; what then could not be removed by the deadline. May be called again."""
        with self._lock:
            held = list(self._held)
        return [leak for point in held for leak in point.release(self._enclave, deadline)]

    def leave(self, deadline: float) -> None:
        """Let go of what was frozen here; the services of a fork go on, and so do the images that they began with."""
        with self._lock:
            held = [point for point in self._held if point is not self._origin]
            self._held = [point for point in self._held if point is self._origin]
        for point in held:
            point.release(self._enclave, deadline)

    def _release(self, point: FrozenEnclave) -> None:
        """Let go of one point. What of it cannot be removed now is told of when the enclave is closed."""
        if not point.release(self._enclave, time.monotonic() + REMOVING):
            with self._lock:
                self._held.remove(point)

    def _remove_images(self, freeze: str, deadline: float) -> list[Leak]:
        from pytest_enclave.engine.docker.removal import remove_images

        return remove_images(self._remover(), self._endpoint, freeze, deadline)
