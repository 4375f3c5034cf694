"""Executing a valid plan, one instruction after the other; each success is journaled at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.errors import EnclaveError, EngineError, ExecutionError, RunTimedOut
from pytest_enclave.plan.canonical import call_text
from pytest_enclave.plan.events import Emit, InstructionStarted, StepFinished
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.futures import UnknownFuture, find, look_up
from pytest_enclave.plan.image_sources import image_name
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Before, Origin, Outcome, Record, Step
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.values import Value
from pytest_enclave.run.network import Network
from pytest_enclave.run.reuse import Action, Alignment, Candidate, Decision, Slot, decide, key_of, made_stale, spoiled
from pytest_enclave.run.state import EnclaveState, leave_behind

if TYPE_CHECKING:
    from pytest_enclave.instructions.protocol import Context, InstructionType, Result


class Limits(msgspec.Struct, frozen=True):
    """How a run may go: services side by side, the `Clock.now()` at which it must be over, its timeout in seconds."""

    parallelism: int = 4
    deadline: float | None = None
    timeout: float | None = None


@dataclass(slots=True)
class Execution:
    """One execution under way: the services that are there (at first, and then), the steps done so far, the values."""

    state: EnclaveState
    services: dict[str, ServiceConfig]
    types: Mapping[str, InstructionType]
    facts: Facts
    images: Mapping[str, str]
    limits: Limits
    extract: Callable[[str, str], Value]
    emit: Emit
    network: Network
    be_alone: Callable[[], None] = lambda: None
    random: random.Random = field(default_factory=random.Random)
    steps: list[Step] = field(default_factory=list)
    values: dict[str, Mapping[str, Value]] = field(default_factory=dict)

    def run(self, candidates: Sequence[Candidate], alignment: Alignment) -> None:
        """Execute, update or skip every candidate. Raises the first error; the steps until then stay."""
        self.values = self.state.values()
        try:
            for number, (candidate, slot) in enumerate(zip(candidates, alignment.slots, strict=True), 1):
                self._check_time(number, len(candidates))
                step = self._take(candidate, slot, number, len(candidates))
                self._finish(step, number, len(candidates))
        except EnclaveError:
            # If it cannot be done, the next run does it.
            with suppress(EngineError):
                self.network.settle()
            raise
        self.network.settle()

    def _take(self, candidate: Candidate, slot: Slot | None, number: int, total: int) -> Step:
        call = candidate.instruction
        started = self.state.engine.clock.now()
        self.emit(InstructionStarted(call, number, total))
        slot = self._current(slot)
        before = self._before(candidate, slot)
        text: str | None = None
        try:
            resolved = self._resolve(call)
            text = self._text(resolved)
            decision = decide(candidate, slot, text)
            if decision.action is Action.SKIP and slot is not None:
                return self._skip(call, slot, decision)
            step = self._execute(candidate, resolved, slot, decision, started)
            return replace(step, resolved=text, before=before)
        except BaseException as error:
            self.state.journal.put(spoiled(candidate, slot, self.state.journal.records))
            if not isinstance(error, EnclaveError):
                raise
            told = self._explained(error, call)
            duration = self.state.engine.clock.now() - started
            failed = Step(
                call, Outcome.FAILED, duration, told.message, decide(candidate, slot, text).reason, text or "", before
            )
            self._finish(failed, number, total)
            raise told from None

    def _current(self, slot: Slot | None) -> Slot | None:
        """The slot as it stands now: a step before may have made it stale."""
        if slot is None or slot.record.stale:
            return slot
        return replace(slot, record=self.state.journal.records[slot.position])

    def _before(self, candidate: Candidate, slot: Slot | None) -> Before | None:
        """What is recorded in the instruction's place, for those who ask why it ran again."""
        if slot is None:
            return None
        by = self.state.journal.records.get(slot.record.stale_by)
        return Before(slot.position, slot.record, candidate.key, by)

    def _resolve(self, call: Instruction) -> Instruction:
        try:
            return replace(call, arguments=self.types[call.name].resolve(call, self.values))
        except UnknownFuture as error:
            raise ExecutionError(str(error)) from None

    def _text(self, call: Instruction) -> str:
        return call_text(call.name, self.types[call.name].parameters, call.arguments)

    def _skip(self, call: Instruction, slot: Slot, decision: Decision) -> Step:
        """The recorded values count, under the name that this plan knows their producer by (rule 5)."""
        own = slot.record.values.get(slot.record.producer)
        if own is not None:
            self.values[call.producer] = own
        return Step(call, Outcome.SKIPPED, 0.0, slot.record.message, decision.reason)

    def _execute(
        self, candidate: Candidate, resolved: Instruction, slot: Slot | None, decision: Decision, started: float
    ) -> Step:
        replaced = candidate.footprint.services.keys() & self.services.keys()
        if slot is not None or self._changes(candidate.footprint):
            self.be_alone()
        self.network.enter(candidate.footprint, None if slot is None else slot.position, self.services)
        context = self._context(self._unchanged(candidate, resolved, slot))
        result = self.types[resolved.name].execute(resolved, context)
        self._journal(candidate, resolved, slot, result)
        updated = decision.action is Action.UPDATE or bool(replaced)
        outcome = Outcome.UPDATED if updated else Outcome.EXECUTED
        duration = self.state.engine.clock.now() - started
        return Step(candidate.instruction, outcome, duration, result.message, decision.reason)

    def _changes(self, footprint: Footprint) -> bool:
        """Whether it changes or removes what tests may be using, and does not only add (rule 7)."""
        services, artifacts = self.services.keys(), set(self.state.artifacts.names())
        return not (services.isdisjoint(footprint.makes) and artifacts.isdisjoint(footprint.artifacts))

    def _context(self, keep: frozenset[str]) -> Context:
        # Nothing may be left to execute.
        from pytest_enclave.instructions.protocol import Context

        return Context(
            site=self.state.site,
            clock=self.state.engine.clock,
            artifacts=self.state.artifacts,
            services=self.services,
            emit=self.emit,
            extract=self.extract,
            random=self.random,
            parallelism=self.limits.parallelism,
            deadline=self.limits.deadline,
            keep=keep,
            values=self.values,
        )

    def _unchanged(self, candidate: Candidate, resolved: Instruction, slot: Slot | None) -> frozenset[str]:
        """Services of a batch that are already as it leaves them, so that only the others are replaced."""
        if slot is None or slot.record.stale or candidate.footprint.forced or len(candidate.footprint.services) < 2:
            return frozenset()
        from pytest_enclave.instructions.service_object import config_text

        wanted = self.types[resolved.name].footprint(resolved)
        before = slot.record
        since = [record for position, record in self.state.journal.records.items() if position > slot.position]
        acted_on = frozenset[str]().union(*(record.footprint.acts_on for record in since))

        def same(name: str) -> bool:
            config = before.services.get(name)
            reference = image_name(config.fields["image"]) if config is not None else ""
            return (
                name not in acted_on
                and before.footprint.services.get(name) == candidate.footprint.services[name]
                and config_text(before.services[name]) == wanted.services[name]
                and before.images.get(reference) == self.images.get(reference, self.facts.images.get(reference))
            )

        return frozenset(name for name in wanted.services if same(name))

    def _journal(self, candidate: Candidate, resolved: Instruction, slot: Slot | None, result: Result) -> None:
        call, journal = candidate.instruction, self.state.journal
        digests = {**self.facts.images, **self.images}
        images = {reference: digests.get(reference) or "" for reference in candidate.footprint.images}
        record = Record(
            name=call.name,
            text=call.text,
            key=key_of(candidate.instruction, candidate.footprint, images),
            resolved=self._text(resolved),
            producer=call.producer,
            location=call.location,
            footprint=candidate.footprint,
            values=result.values,
            contents=result.contents,
            services=result.services,
            images=images,
            message=result.message,
        )
        self.values |= result.values
        made = {name: ServiceConfig.of(config) for name, config in result.services.items()}
        leave_behind(self.services, record, made)
        if slot is None:
            journal.append(record)
            return
        before = slot.record.contents
        changed = frozenset(name for name, digest in result.contents.items() if before.get(name) != digest)
        later = made_stale(slot, candidate, journal.records, changed)
        journal.put({slot.position: record, **later})

    def _explained(self, error: EnclaveError, call: Instruction) -> EnclaveError:
        """The error, told which instruction it belongs to and where the values in it came from.

        Where the time of the whole run was over, that is the error, whatever it made the instruction say.
        """
        if self._is_over() and not isinstance(error, RunTimedOut):
            error = self._timed_out(f"while at `{call.name}`: {error.message}")
        if error.location is None:
            error.location = call.location
        if isinstance(error, ExecutionError):
            error.instruction = call
            error.origins = list(self._origins(call))
        return error

    def _origins(self, call: Instruction) -> list[Origin]:
        by_producer = {step.instruction.producer: step for step in self.steps}
        found: dict[str, Origin] = {}
        for future in find(dict(call.arguments)):
            step = by_producer.get(future.producer)
            if step is not None:
                try:
                    found[str(future)] = Origin(future.field, look_up(future, self.values), step)
                except UnknownFuture:
                    continue
        return list(found.values())

    def _finish(self, step: Step, number: int, total: int) -> None:
        self.steps.append(step)
        self.emit(StepFinished(step, number, total))

    def _check_time(self, number: int, total: int) -> None:
        if self._is_over():
            raise self._timed_out(f"after {number - 1} of {total} instructions")

    def _is_over(self) -> bool:
        deadline = self.limits.deadline
        return deadline is not None and self.state.engine.clock.now() >= deadline

    def _timed_out(self, when: str) -> RunTimedOut:
        return RunTimedOut(
            f"the run took longer than {self.limits.timeout:g} s, {when}",
            remedy="`--enclave-timeout` sets how long a whole run may take",
        )
