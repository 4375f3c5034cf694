"""The live services of an enclave by name, and what their containers do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.protocol import NotReached, ServiceSpec
from pytest_enclave.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Service:
    """A live service: what it was started from, its container, and the directories of its artifacts by name."""

    spec: ServiceSpec
    container: str
    artifacts: Mapping[str, Path] = field(default_factory=dict)


class LiveServices:
    """Services in the order in which they were started."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._lock = threading.Lock()
        self._services: dict[str, Service] = {}

    def put(self, service: Service) -> None:
        """A service was started."""
        with self._lock:
            self._services[service.spec.name] = service

    def pop(self, name: str) -> Service | None:
        """Take a service out, if there is one, because it goes."""
        with self._lock:
            return self._services.pop(name, None)

    def clear(self) -> None:
        """All have gone."""
        with self._lock:
            self._services.clear()

    def find(self, name: str) -> Service | None:
        """The service, None if there is none."""
        with self._lock:
            return self._services.get(name)

    def named(self, name: str) -> Service:
        """The service. Raises ServiceError if there is none."""
        service = self.find(name)
        if service is None:
            raise ServiceError(f'there is no service "{name}"', service=name)
        return service

    def state(self, name: str) -> ContainerState | None:
        """What the service's container does, None if there is none; one that is gone is told as such."""
        service = self.find(name)
        return self._follower.state(service.container) if service else None

    def there(self) -> list[tuple[Service, ContainerState]]:
        """All services whose containers nobody has removed, and what these do."""
        with self._lock:
            services = list(self._services.values())
        states = [(service, self._follower.state(service.container)) for service in services]
        return [(service, state) for service, state in states if state is not None and not state.gone]

    def container(self, name: str) -> str:
        """The container of a service that is there, whatever it does. Raises NotReached."""
        service = self.find(name)
        if service is None:
            raise NotReached("there is no such service")
        state = self._follower.state(service.container)
        if state is None or state.gone:
            raise NotReached("the service was removed by somebody else")
        return service.container

    def running(self, name: str) -> str:
        """The container of a service that runs. Raises NotReached."""
        container = self.container(name)
        state = self._follower.state(container)
        if state is not None and state.exit is not None:
            raise NotReached(f"the service has ended with exit code {state.exit.code}")
        return container
