"""The state of one enclave, in one place: what runs it, what has been executed in it, and what that left behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec

from pytest_enclave.engine.protocol import EnclaveId, Engine, Site
from pytest_enclave.errors import HalfStarted
from pytest_enclave.plan.connections import ConnectionMatrix, laid_over
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.topology import Topology, topology_of
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from pytest_enclave.store.plans import KeptPlans

Config = TypeVar("Config", Struct, ServiceConfig)


class EnclaveState(msgspec.Struct, frozen=True):
    """An open enclave. The journal is the truth; services and values are read off it.

    `faults` is what the running test has laid over the connections that are recorded.
    """

    id: EnclaveId
    engine: Engine
    site: Site
    journal: Journal
    artifacts: ArtifactStore
    plans: KeptPlans | None = None
    faults: list[ConnectionMatrix] = msgspec.field(default_factory=list)

    def refresh(self) -> None:
        """Take over what other processes have done in it. Raises HalfStarted if one was killed in the middle of a run.

        For whoever has the turn: nobody else runs anything in it meanwhile.
        """
        if self.journal.refresh():
            self.site.refresh()
        if self.journal.interrupted:
            raise HalfStarted(f"enclave {self.id.name} is half-started: a run in it was killed")

    def services(self) -> dict[str, Struct]:
        """Every service that the enclave plan leaves in place, by name: its config, as the plan has it."""
        live: dict[str, Struct] = {}
        for record in self.journal.snapshot():
            leave_behind(live, record, record.services)
        return live

    def configs(self) -> dict[str, ServiceConfig]:
        """The same, as engines want to know it."""
        return configs_of(self.services())

    def topology(self) -> Topology:
        """Which subnetworks the services are in, and what is between these, as the enclave plan has it."""
        return topology_of(self.journal.snapshot())

    def connections(self) -> ConnectionMatrix:
        """What is to be between services: as the enclave plan has it, and the running test's faults."""
        topology = self.topology()
        return self.with_faults(topology.matrix(), topology.services)

    def with_faults(self, recorded: ConnectionMatrix, services: Collection[str]) -> ConnectionMatrix:
        """What is to be between these services where this is what plans say of it."""
        if not self.faults:
            return recorded
        faults = laid_over(self.faults)
        return laid_over([recorded, {(a, b): faults[a, b] for a, b in faults if a in services and b in services}])

    def values(self) -> dict[str, Mapping[str, Value]]:
        """Everything that executed instructions have produced, by producer; the latest one counts."""
        known: dict[str, Mapping[str, Value]] = {}
        for record in self.journal.snapshot():
            known |= record.values
        return known


def configs_of(services: Mapping[str, Struct]) -> dict[str, ServiceConfig]:
    """Services as the plan has them, as engines want to know them."""
    return {name: ServiceConfig.of(config) for name, config in services.items()}


def leave_behind(live: dict[str, Config], record: Record, made: Mapping[str, Config]) -> None:
    """Bring the live services up to date with one more executed instruction, and what it made."""
    live |= made
    if record.name == "remove_service":
        for name in record.footprint.acts_on:
            live.pop(name, None)
