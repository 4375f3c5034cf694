"""Walking what will run through a simulated enclave: every problem is found, nothing is started (behaviour.md §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_enclave.engine.protocol import Address, Engine, PullPolicy
from pytest_enclave.errors import Problem, ValidationError
from pytest_enclave.plan.events import Emit, Event, Warned
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.image_sources import Build, ImageSource, Login
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.world import KnownService, World
from pytest_enclave.run.reuse import Action, Candidate, Decision

if TYPE_CHECKING:
    from pytest_enclave.instructions.protocol import InstructionType

UNPLACED = Address("", "")
"""The address of a service that is only looked at: none is reserved before anything starts."""


def validate(
    candidates: Sequence[Candidate],
    decisions: Sequence[Decision],
    types: Mapping[str, InstructionType],
    world: World,
    engine: Engine,
) -> list[Problem]:
    """All problems of the instructions that will run, in plan order; warnings among them.

    What is skipped changes the world too, but is not judged: it has been, when it ran.
    """
    found: list[Problem] = []
    for candidate, decision in zip(candidates, decisions, strict=True):
        call = candidate.instruction
        kind = types[call.name]
        after, problems = kind.check(call, world)
        world = after
        if decision.action is Action.SKIP:
            continue
        found += problems
        # Nothing may be left to start.
        from pytest_enclave.instructions.starting import service_spec

        for name, config in kind.configs(call).items():
            found += (_at(problem, candidate, call) for problem in engine.check(service_spec(name, config, UNPLACED)))
    return found


def world_before(facts: Facts, services: Mapping[str, ServiceConfig], artifacts: Sequence[str]) -> World:
    """The world that the run starts from: live services with their ports, the artifacts, what the engine can give."""
    known = {
        name: KnownService(
            {port_id: port.number for port_id, port in services[name].ports.items()} if name in services else {}
        )
        for name in facts.services
    }
    return World(services=known, artifacts=dict.fromkeys(artifacts), capacity=facts.capacity)


def require_images(
    candidates: Sequence[Candidate],
    decisions: Sequence[Decision],
    types: Mapping[str, InstructionType],
    engine: Engine,
    policy: PullPolicy,
    emit: Emit,
) -> tuple[Mapping[str, str], list[Problem]]:
    """Have every image that is needed, pulled or built: the digests, and a problem for each that cannot be had."""
    wanted: dict[str, Candidate] = {}
    sources: dict[str, ImageSource] = {}
    for candidate, decision in zip(candidates, decisions, strict=True):
        if decision.action is not Action.SKIP:
            for reference in sorted(candidate.footprint.images):
                wanted.setdefault(reference, candidate)
            for config in types[candidate.instruction.name].configs(candidate.instruction).values():
                if config.image_source is not None:
                    sources.setdefault(config.image, config.image_source)
    builds = {name: source for name, source in sources.items() if isinstance(source, Build)}
    logins = {name: source for name, source in sources.items() if isinstance(source, Login)}

    def placed(event: Event) -> None:
        if isinstance(event, Warned) and event.problem.subject in builds:
            name = event.problem.subject
            problem = replace(event.problem, subject=builds[name].title)
            event = Warned(_at(problem, wanted[name], wanted[name].instruction.names_image))
        emit(event)

    named = [name for name in wanted if name not in builds]
    outcomes = dict(engine.resolve_images(named, policy, emit, logins))
    if builds:
        outcomes |= engine.build_images(builds.values(), policy, placed)
    digests: dict[str, str] = {}
    problems: list[Problem] = []
    for reference, outcome in outcomes.items():
        if isinstance(outcome, Problem):
            candidate = wanted[reference]
            problems.append(_at(outcome, candidate, candidate.instruction.names_image))
        else:
            digests[reference] = outcome
    return digests, sorted(problems, key=lambda p: (p.location is None, p.location))


def judge(problems: Sequence[Problem], instructions: int, emit: Emit) -> None:
    """Tell the warnings. Raises ValidationError where there are errors."""
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in problems:
        if problem.severity != "error":
            emit(Warned(problem))
    if errors:
        raise ValidationError(errors, instructions=instructions)


def _at(problem: Problem, candidate: Candidate, call: Instruction) -> Problem:
    """The engine's problem, at the call it concerns, which is the candidate's or one that has amended it."""
    subject = problem.subject or next(iter(candidate.footprint.services), "")
    about = subject if "(" in subject else f'{call.name}("{subject}")'
    return replace(problem, location=call.location, subject=about)
