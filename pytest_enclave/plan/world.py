"""The simulated enclave that validation walks a plan through (behaviour.md §5.2)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.source import Location


class KnownService(msgspec.Struct, frozen=True):
    """A service of the simulated enclave; `added_at` is where this plan adds it, None where it was there before."""

    ports: Mapping[str, int]
    added_at: Location | None = None
    cpu: int = 0
    memory: int = 0


class World(msgspec.Struct, frozen=True):
    """Names that exist at one point of the plan. Every change gives a new world.

    `removed` remembers where a service went, `capacity` is what is left of CPU and memory (None: unknown).
    """

    services: Mapping[str, KnownService] = msgspec.field(default_factory=dict)
    removed: Mapping[str, Location] = msgspec.field(default_factory=dict)
    artifacts: Mapping[str, Location | None] = msgspec.field(default_factory=dict)
    capacity: Capacity | None = None

    def with_service(self, name: str, config: ServiceConfig, location: Location) -> World:
        """After the service was added or replaced."""
        ports = {port_id: port.number for port_id, port in config.ports.items()}
        known = KnownService(ports, location, config.min_cpu, config.min_memory)
        removed = {other: place for other, place in self.removed.items() if other != name}
        return replace(
            self,
            services={**self.services, name: known},
            removed=removed,
            capacity=self._capacity_plus(-config.min_cpu, -config.min_memory),
        )

    def without_service(self, name: str, location: Location) -> World:
        """After the service was removed."""
        gone = self.services[name]
        return replace(
            self,
            services={other: known for other, known in self.services.items() if other != name},
            removed={**self.removed, name: location},
            capacity=self._capacity_plus(gone.cpu, gone.memory),
        )

    def with_artifact(self, name: str, location: Location) -> World:
        """After the files artifact was stored or replaced."""
        return replace(self, artifacts={**self.artifacts, name: location})

    def _capacity_plus(self, cpu: int, memory: int) -> Capacity | None:
        if self.capacity is None:
            return None
        return Capacity(self.capacity.cpu + cpu, self.capacity.memory + memory)
