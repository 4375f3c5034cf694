"""The live services of an enclave by name, and what their containers do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec.structs import replace

from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.roster import Found, Roster
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.protocol import NotReached
from pytest_enclave.errors import EngineError, ServiceError


class LiveServices:
    """Services in the order in which they were started, here or by other processes.

    Those of others become known by events, by looking for a name that is not known, and by `refresh`; `met` is told
    of each.
    """

    def __init__(self, follower: Follower, roster: Roster, met: Callable[[Service], None]) -> None:
        self._follower = follower
        self._roster = roster
        self._met = met
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

    def take(self, name: str) -> Service | None:
        """Take a service out, also one that somebody else has started. Raises EngineError."""
        if (service := self.pop(name)) is not None:
            return service
        found = self._roster.named(name)
        return found[0] if found else None

    def refresh(self) -> None:
        """Know all services that there are, and no others. Raises EngineError."""
        with self._lock:
            before = dict(self._services)
        found = {service.spec.name: (service, state) for service, state in self._roster.all()}
        for name, service in before.items():
            now = found.get(name)
            if now is None or now[0].container != service.container:
                with self._lock:
                    # Here, it may have been replaced in the meantime.
                    if self._services.get(name) is service:
                        del self._services[name]
                self._follower.states.forget(service.container)
            else:
                self._agree(service.container, now[1])
        for each in found.values():
            self._meet(each)

    def look(self) -> None:
        """Get to know services that were started by others, and what all do that are there. Raises EngineError."""
        for service, state in self._roster.all():
            if not self._meet((service, state)):
                self._agree(service.container, state)

    def started(self, container: str, marks: Mapping[str, str]) -> None:
        """Somebody else has started a container with these labels. Raises EngineError."""
        found = self._roster.started(container, marks)
        if found is None:
            return
        name = found[0].spec.name
        with self._lock:
            known = self._services.get(name)
        state = self._follower.states.get(known.container) if known else None
        if state is not None and not state.gone:
            # Events come late: which of the two is the newer one?
            found = self._roster.named(name)
        if found is not None:
            self._meet(found)

    def clear(self) -> None:
        """All have gone."""
        with self._lock:
            self._services.clear()

    def find(self, name: str) -> Service | None:
        """The service, None if there is none: one that is not known is looked for."""
        with self._lock:
            service = self._services.get(name)
        return service or self._looked_for(name)

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
            service = self._looked_for(name)
            if service is None:
                raise NotReached("the service was removed by somebody else")
        return service.container

    def running(self, name: str) -> str:
        """The container of a service that runs. Raises NotReached."""
        container = self.container(name)
        state = self._follower.state(container)
        if state is not None and state.exit is not None:
            raise NotReached(f"the service has ended with exit code {state.exit.code}")
        return container

    def _agree(self, container: str, found: ContainerState) -> None:
        """Know what a container does that was known before."""
        known = self._follower.states.get(container)
        if known is None or known.status is found.status:
            return
        if known.exit is not None and known.exit == found.exit:
            # Somebody has said meanwhile that its end was wanted.
            self._follower.states.put(container, replace(known, status=found.status))
        else:
            self._follower.refresh(container)

    def _looked_for(self, name: str) -> Service | None:
        """A service that another process may have started in the meantime."""
        with suppress(EngineError):
            if (found := self._roster.named(name)) is not None:
                self._meet(found)
                with self._lock:
                    known = self._services.get(name)
                # An event may have told of it at the same moment. One that was removed here is known no more.
                return known if known is not None and known.container == found[0].container else None
        return None

    def _meet(self, found: Found) -> bool:
        """Know a service that somebody else has started; whether it was not known."""
        service, state = found
        if not self._follower.states.add(service.container, state):
            return False
        with self._lock:
            before = self._services.get(service.spec.name)
            self._services[service.spec.name] = service
        if before is not None:
            self._follower.states.forget(before.container)
        self._met(service)
        return True
