"""One enclave on a Docker engine: its services by name, and what can be asked of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.archives import read_archive
from pytest_enclave.engine.docker.artifacts import ArtifactMounts
from pytest_enclave.engine.docker.commands import run_command
from pytest_enclave.engine.docker.containers import port_key
from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.images import Images
from pytest_enclave.engine.docker.labels import ownership
from pytest_enclave.engine.docker.lifecycle import Lifecycle
from pytest_enclave.engine.docker.listening import accepts_connections, listens_behind_proxy
from pytest_enclave.engine.docker.logs import read_logs
from pytest_enclave.engine.docker.networks import EnclaveNetwork, Network, NetworkPlan, make_network
from pytest_enclave.engine.docker.plots import Plot
from pytest_enclave.engine.docker.reachability import LOOPBACK
from pytest_enclave.engine.docker.removal import remove_enclave
from pytest_enclave.engine.docker.starting import Starter
from pytest_enclave.engine.docker.states import ContainerState, fact
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import (
    Action,
    Address,
    DeadlineExceeded,
    EnclaveId,
    Endpoint,
    ExecResult,
    Exit,
    HttpRequest,
    HttpResponse,
    Leak,
    LogLine,
    NotReached,
    ServiceSpec,
)
from pytest_enclave.errors import EnclaveError, ImageUnavailable, ServiceError
from pytest_enclave.plan.facts import Capacity, ServiceFact
from pytest_enclave.plan.service import PortSpec

if TYPE_CHECKING:
    from docker import APIClient

CLOSING = 30.0
"""Seconds that closing an enclave may take."""


@dataclass(frozen=True, slots=True)
class SitePlan:
    """How an enclave is made: its network, and whether artifacts may be bind-mounted.

    On a plot, if there is one; what has it back when nothing of the enclave is left on it.
    """

    network: NetworkPlan
    binds: bool
    capacity: Capacity
    plot: Plot | None = None
    give_back: Callable[[Plot], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class _Live:
    """A live service: what it was started from, and its container."""

    spec: ServiceSpec
    container: str


class DockerSite:
    """An enclave. Its network comes up in the background, and its services' states are followed from the start."""

    def __init__(
        self,
        client: APIClient,
        enclave: EnclaveId,
        plan: SitePlan,
        http: HttpClient,
        remover: Callable[[], APIClient],
    ) -> None:
        marks = ownership(enclave.name)
        self._client = client
        self._enclave = enclave.name
        self._endpoint = plan.network.endpoint
        self._http = http
        self._remover = remover
        self._gate = Gate(f"enclave {enclave.name}")
        self._follower = Follower(client, enclave.name)
        self._plot = plan.plot
        self._give_back = plan.give_back
        self._network = _network(client, enclave.name, marks, plan)
        self._mounts = ArtifactMounts(client, enclave.name, marks, plan.binds)
        self._starter = Starter(
            client, enclave.name, marks, self._mounts, self._follower, self._gate, plan.capacity, plan.plot
        )
        self._lifecycle = Lifecycle(client, self._follower)
        self._images = Images(client)
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}
        self._published: dict[tuple[str, int], Mapping[str, int]] = {}

    def observe(self) -> Mapping[str, ServiceFact]:
        """Every live service by name; no call to the engine while its events are followed."""
        with self._lock:
            live = dict(self._live)
        states = {name: self._follower.state(service.container) for name, service in live.items()}
        return {name: fact(state) for name, state in states.items() if state is not None and not state.gone}

    def reserve(self, name: str) -> Address:
        """Hostname and address of a service: its name, and an address on the enclave's network that stays its own."""
        return Address(name, self._network.address(name))

    def start(
        self, specs: Sequence[ServiceSpec], artifacts: Mapping[str, Path], parallelism: int
    ) -> Mapping[str, EnclaveError | None]:
        """Start services, replacing live ones of the same name; per service None, or what went wrong.

        Returns when their processes run, or have ended already. Raises EngineError where there is no network.
        """
        network = self._network.ready()

        def attempt(spec: ServiceSpec) -> EnclaveError | None:
            try:
                with self._gate.passing():
                    self._bring_up(spec, network, artifacts)
            except EnclaveError as error:
                return error
            return None

        outcomes = RealClock().map(attempt, specs, parallelism)
        return {spec.name: outcome for spec, outcome in zip(specs, outcomes, strict=True)}

    def act(self, name: str, action: Action) -> None:
        """Do something to a live service. Stopping kills what has not ended after a second.

        What it already is, it stays; removing one that is not there is no error. Raises ServiceError, EngineError.
        """
        with self._gate.passing():
            if action is Action.REMOVE:
                self._remove(name)
                if self._plot is not None:
                    # Its name is not to be found any more.
                    self._plot.discard(name)
            else:
                self._lifecycle.act(name, self._service(name).container, action)

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        """Run a command in a service (`Site.exec`)."""
        container = self._running(name)
        return run_command(self._client, container, command, deadline)

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """Ask a service over HTTP. Raises DeadlineExceeded or NotReached."""
        self._running(name)
        return self._http.send(self._endpoint_of(name, port), request, deadline)

    def accepts(self, name: str, port: PortSpec) -> bool:
        """Whether something accepts connections on the service's port right now. UDP and SCTP: always."""
        if port.transport_protocol != "TCP":
            return True
        try:
            container = self._running(name)
            endpoint = self._endpoint_of(name, port)
            if self._network.ready().reach.direct:
                return accepts_connections(endpoint)
            deadline = time.monotonic() + 2
            return listens_behind_proxy(
                endpoint, port.number, lambda command: run_command(self._client, container, command, deadline)
            )
        except (NotReached, DeadlineExceeded):
            return False

    def dial(self, name: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches the port: a public one at its public number, others where they are."""
        spec = self._service(name).spec
        for id_, public in spec.public_ports.items():
            if port_key(spec.ports.get(id_, public)) == port_key(port):
                reach = self._network.ready().reach
                return Endpoint(LOOPBACK if reach.direct else reach.host, public.number)
        return self._endpoint_of(name, port)

    def read(self, name: str, path: str) -> Iterator[bytes]:
        """A tar stream of a file or directory inside the service. Raises NotReached where there is none."""
        return read_archive(self._client, self._known(name), path)

    def logs(self, name: str, since: float | None = None) -> Sequence[LogLine]:
        """What the service has written since then (seconds since the epoch), oldest first; nothing if it is gone."""
        with self._lock:
            live = self._live.get(name)
        state = self._follower.state(live.container) if live else None
        if live is None or state is None or state.gone:
            return []
        return read_logs(self._client, live.container, since)

    def exit_of(self, name: str) -> Exit | None:
        """How the service's process ended, or None while it lives; no call while events are followed."""
        with self._lock:
            live = self._live.get(name)
        state = self._follower.state(live.container) if live else None
        return state.exit if state else None

    def pause(self, seconds: float, watching: str | None = None) -> Exit | None:
        """Let time pass; return early, with the exit, as soon as the watched service ends."""
        with self._lock:
            live = self._live.get(watching) if watching else None
        if live is None:
            self._follower.closing(seconds)
            return None
        state = self._follower.wait(live.container, lambda it: it is None or it.exit is not None, seconds)
        return state.exit if state else None

    def close(self) -> Sequence[Leak]:
        """Remove everything this enclave has on the engine, within half a minute; what could not be removed.

        May be called again, at any time, from any thread, also while services are being started.
        """
        deadline = time.monotonic() + CLOSING
        self._gate.shut()
        at_rest = self._gate.empty(CLOSING / 2)
        self._network.settled(CLOSING / 4)
        self._follower.close()
        leaks = remove_enclave(self._remover(), self._endpoint, self._enclave, deadline)
        if not leaks:
            with self._lock:
                self._live.clear()
                plot, self._plot = self._plot, None
            if plot is not None and at_rest:
                self._give_back(plot)
        return leaks

    def _bring_up(self, spec: ServiceSpec, network: Network, artifacts: Mapping[str, Path]) -> None:
        image = self._images.digest(spec.image)
        if image is None:
            raise ImageUnavailable(f'image "{spec.image}" is not on the engine')
        self._remove(spec.name)
        container = self._starter.start(spec, image, network, artifacts)
        with self._lock:
            self._live[spec.name] = _Live(spec, container)

    def _remove(self, name: str) -> None:
        with self._lock:
            live = self._live.pop(name, None)
        if live is not None:
            self._lifecycle.remove(live.container)

    def _service(self, name: str) -> _Live:
        with self._lock:
            live = self._live.get(name)
        if live is None:
            raise ServiceError(f'there is no service "{name}"', service=name)
        return live

    def _known(self, name: str) -> str:
        """The container of a service that is there, whatever it does."""
        with self._lock:
            live = self._live.get(name)
        if live is None:
            raise NotReached("there is no such service")
        state = self._follower.state(live.container)
        if state is None or state.gone:
            raise NotReached("the service was removed by somebody else")
        return live.container

    def _running(self, name: str) -> str:
        """The container of a service that runs."""
        container = self._known(name)
        state = self._follower.state(container)
        if state is not None and state.exit is not None:
            raise NotReached(f"the service has ended with exit code {state.exit.code}")
        return container

    def _endpoint_of(self, name: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches a private port."""
        reach = self._network.ready().reach
        live = self._service(name)
        if reach.direct:
            return Endpoint(live.spec.address.ip_address, port.number)
        state = self._follower.state(live.container)
        published = self._published_ports(live.container, state)
        if port_key(port) not in published:
            raise NotReached(f"port {port_key(port)} is not declared, so it is not published")
        return Endpoint(reach.host, published[port_key(port)])

    def _published_ports(self, container: str, state: ContainerState | None) -> Mapping[str, int]:
        """Where the engine published the container's ports; it chooses anew at every start."""
        key = (container, state.starts if state else 0)
        if key not in self._published:
            with translate("cannot inspect a service's container"):
                ports = self._client.inspect_container(container)["NetworkSettings"]["Ports"]
            self._published[key] = {
                private: int(bindings[0]["HostPort"]) for private, bindings in ports.items() if bindings
            }
        return self._published[key]


def _network(client: APIClient, enclave: str, marks: Mapping[str, str], plan: SitePlan) -> EnclaveNetwork:
    """The enclave's network: the plot's if it is on one, else a new one."""
    if plan.plot is not None:
        plot = plan.plot
        return EnclaveNetwork(enclave, lambda: plot.network, plot.addresses)
    return EnclaveNetwork(enclave, lambda: make_network(client, enclave, marks, plan.network), {})
