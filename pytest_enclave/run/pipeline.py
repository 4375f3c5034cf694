"""The spine: a package and its arguments, taken into an enclave.

    load → interpret → observe → reuse → validate → execute

Everything before `execute` is a function from plain data to plain data; `observe` asks the engine once. Each success is
journaled at once, so that a run which fails half-way goes on where it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import EnclaveError, ExecutionError
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.plan.events import Emit, PhaseStarted, StepFinished, Warned
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.futures import UnknownFuture, Values, substitute_deep, substitute_typed
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.record import Outcome, Step
from pytest_enclave.plan.values import Struct, Value, written
from pytest_enclave.run.interpretation import Interpretations, Request
from pytest_enclave.run.observe import observe
from pytest_enclave.run.outcome import Run
from pytest_enclave.run.state import EnclaveState, configs_of
from pytest_enclave.store.plans import Settled


class Tools(msgspec.Struct, frozen=True):
    """What runs share: the instruction types, the interpreter with its memory, and the jq evaluator."""

    types: Registry
    interpretations: Interpretations
    extract: Callable[[str, str], Value]


class Options(msgspec.Struct, frozen=True):
    """How runs go. `timeout` is for a whole run, in seconds, None for no limit; `seed` fixes the pauses of waits, and
    which packets are lost."""

    parallelism: int = 4
    timeout: float | None = None
    pull: PullPolicy = PullPolicy.MISSING
    seed: int | None = None


def run(
    request: Request,
    state: EnclaveState,
    tools: Tools,
    options: Options,
    emit: Emit,
    before_execution: Callable[[Plan], None],
    be_alone: Callable[[], None] = lambda: None,
    latest: Run | None = None,
) -> Run:
    """Take the request through the pipeline. Never raises an EnclaveError: the run carries it.

    `be_alone` is called before anything that is there already is changed: it returns when nobody uses the enclave.
    `latest` is the run before, in this process: where that found nothing to do and nothing has changed, so does this;
    and where that is so of the latest run of any process.
    """
    __tracebackhide__ = True
    clock = state.engine.clock
    started = clock.now()
    deadline = None if options.timeout is None else started + options.timeout
    plan, steps, parting, facts = Plan(), list[Step](), None, None
    recorded = len(state.journal.records)

    def finished(output: Value, error: EnclaveError | None) -> Run:
        mismatch = "" if parting is None else str(parting)
        revision = state.journal.revision
        return Run(
            plan, tuple(steps), output, error, mismatch, clock.now() - started, parting, recorded, facts, revision
        )

    try:
        emit(PhaseStarted("interpreting"))
        found = state.services()
        plan = tools.interpretations.interpret(request, tools.types, found, state.plans)
        for warning in plan.warnings:
            emit(Warned(warning))
        before_execution(plan)

        if latest is None or latest.plan is not plan:
            latest = _settled_before(request, state, tools, plan)
        if latest is not None and latest.facts is not None:
            facts = observe(state.engine, state.site, latest.facts.images)
            if _is_settled(latest, plan, facts, state):
                return _nothing_to_do(latest, clock.now() - started, emit)

        # A run that ends above needs none of these, and to import them takes longer than it does.
        from pytest_enclave.run.execute import Execution, Limits
        from pytest_enclave.run.network import Network
        from pytest_enclave.run.reuse import Candidate, align, forecast, key_of
        from pytest_enclave.run.validate import judge, require_images, validate, world_before

        footprints = [tools.types[call.name].footprint(call) for call in plan.instructions]
        named = frozenset[str]().union(*(footprint.images for footprint in footprints))
        facts = facts or observe(state.engine, state.site, named)

        candidates = [
            Candidate(call, footprint, key_of(call, footprint, facts.images))
            for call, footprint in zip(plan.instructions, footprints, strict=True)
        ]
        records = state.journal.records
        alignment = align(candidates, records, facts)
        parting = alignment.parting
        decisions = forecast(candidates, alignment, records)

        emit(PhaseStarted("validating", len(candidates)))
        services = configs_of(found)
        world = world_before(facts, services, state.artifacts.names())
        judge(validate(candidates, decisions, tools.types, world, state.engine), len(candidates), emit)
        images, unavailable = require_images(candidates, decisions, tools.types, state.engine, options.pull, emit)
        judge(unavailable, len(candidates), emit)

        emit(PhaseStarted("executing", len(candidates)))
        limits = Limits(options.parallelism, deadline, options.timeout)
        network = Network(state, options.seed or 0, be_alone, facts.connections)
        execution = Execution(
            state,
            services,
            tools.types,
            facts,
            images,
            limits,
            tools.extract,
            emit,
            network,
            be_alone,
            Random(options.seed),
            steps,
        )
        with state.journal.running():
            facts = replace(facts, connections=network.heal())
            execution.run(candidates, alignment)
        done = finished(_output(plan, execution.values), None)
        _settle(done, request, state, tools)
        return done
    except EnclaveError as error:
        error.sources = error.sources or plan.sources
        return finished(None, error)


def _is_settled(latest: Run, plan: Plan, facts: Facts, state: EnclaveState) -> bool:
    """Whether there is as little to do as there was for the latest run, and no fault is left to be healed."""
    healed = not facts.connections or facts.connections == state.connections()
    return healed and latest.holds(plan, facts, state.journal.revision)


def _settled_before(request: Request, state: EnclaveState, tools: Tools, plan: Plan) -> Run | None:
    """The latest run of this plan in any process, where it found nothing to do and the journal is as it was then."""
    settled = tools.interpretations.settled(request, tools.types, plan, state.plans)
    if settled is None or settled.journal != state.journal.fingerprint:
        return None
    steps = tuple(
        Step(call, Outcome.SKIPPED, 0.0, message, reason)
        for call, (message, reason) in zip(plan.instructions, settled.told, strict=True)
    )
    return Run(
        plan,
        steps,
        settled.output,
        recorded=settled.recorded,
        facts=settled.facts,
        revision=state.journal.revision,
    )


def _settle(done: Run, request: Request, state: EnclaveState, tools: Tools) -> None:
    """Let the next process know of a run that had nothing to do."""
    if done.facts is None or done.parting is not None or not done.is_settled:
        return
    told = tuple((step.message, step.reason) for step in done.instructions)
    settled = Settled(state.journal.fingerprint, done.facts, told, done.output, done.recorded)
    tools.interpretations.settle(request, tools.types, done.plan, state.plans, settled)


def _nothing_to_do(latest: Run, duration: float, emit: Emit) -> Run:
    total = len(latest.instructions)
    emit(PhaseStarted("executing", total))
    for number, step in enumerate(latest.instructions, 1):
        emit(StepFinished(step, number, total))
    return latest.again(duration)


def _output(plan: Plan, values: Values) -> Value:
    try:
        return to_plain(plan.output, values)
    except UnknownFuture as error:
        raise ExecutionError(f"what the main function returns cannot be resolved: {error}") from None


def to_plain(value: Value, values: Values) -> Value:
    """A returned value as plain Python: structs become dicts, future references their values (behaviour.md §3.3)."""
    if isinstance(value, str):
        return substitute_typed(value, values)
    if isinstance(value, Struct):
        return {name: to_plain(item, values) for name, item in written(value).items()}
    if isinstance(value, Mapping):
        return {substitute_deep(key, values): to_plain(item, values) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_plain(item, values) for item in value]
    return value
