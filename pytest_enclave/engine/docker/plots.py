"""Plots: networks with a pod for each of some services, that one enclave after another is put on."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.networks import Network, NetworkPlan, host_address, make_network
from pytest_enclave.engine.docker.owners import ownership
from pytest_enclave.engine.docker.pause import have_image
from pytest_enclave.engine.docker.podfiles import PodFiles, sample
from pytest_enclave.engine.docker.pods import Place, Pod, make_pod, quiet
from pytest_enclave.engine.docker.removal import remove_enclave
from pytest_enclave.engine.docker.scratch import make_scratch
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import EnclaveId, Leak, ServiceSpec
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

AT_A_TIME = 4
"""Pods that are made at the same time: fewer than an enclave's services, as a test is running meanwhile."""

REMOVING = 30.0
"""Seconds that removing a plot may take."""


@dataclass(slots=True)
class Ground:
    """What plots on one engine are made with. `files` is found out by the first of them."""

    client: APIClient
    remover: Callable[[], APIClient]
    networks: NetworkPlan
    architecture: str
    files: PodFiles | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def files_on(self, network: Network, marks: Mapping[str, str]) -> PodFiles:
        """What is in the files of containers on this engine. Raises EngineError."""
        with self.lock:
            if self.files is None:
                have_image(self.client, self.architecture)
                self.files = sample(self.client, network.name, str(network.subnet[-3]), marks)
            return self.files


class Plot:
    """A network and pods. It is empty until it is got ready for the first time.

    Its resources carry its own name where those of enclaves carry theirs, so whatever finds these finds it as well.
    """

    def __init__(self, ground: Ground, services: Sequence[str]) -> None:
        self.services = frozenset(services)
        self.name = f"plot-{os.getpid()}-{secrets.token_hex(3)}"
        self._ground = ground
        self._order = sorted(self.services)
        self._marks = ownership(EnclaveId(self.name))
        self._lock = threading.Lock()
        self._network: Network | None = None
        self._directory: Path | None = None
        self._pods: dict[str, Pod] = {}

    @property
    def network(self) -> Network:
        """The network. Raises EngineError as long as there is none."""
        if self._network is None:
            raise EngineError("the plot has no network")
        return self._network

    @property
    def addresses(self) -> Mapping[str, str]:
        """The address of each service."""
        subnet = self.network.subnet
        return {service: host_address(subnet, number) for number, service in enumerate(self._order)}

    def pod_for(self, spec: ServiceSpec) -> str | None:
        """The container whose network namespace the service is to be started in, None if it gets its own.

        That is where it publishes ports. Raises EngineError where a pod is in its way and cannot be removed.
        """
        if spec.public_ports:
            self.discard(spec.name)
        with self._lock:
            pod = self._pods.get(spec.name)
        return pod.container if pod else None

    def discard(self, service: str) -> None:
        """Remove the service's pod, if it has one, and make its address free. Raises EngineError."""
        with self._lock:
            pod = self._pods.pop(service, None)
        if pod is None:
            return
        try:
            with translate(f'cannot remove the pod of service "{service}"'):
                self._ground.client.remove_container(pod.container, force=True, v=True)
        except Refused as refused:
            if refused.status != 404:
                raise

    def get_ready(self, enough: threading.Event) -> None:
        """Clean what was used, and make what is missing; pods only until there are `enough`. Raises EngineError."""
        if self._network is None:
            self._network = make_network(self._ground.client, self.name, self._marks, self._ground.networks)
            if not self._network.reach.direct:
                raise EngineError("services in pods are not reached from here")
            self._directory = make_scratch()
        files = self._ground.files_on(self._network, self._marks)
        self._check_alone(self._network)
        for service, pod in list(self._pods.items()):
            if not self._clean(files, service, pod):
                self.discard(service)

        def make(service: str) -> None:
            if not enough.is_set():
                self._make(files, service)

        RealClock().map(make, [service for service in self._order if service not in self._pods], AT_A_TIME)

    def remove(self) -> list[Leak]:
        """Remove everything; what could not be removed. May be called again."""
        endpoint = self._ground.networks.endpoint
        leaks = remove_enclave(self._ground.remover(), endpoint, self.name, time.monotonic() + REMOVING)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        return leaks

    def _make(self, files: PodFiles, service: str) -> None:
        address, directory = self.addresses[service], self._files_of(service)
        files.write(directory, service, address)
        pod = make_pod(self._ground.client, Place(self.name, service, address, directory), self._marks)
        with self._lock:
            self._pods[service] = pod

    def _clean(self, files: PodFiles, service: str, pod: Pod) -> bool:
        """Make a used pod as good as new; whether it is."""
        if not quiet(pod):
            return False
        with suppress(EngineError):
            files.write(pod.files, service, pod.ip_address)
            return True
        return False

    def _files_of(self, service: str) -> Path:
        """A new directory: files that a service has made another user's are not to be written again."""
        return Path(tempfile.mkdtemp(prefix=f"{service}-", dir=self._directory))

    def _check_alone(self, network: Network) -> None:
        """Raises EngineError where containers that are not ours are on the network: a user may look around there."""
        with self._lock:
            ours = {pod.container for pod in self._pods.values()}
        with translate("cannot inspect the network"):
            there = set(self._ground.client.inspect_network(network.name)["Containers"])
        if there - ours:
            raise EngineError("others are on the network")
