"""Forks: an enclave is frozen right after a run, and others begin as it was then, with all it has and has recorded.

The engine stops what runs, keeps its files, and starts it again, in the original and in every fork. So here as there a
service is up once its ports accept connections and its ready condition holds. All of them start at once, so one that
ends before what it depends on is there gets further tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.protocol import Action, EnclaveId, Site
from pytest_enclave.errors import EngineError, ExecutionError, ServiceExited
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.instructions.starting import await_ready, awaited_ports
from pytest_enclave.plan.addresses import NewAddresses
from pytest_enclave.plan.events import Emit, Frozen, PhaseStarted
from pytest_enclave.plan.facts import ServiceFact, Status
from pytest_enclave.plan.record import Record
from pytest_enclave.run.network import Network
from pytest_enclave.run.outcome import Run
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a service that has ended is started again, in a fork or after a freeze."""


class ForkPoint(msgspec.Struct, frozen=True):
    """An enclave as it was when it was frozen: its services, its enclave plan, its artifacts' digests, its last run."""

    origin: EnclaveState
    services: Mapping[str, ServiceFact]
    records: Sequence[Record]
    artifacts: Mapping[str, str]
    run: Run

    def fork(self, enclave: EnclaveId) -> Site:
        """The services of a fork, as the engine has started them. Raises EngineError."""
        with _explained(f"no fork of {self.origin.id.name}"):
            return self.origin.site.fork(enclave)


def freeze(state: EnclaveState, latest: Run, tools: Tools, options: Options, emit: Emit) -> ForkPoint:
    """Make what an enclave is after its latest run the point that forks of it begin from.

    Its services are up again afterwards. Raises EngineError.
    """
    started = state.engine.clock.now()
    emit(PhaseStarted("freezing"))
    with _explained(f"{state.id.name} cannot be frozen, for forks to begin from"):
        point = ForkPoint(state, state.site.observe(), state.journal.snapshot(), state.artifacts.digests(), latest)
        state.site.freeze()
        _await_services(point.services, state, tools, options, emit)
    emit(Frozen(state.id.name, state.engine.clock.now() - started))
    return point


def begin(point: ForkPoint, state: EnclaveState, tools: Tools, options: Options, emit: Emit) -> Run:
    """Fill a new fork's journal and artifacts, and wait until its services are up; what its last run was.

    Where services have other addresses than in the original, values and text files have them too. Raises EngineError.
    """
    with _explained(f"{state.id.name}, a fork of {point.origin.id.name}, did not come up"):
        addresses = NewAddresses.between(point.services, state.site.observe())
        for record in point.records:
            state.journal.append(addresses.record(record) if addresses else record)
        state.artifacts.adopt(point.origin.artifacts, point.artifacts, addresses)
        Network(state, options.seed or 0, lambda: None, state.site.shaped()).heal()
        _await_services(point.services, state, tools, options, emit)
    return _moved(point.run, addresses) if addresses else point.run


def _moved(run: Run, addresses: NewAddresses) -> Run:
    steps = tuple(replace(step, message=addresses.text(step.message)) for step in run.instructions)
    return replace(run, instructions=steps, output=addresses.value(run.output))


def _await_services(
    services: Mapping[str, ServiceFact], state: EnclaveState, tools: Tools, options: Options, emit: Emit
) -> None:
    """Wait for all that ran and has something to wait for, side by side."""
    configs = state.configs()
    clock = state.engine.clock
    context = Context(
        site=state.site,
        clock=clock,
        artifacts=state.artifacts,
        services=configs,
        emit=emit,
        extract=tools.extract,
        random=Random(options.seed),
        parallelism=options.parallelism,
        deadline=None if options.timeout is None else clock.now() + options.timeout,
    )
    awaited = [
        name
        for name, config in configs.items()
        if name in services
        and services[name].status is Status.RUNNING
        and (awaited_ports(config) or config.ready_conditions is not None)
    ]
    since = clock.now()
    clock.map(lambda name: _await(context, name, since), awaited, max(len(awaited), 1))
    ran = [name for name, fact in services.items() if fact.status is Status.RUNNING]
    for name in ran:
        if name not in awaited and state.site.exit_of(name) is not None:
            state.site.act(name, Action.START)


def _await(context: Context, name: str, since: float) -> None:
    """Wait until a service is up. One that ends is started again: what it depends on may not have been up yet."""
    for pause in PAUSES:
        try:
            await_ready(context, name, context.services[name], since)
            return
        except ServiceExited:
            context.site.pause(pause)
            context.site.act(name, Action.START)
    await_ready(context, name, context.services[name], since)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """A service in trouble here is no failed instruction: the package did come up, once."""
    try:
        yield
    except ExecutionError as error:
        raise EngineError(
            f"{what}: {error.message}",
            remedy="in a fork services start again, all at once, with the files they had; "
            "where they cannot, isolate=True gives the test a fresh enclave",
        ) from None
