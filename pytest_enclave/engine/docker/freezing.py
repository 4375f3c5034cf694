"""Freezing an enclave: its services are stopped, kept as images, and started again.

All are stopped before the first is kept, so that what they have of each other fits together.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.frozen import FrozenDirectory, FrozenEnclave, FrozenService
from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.inscriptions import with_environment
from pytest_enclave.engine.docker.lifecycle import Lifecycle
from pytest_enclave.engine.docker.persistent import PersistentVolumes
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.docker.volumes import FrozenVolume, take_volumes
from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.facts import Status

if TYPE_CHECKING:
    from docker import APIClient

AT_A_TIME = 4
"""Services that are stopped, kept or started at the same time."""

REPOSITORY = "pytest-enclave/frozen"
"""What images of frozen services are called. Images without a name would go whenever a user prunes."""

LONGEST_TAG = 128


class Freezer(msgspec.Struct, frozen=True):
    """Freezes the services of one enclave. `marks` are its labels."""

    client: APIClient
    enclave: str
    marks: Mapping[str, str]
    gate: Gate
    lifecycle: Lifecycle
    persistent: PersistentVolumes

    def freeze(self, services: Sequence[tuple[Service, ContainerState]], point: FrozenEnclave) -> None:
        """Keep services as they are, and let go on what ran.

        Raises EngineError and ServiceError; what was kept until then goes with the point.
        """
        lived = [(service, state) for service, state in services if state.status in (Status.RUNNING, Status.PAUSED)]
        try:
            # The last ones first: they talk to those that were there before them.
            self._each(self._stop, lived[::-1])
            point.services = self._each(lambda service, state: self._kept(service, state, point), services)
            with self.gate.passing():
                point.directories = list(self._directories(point))
        except EnclaveError:
            with suppress(EnclaveError):
                self._each(self._go_on, lived)
            raise
        self._each(self._go_on, lived)

    def _each(
        self,
        work: Callable[[Service, ContainerState], FrozenService | None],
        services: Sequence[tuple[Service, ContainerState]],
    ) -> list[FrozenService]:
        """Do it with all, each behind the gate; whatever goes on when the enclave is closed is waited for."""

        def pass_gate(pair: tuple[Service, ContainerState]) -> FrozenService | None:
            with self.gate.passing():
                return work(*pair)

        return [kept for kept in RealClock().map(pass_gate, services, AT_A_TIME) if kept is not None]

    def _stop(self, service: Service, _: ContainerState) -> None:
        self.lifecycle.stop_cleanly(service.spec.name, service.container)

    def _go_on(self, service: Service, state: ContainerState) -> None:
        self.lifecycle.act(service.spec.name, service.container, Action.START)
        if state.status is Status.PAUSED:
            self.lifecycle.act(service.spec.name, service.container, Action.PAUSE)

    def _directories(self, point: FrozenEnclave) -> Iterator[FrozenDirectory]:
        for directory in self.persistent.take():
            point.keep(directory.content)
            yield directory

    def _kept(self, service: Service, state: ContainerState, point: FrozenEnclave) -> FrozenService:
        spec = service.spec
        with translate(f'cannot inspect the container of service "{spec.name}"'):
            inspected = self.client.inspect_container(service.container)
        named = [posixpath.normpath(path) for path in (*spec.files, *spec.directories)]
        volumes: list[FrozenVolume] = []
        doing = f'cannot read a volume of service "{spec.name}"'
        for volume in take_volumes(self.client, service.container, inspected["Mounts"], named, doing):
            point.keep(volume)
            volumes.append(volume)
        self.gate.check()
        marks = {**self.marks, labels.SERVICE: spec.name, labels.FROZEN: point.name}
        config = {**inspected["Config"], "Labels": {**(inspected["Config"]["Labels"] or {}), **marks}}
        tag = f"{point.name.rpartition('-')[2]}-{spec.name}-{self.enclave}"[:LONGEST_TAG]
        with translate(f'cannot make an image of service "{spec.name}"'):
            self.client.commit(service.container, REPOSITORY, tag, pause=False, conf=config)
        spec = with_environment(spec, inspected["Config"]["Env"] or [])
        return FrozenService(spec, service.artifacts, state, f"{REPOSITORY}:{tag}", volumes)
