"""One enclave on a Docker engine: its services by name, and what can be asked of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.clock import attempted
from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.endpoints import Endpoints
from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.images import Images
from pytest_enclave.engine.docker.live import LiveServices
from pytest_enclave.engine.docker.loading import Archives
from pytest_enclave.engine.docker.networks import EnclaveNetwork, Network, NetworkPlan, make_network
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.owners import ownership
from pytest_enclave.engine.docker.persistent import PersistentVolumes
from pytest_enclave.engine.docker.points import Points
from pytest_enclave.engine.docker.roster import Roster
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.shape import Shape, ShaperPlan, Surroundings
from pytest_enclave.engine.docker.shaping import Shaping
from pytest_enclave.engine.docker.states import fact
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
from pytest_enclave.errors import EnclaveError, EngineError, ImageUnavailable
from pytest_enclave.plan.connections import ConnectionMatrix
from pytest_enclave.plan.facts import Capacity, ServiceFact, Status
from pytest_enclave.plan.service import PortSpec

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_enclave.engine.docker.conversation import DockerConversation
    from pytest_enclave.engine.docker.deeds import Deeds
    from pytest_enclave.engine.docker.forking import ForkFiles
    from pytest_enclave.engine.docker.frozen import FrozenEnclave
    from pytest_enclave.engine.docker.plots import Plot
    from pytest_enclave.engine.docker.terminal import DockerTerminal

CLOSING = 30.0
"""Seconds that closing an enclave may take."""

BEGINNING = 1.0
"""Seconds that the engine may take to begin with its events, before it is asked what there is without them."""


class SitePlan(msgspec.Struct, frozen=True):
    """How an enclave is made: its network, whether artifacts may be bind-mounted, and the engine's capacity.

    The last two are asked for when they are needed. On a plot, if there is one; what has it back when nothing of the
    enclave is left on it. `archives` are those that packages name as images. A fork is made of its `origin`. One that
    is there already has its network `found`.
    """

    network: NetworkPlan
    binds: Callable[[], bool]
    capacity: Callable[[], Capacity]
    plot: Plot | None = None
    give_back: Callable[[Plot], None] = lambda _: None
    archives: Archives = msgspec.field(default_factory=Archives)
    shaper: ShaperPlan = msgspec.field(default_factory=ShaperPlan)
    origin: FrozenEnclave | None = None
    found: Network | None = None

    def fork(self, origin: FrozenEnclave) -> SitePlan:
        """How a fork is made: the same way, on a network of its own."""
        return replace(self, plot=None, give_back=lambda _: None, origin=origin, found=None)


class DockerSite:
    """An enclave. Its network comes up in the background, and its services' states are followed from the start."""

    def __init__(
        self,
        client: Client,
        enclave: EnclaveId,
        plan: SitePlan,
        http: HttpClient,
        remover: Callable[[], APIClient],
    ) -> None:
        self._marks = marks = ownership(enclave)
        self._notes = notes = Notes(enclave.home)
        self._client = client
        self._enclave = enclave.name
        self._id = enclave
        self._plan = plan
        self._endpoint = plan.network.endpoint
        self._http = http
        self._remover = remover
        self._gate = Gate(f"enclave {enclave.name}")
        self._follower = Follower(client, enclave.name, notes)
        self._plot = plan.plot
        self._network = _network(client, enclave.name, marks, plan, notes)
        self._persistent = PersistentVolumes(client, enclave.name, marks)
        holder = enclave.holder or os.getpid()
        endpoint = plan.network.endpoint
        self._shaping = Shaping(Surroundings(client, endpoint, enclave.name, marks, notes, holder, plan.shaper))
        self._made: Deeds | None = None
        self._images = Images(client, archives=plan.archives)
        self._live = LiveServices(self._follower, Roster(client, enclave.name, notes), self._met)
        self._endpoints = Endpoints(client, self._network, self._follower)
        self._files: ForkFiles | None = None
        self._points = Points(enclave.name, self._endpoint, remover, lambda: self._deeds().freezer, plan.origin)
        self._lock = threading.Lock()
        is_found = plan.found is not None
        self._follower.follow(self._live.started, self._live.look, self._started, look_first=is_found)
        if is_found and not self._follower.follows(BEGINNING):
            self._look_alone()

    def observe(self) -> Mapping[str, ServiceFact]:
        """Every live service by name; no call to the engine while its events are followed."""
        return {service.spec.name: fact(state) for service, state in self._live.there()}

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

        def bring_up(spec: ServiceSpec) -> None:
            with self._gate.passing():
                self._bring_up(spec, network, artifacts)

        outcomes = attempted(bring_up, specs, parallelism)
        return {spec.name: outcome for spec, outcome in zip(specs, outcomes, strict=True)}

    def act(self, name: str, action: Action) -> None:
        """Do something to a live service. Stopping kills what has not ended after a second.

        What it already is, it stays; removing one that is not there is no error. Raises ServiceError, EngineError.
        """
        with self._gate.passing():
            if action is Action.REMOVE:
                service = self._live.take(name)
                if service is not None:
                    self._remove(service)
                if self._plot is not None:
                    # Its name is not to be found any more.
                    self._plot.discard(name)
            else:
                self._deeds().lifecycle.act(name, self._live.named(name).container, action)

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        """Run a command in a service (`Site.exec`)."""
        from pytest_enclave.engine.docker.commands import run_command

        container = self._live.running(name)
        return run_command(self._client.sdk, container, command, deadline, f'service "{name}"')

    def terminal(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> DockerTerminal:
        """Run a command in a service, on a terminal (`Site.terminal`)."""
        # Tests have no use for it.
        from pytest_enclave.engine.docker.terminal import DockerTerminal

        container = self._live.running(name)
        return DockerTerminal(
            self._client.sdk, self._client.endpoint, container, command, environment, f'service "{name}"'
        )

    def converse(self, name: str, command: Sequence[str]) -> DockerConversation:
        """Run a command in a service, which reads and writes (`Site.converse`)."""
        from pytest_enclave.engine.docker.conversation import DockerConversation

        container = self._live.running(name)
        return DockerConversation(self._client.sdk, self._client.endpoint, container, command, f'service "{name}"')

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """Ask a service over HTTP. Raises DeadlineExceeded or NotReached."""
        self._live.running(name)
        return self._http.send(self._endpoints.private(self._live.named(name), port), request, deadline)

    def accepts(self, name: str, port: PortSpec) -> bool:
        """Whether something accepts connections on the service's port right now. UDP and SCTP: always."""
        from pytest_enclave.engine.docker.listening import accepts_connections, listens_behind_proxy

        if port.transport_protocol != "TCP":
            return True
        try:
            container = self._live.running(name)
            endpoint = self._endpoints.private(self._live.named(name), port)
            if self._network.ready().reach.direct:
                return accepts_connections(endpoint)
            from pytest_enclave.engine.docker.commands import run_command

            deadline = time.monotonic() + 2
            return listens_behind_proxy(
                endpoint, port.number, lambda command: run_command(self._client.sdk, container, command, deadline)
            )
        except (NotReached, DeadlineExceeded):
            return False

    def dial(self, name: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches the port: a public one at its public number, others where they are."""
        return self._endpoints.dial(self._live.named(name), port)

    def read(self, name: str, path: str) -> Iterator[bytes]:
        """A tar stream of a file or directory inside the service. Raises NotReached where there is none."""
        from pytest_enclave.engine.docker.archives import read_archive

        container = self._live.container(name)
        return read_archive(self._client.sdk, container, path, f'cannot read {path} of service "{name}"')

    def logs(self, name: str, since: float | None = None) -> Sequence[LogLine]:
        """What the service has written since then (seconds since the epoch), oldest first; nothing if it is gone."""
        from pytest_enclave.engine.docker.logs import read_logs

        service, state = self._live.find(name), self._live.state(name)
        if service is None or state is None or state.gone:
            return []
        return read_logs(self._client.sdk, name, service.container, since, whole=service.spec.terminal)

    def exit_of(self, name: str) -> Exit | None:
        """How the service's process ended, or None while it lives; no call while events are followed."""
        state = self._live.state(name)
        return state.exit if state else None

    def pause(self, seconds: float, watching: str | None = None) -> Exit | None:
        """Let time pass; return early, with the exit, as soon as the watched service ends."""
        service = self._live.find(watching) if watching else None
        if service is None:
            self._follower.closing(seconds)
            return None
        state = self._follower.wait(service.container, lambda it: it is None or it.exit is not None, seconds)
        return state.exit if state else None

    def shape(self, connections: ConnectionMatrix, seed: int) -> None:
        """From now on packets between services travel like this (`Site.shape`). Raises EngineError."""
        self._gate.check()
        self._shaping.shape(Shape(connections, seed), self._network.addresses(), self._running)

    def shaped(self) -> ConnectionMatrix:
        """How packets travel now, whoever said so; no call where nobody ever did."""
        return self._shaping.shaped().connections

    def freeze(self) -> None:
        """Make what is there now the point that forks start from (`Site.freeze`); logs and processes are not kept."""
        self._gate.check()
        self._points.freeze(self._live.there(), self._network.addresses())

    def fork(self, enclave: EnclaveId) -> DockerSite:
        """A new enclave as this one was when it was frozen, on a network of its own (`Site.fork`).

        Services that did not run are there, and do not. In environment variables, entry points, commands and text
        files of artifacts the new addresses stand for the old ones; what a service has written itself stays as it is.
        Public ports are published wherever there is room: `dial` tells. Returns when the services' processes run.
        """
        from pytest_enclave.engine.docker.forking import not_forked

        self._gate.check()
        origin = self._points.hold(enclave.name)
        site = DockerSite(self._client, enclave, self._plan.fork(origin), self._http, self._remover)
        try:
            site._begin_as(origin, self._shaping.shaped())
        except EnclaveError as error:
            raise not_forked(enclave.name, error, list(site.close())) from None
        except BaseException:
            site.close()
            raise
        return site

    def refresh(self) -> None:
        """Know the services that other processes have started, replaced or removed. Raises EngineError."""
        self._gate.check()
        self._live.refresh()

    def keep(self, until: float) -> None:
        """Nothing is to be done: the ledger tells how long the enclave stays. Raises EngineError if it cannot."""
        if self._plot is not None:
            raise EngineError(
                "its services are in network namespaces that go with the session: run the test alone, and it stays"
            )

    def leave(self) -> None:
        """Let go of the enclave in this process (`Site.leave`). From then on it cannot be frozen or forked here."""
        self._let_go()
        self._points.leave(time.monotonic() + CLOSING)

    def close(self) -> Sequence[Leak]:
        """Remove everything this enclave has on the engine, within half a minute; what could not be removed.

        May be called again, at any time, from any thread, also while services are being started.
        """
        from pytest_enclave.engine.docker.removal import remove_enclave

        deadline = time.monotonic() + CLOSING
        at_rest = self._let_go()
        self._shaping.end()
        leaks = remove_enclave(self._remover(), self._endpoint, self._enclave, deadline)
        if not leaks:
            self._live.clear()
            if self._files is not None:
                self._files.remove()
            with self._lock:
                plot, self._plot = self._plot, None
            if plot is not None and at_rest:
                self._plan.give_back(plot)
        return [*leaks, *self._points.close(deadline)]

    def _begin_as(self, origin: FrozenEnclave, shape: Shape) -> None:
        """Have the services of an enclave that was frozen. Raises EngineError, ServiceError."""
        from pytest_enclave.engine.docker.forking import ForkFiles, Thaw

        deeds = self._deeds()
        self._files = ForkFiles(self._notes.directory)
        if shape.connections:
            self._shaping.shape(shape, {name: self._network.address(name) for name in origin.addresses}, dict)
        thaw = Thaw(
            deeds.starter, deeds.lifecycle, self._gate, self._live, self._network, self._files, self._persistent
        )
        thaw.thaw(origin)

    def _look_alone(self) -> None:
        """Look at what is there, while nothing is followed. Raises EngineError."""
        try:
            self._live.look()
        except EngineError:
            self._follower.close()
            raise

    def _deeds(self) -> Deeds:
        """What is done to services. Raises EngineError."""
        from pytest_enclave.engine.docker.deeds import Deeds

        with self._lock:
            if self._made is None:
                self._made = Deeds(
                    self._client.sdk,
                    self._enclave,
                    self._marks,
                    self._plan,
                    self._gate,
                    self._follower,
                    self._shaping,
                    self._persistent,
                )
            return self._made

    def _bring_up(self, spec: ServiceSpec, network: Network, artifacts: Mapping[str, Path]) -> None:
        name = self._images.name_of(spec.image)
        image = self._images.digest(spec.image)
        if name is None or image is None:
            raise ImageUnavailable(f'image "{spec.image}" is not on the engine')
        if (before := self._live.pop(spec.name)) is not None:
            self._remove(before)
        container = self._deeds().starter.start(replace(spec, image=name), image, network, artifacts)
        self._live.put(Service(spec, container, {artifact: artifacts[artifact] for artifact in spec.files.values()}))

    def _remove(self, service: Service) -> None:
        """Remove what was taken out. Raises EngineError: then it is still there, for whoever tries again."""
        try:
            self._deeds().lifecycle.remove(service.spec.name, service.container)
        except EngineError:
            self._live.put(service)
            raise

    def _met(self, service: Service) -> None:
        """Another process has started a service."""
        self._network.learn(service.spec.name, service.spec.address.ip_address)
        self._persistent.learn(service.spec.directories, service.spec.image)

    def _running(self) -> Mapping[str, str]:
        """The containers of services that run, whoever has started them. Raises EngineError."""
        if self._id.home:
            self._live.look()
        lives = (Status.RUNNING, Status.PAUSED)
        return {service.spec.name: service.container for service, state in self._live.there() if state.status in lives}

    def _started(self, container: str, marks: Mapping[str, str]) -> None:
        """A container of this enclave was started, by whomever."""
        name = marks.get(labels.SERVICE)
        if name is not None and self._shaping.is_on and (address := self._network.addresses().get(name)):
            self._shaping.started(name, address, container)

    def _let_go(self) -> bool:
        """End what goes on in this process; whether nothing does any more."""
        self._gate.shut()
        at_rest = self._gate.empty(CLOSING / 2)
        self._network.settled(CLOSING / 4)
        self._follower.close()
        return at_rest


def _network(client: Client, enclave: str, marks: Mapping[str, str], plan: SitePlan, notes: Notes) -> EnclaveNetwork:
    """The enclave's network: one that is there, the plot's if it is on one, else a new one."""
    if (found := plan.found) is not None:
        return EnclaveNetwork(enclave, lambda: found, {}, notes)
    if (plot := plan.plot) is not None:
        return EnclaveNetwork(enclave, lambda: plot.network, plot.addresses, notes)
    return EnclaveNetwork(enclave, lambda: make_network(client.sdk, enclave, marks, plan.network), {}, notes)
