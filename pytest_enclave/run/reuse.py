"""What need not run again.

The rules (design §4). An instruction is skipped only if the enclave already shows its effect.

1. *Equivalence* is equality of keys: the canonical text, plus the digests of what the text only names (package files,
   images). Descriptions, locations and times are no part of it. Future references are named by their producers, so the
   same source gives the same text at any offset.
2. *Alignment*: the submitted plan is laid over the enclave plan at the first offset where the whole overlap fits, slot
   by slot: equal, or an in-place update. Inside as a whole → everything is skipped. The tail of the enclave plan under
   the head of the submitted one → the overlap is skipped, the rest runs and is appended. No offset → everything runs
   and is appended; names that exist are replaced.
3. *In-place update*: another config for a service of the same name, or other content for an artifact of the same name,
   takes over the slot. What may see the difference becomes stale, and runs again when it is submitted: each later
   instruction that looks into services; each later service mounting a changed artifact; and whatever has other resolved
   arguments than before. Where one of these uses a service that the plan stops or removes afterwards, that service is
   made again before it. What settles a connection, or moves a service, takes over the slot of one that settled the
   same; it never becomes stale, as the network is read off the records (`network.py`).
4. *Still true*: an instruction beyond the overlap that disturbs one inside it breaks the match; and the live services
   must be what the enclave plan as a whole implies: running, or stopped, from the recorded image.
5. *Failures*: what was to be replaced by an instruction that failed cannot be relied on. Its record stays where it is,
   so that the rest of the plan still aligns, but stale, and without what it had made.

This file is pure: it reads plain values, asks nobody, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

import msgspec
from msgspec.structs import replace

from pytest_enclave.plan.facts import Facts, ServiceFact, Status
from pytest_enclave.plan.footprint import Footprint, Replay, disturbing
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Parting, Record
from pytest_enclave.plan.topology import rewires


class Candidate(msgspec.Struct, frozen=True):
    """A submitted instruction with all that the rules look at."""

    instruction: Instruction
    footprint: Footprint
    key: str


class Fit(Enum):
    """How a candidate lies on a slot of the enclave plan."""

    EQUAL = "equal"
    UPDATE = "updates it in place"


class Slot(msgspec.Struct, frozen=True):
    """A place in the enclave plan that a candidate lies on: its position, what is recorded there, and how it fits."""

    position: int
    record: Record
    fit: Fit


class Alignment(msgspec.Struct, frozen=True):
    """Candidate by candidate the slot it lies on, None for one beyond the enclave plan's end.

    `parting` is where the plans first differ, where nothing aligned though there was something to align with.
    """

    slots: tuple[Slot | None, ...]
    parting: Parting | None = None


class Action(Enum):
    """What to do with a candidate."""

    SKIP = "skip"
    RUN = "run"
    UPDATE = "update"


class Decision(msgspec.Struct, frozen=True):
    """What to do, and why."""

    action: Action
    reason: str = ""


def key_of(instruction: Instruction, footprint: Footprint, images: Mapping[str, str | None]) -> str:
    """The canonical text with the digests of the files and images that it names (rule 1)."""
    files = [f"{argument}={file.digest}" for argument, file in sorted(instruction.files.items())]
    digests = [f"{reference}={images.get(reference)}" for reference in sorted(footprint.images)]
    return "\n".join([instruction.text, *files, *digests])


def align(candidates: Sequence[Candidate], records: Mapping[int, Record], facts: Facts) -> Alignment:
    """Lay the submitted plan over the enclave plan (rules 2 and 4). `records` is ordered by position."""
    placed = list(records.items())
    for offset in range(len(placed)):
        slots = _slots_at(candidates, placed[offset:])
        if slots and not _disturbed(slots, candidates, placed[offset + len(slots) :], placed):
            rest = [None] * (len(candidates) - len(slots))
            traces = _traces(placed)
            checked = (*(_checked(slot, traces, facts) for slot in slots), *rest)
            return Alignment(_brought_back(candidates, checked, records, traces))
    return Alignment((None,) * len(candidates), _parting(candidates, placed))


def _slots_at(candidates: Sequence[Candidate], placed: Sequence[tuple[int, Record]]) -> list[Slot]:
    """The slots under the candidates, or nothing where one of them does not fit."""
    slots = []
    for candidate, (position, record) in zip(candidates, placed, strict=False):
        fit = _fit(candidate, record)
        if fit is None:
            return []
        slots.append(Slot(position, record, fit))
    return slots


def _fit(candidate: Candidate, record: Record) -> Fit | None:
    if candidate.key == record.key:
        return Fit.EQUAL
    if candidate.instruction.text == record.text:
        return Fit.UPDATE
    if candidate.footprint.replay is not Replay.REPLACE or candidate.instruction.name != record.name:
        return None
    new, old = candidate.footprint, record.footprint
    same = (old.artifacts, old.settles) == (new.artifacts, new.settles) and old.services.keys() <= new.services.keys()
    return Fit.UPDATE if same and (old.services or old.artifacts or old.settles) else None


def _disturbed(
    slots: Sequence[Slot],
    candidates: Sequence[Candidate],
    beyond: Sequence[tuple[int, Record]],
    placed: Sequence[tuple[int, Record]],
) -> bool:
    """Rule 4, first half: something after the overlap has changed what the overlap stands for."""
    if len(candidates) > len(slots):
        return False
    overlap = [*(slot.record.footprint for slot in slots), *(candidate.footprint for candidate in candidates)]
    later = [record.footprint for _, record in beyond]
    return disturbing(later, overlap) or rewires(
        later, overlap, (*(record.footprint for _, record in placed), *overlap)
    )


class _Trace(msgspec.Struct, frozen=True):
    """What the enclave plan did to a service: who made it last, who touched it last (positions), and what is left."""

    made: int
    touched: int
    left: Status | None


def _traces(placed: Sequence[tuple[int, Record]]) -> Mapping[str, _Trace]:
    """What the enclave plan as a whole leaves of each service: running, stopped, or nothing."""
    traces: dict[str, _Trace] = {}
    for position, record in placed:
        left = {"remove_service": None, "stop_service": Status.STOPPED}.get(record.name, Status.RUNNING)
        for name in record.footprint.makes:
            before = traces.get(name)
            made = position if name in record.footprint.services or before is None else before.made
            traces[name] = _Trace(made, position, left)
    return traces


def _checked(slot: Slot, traces: Mapping[str, _Trace], facts: Facts) -> Slot:
    """Rule 4, second half: a slot whose service is not what the enclave plan implies counts as stale.

    Only the last record that makes a service answers for it, and the last one that acts on it.
    """
    if slot.record.stale:
        return slot
    for name in slot.record.footprint.makes:
        trace = traces[name]
        made_again = (trace.made if name in slot.record.services else trace.touched) > slot.position
        reason = "" if made_again else _untrue(name, slot.record, trace.left, facts.services.get(name))
        if reason:
            return replace(slot, record=replace(slot.record, stale=reason))
    return slot


def _brought_back(
    candidates: Sequence[Candidate],
    slots: tuple[Slot | None, ...],
    records: Mapping[int, Record],
    traces: Mapping[str, _Trace],
) -> tuple[Slot | None, ...]:
    """What runs again finds the services that it uses as they were then (rule 3): where the plan stops, removes or
    makes one again later, it counts as stale, so that it is made before."""
    found = list(slots)
    while True:
        decisions = forecast(candidates, Alignment(tuple(found)), records)
        missing = {
            (maker, name)
            for user, decision in enumerate(decisions)
            if decision.action is not Action.SKIP and candidates[user].footprint.replay is Replay.OBSERVE
            for name in candidates[user].footprint.uses
            if (slot := found[user]) is not None and name in traces and traces[name].touched > slot.position
            if (maker := _maker(name, candidates[:user])) is not None and decisions[maker].action is Action.SKIP
        }
        if not missing:
            return tuple(found)
        for maker, name in sorted(missing):
            slot = found[maker]
            assert slot is not None, "what is skipped lies on a slot"
            verb = {None: "removed", Status.STOPPED: "stopped"}.get(traces[name].left, "made again")
            reason = f"service `{name}` was {verb} later in the plan, and what uses it runs again"
            found[maker] = replace(slot, record=replace(slot.record, stale=reason))


def _maker(name: str, earlier: Sequence[Candidate]) -> int | None:
    """Where a service was made last."""
    return next((at for at in reversed(range(len(earlier))) if name in earlier[at].footprint.services), None)


def _untrue(name: str, record: Record, implied: Status | None, fact: ServiceFact | None) -> str:
    """Why the service is not as recorded, or nothing."""
    if implied is None:
        return ""
    if fact is None:
        return f"service `{name}` is gone, and not by the plan"
    at_rest = fact.status in (Status.STOPPED, Status.EXITED)
    if implied is Status.STOPPED and not at_rest:
        return f"service `{name}` was started, and not by the plan"
    if implied is Status.RUNNING and fact.status is not Status.RUNNING and not _finished_job(name, record, fact):
        return _at_rest(name, fact)
    if name in record.services and fact.image not in record.images.values():
        return f"service `{name}` runs from another image than recorded"
    return ""


_KILLED = 128 + 9


def _at_rest(name: str, fact: ServiceFact) -> str:
    """How a service that should run has come to rest."""
    code = "" if fact.exit_code is None else f" (exit code {fact.exit_code})"
    if fact.status is Status.EXITED:
        return (
            f"service `{name}` was killed{code}" if fact.exit_code == _KILLED else f"service `{name}` has exited{code}"
        )
    return f"service `{name}` was {fact.status.value}, and not by the plan"


def _finished_job(name: str, record: Record, fact: ServiceFact) -> bool:
    """A service without ports that ended well has done what it was there for."""
    return fact.exit_code == 0 and name in record.services and not record.services[name].get("ports")


def _parting(candidates: Sequence[Candidate], placed: Sequence[tuple[int, Record]]) -> Parting | None:
    """Where the plans part, at the offset where they agree for longest."""
    if not candidates or not placed:
        return None
    longest, at = -1, 0
    for offset in range(len(placed)):
        agreeing = 0
        for candidate, (_, record) in zip(candidates, placed[offset:], strict=False):
            if _fit(candidate, record) is None:
                break
            agreeing += 1
        if agreeing > longest:
            longest, at = agreeing, offset
    if longest >= min(len(candidates), len(placed) - at):
        return Parting(None, _disturber(candidates, placed, at))
    return Parting(candidates[longest].instruction, placed[at + longest][1])


def _disturber(candidates: Sequence[Candidate], placed: Sequence[tuple[int, Record]], offset: int) -> Record:
    """The first record after the overlap that has changed what the overlap stands for."""
    slots = _slots_at(candidates, placed[offset:])
    beyond = placed[offset + len(slots) :]
    return next(record for position, record in beyond if _disturbed(slots, candidates, [(position, record)], placed))


def decide(candidate: Candidate, slot: Slot | None, resolved: str | None) -> Decision:
    """What to do with a candidate now (rule 3). `resolved` is its resolved text, None while that is not known."""
    again = Action.UPDATE if candidate.footprint.replay is Replay.REPLACE else Action.RUN
    if slot is None:
        return Decision(Action.RUN, "new")
    if slot.record.stale:
        return Decision(again, slot.record.stale)
    if candidate.footprint.forced:
        return Decision(again, _forced(candidate))
    if slot.fit is Fit.UPDATE:
        return Decision(again, _changed(candidate, slot.record))
    if resolved is not None and resolved != slot.record.resolved:
        # Here as below: only what has changed is explained.
        from pytest_enclave.plan.canonical_text import first_change

        change = first_change(slot.record.resolved, resolved)
        return Decision(
            again, "a value it depends on changed" if change is None else f"the value of {change.path} changed"
        )
    return Decision(Action.SKIP, "already done")


def _forced(candidate: Candidate) -> str:
    if candidate.instruction.get("force_update"):
        return "`force_update` is set"
    return "it runs again each time"


def _changed(candidate: Candidate, record: Record) -> str:
    """What is not as recorded: an argument, or what is behind a name in one."""
    call = candidate.instruction
    if call.text != record.text:
        from pytest_enclave.plan.canonical_text import first_change

        change = first_change(record.text, call.text)
        return "it changed" if change is None else f"{change.path} changed"
    if candidate.footprint.images:
        return "an image it uses changed"
    return f"the content of {' and '.join(f'`{call.get(argument)}`' for argument in call.files)} changed"


def made_stale(
    slot: Slot, candidate: Candidate, records: Mapping[int, Record], changed_artifacts: frozenset[str]
) -> Mapping[int, Record]:
    """The later records that may see the difference after the candidate ran in place of the slot (rule 3)."""
    later = {position: record for position, record in records.items() if position > slot.position}
    reasons = {position: _outdated(record, candidate, changed_artifacts) for position, record in later.items()}
    return {
        position: replace(record, stale=reasons[position], stale_by=slot.position)
        for position, record in later.items()
        if reasons[position] and not record.stale
    }


def _outdated(record: Record, earlier: Candidate, changed_artifacts: frozenset[str]) -> str:
    """Why a record does not hold any more once an earlier instruction ran again, or nothing."""
    made, touched = earlier.footprint.services, earlier.footprint.makes
    later = record.footprint
    if made:
        what = _replaced(made)
    elif earlier.footprint.settles:
        what = "connections between services changed"
    else:
        what = f"{earlier.instruction.name} ran again before it"
    seen = touched or earlier.footprint.settles or earlier.footprint.replay is Replay.OBSERVE
    if later.replay is Replay.OBSERVE and seen:
        return what
    if not changed_artifacts.isdisjoint(later.needs):
        names = ", ".join(f"`{name}`" for name in sorted(changed_artifacts & later.needs))
        return f"files artifact {names} changed"
    if later.replay is Replay.ACT and not later.acts_on.isdisjoint(made):
        return _replaced(sorted(later.acts_on & made.keys()))
    return "" if touched.isdisjoint(later.makes) else what


def _replaced(services: Collection[str]) -> str:
    names = ", ".join(f"`{name}`" for name in services)
    return f"service {names} was replaced" if len(services) == 1 else f"services {names} were replaced"


def spoiled(candidate: Candidate, slot: Slot | None, records: Mapping[int, Record]) -> Mapping[int, Record]:
    """What cannot be relied on after the candidate failed (rule 5)."""
    spoilt: dict[int, Record] = {}
    if slot is not None:
        spoilt |= made_stale(slot, candidate, records, candidate.footprint.artifacts)
        before = records[slot.position]
        spoilt[slot.position] = replace(
            before, stale="it failed when it last ran", stale_by=0, values={}, contents={}, services={}
        )
    replaced = candidate.footprint.services.keys()
    failing = 0 if slot is None else slot.position
    for position, record in records.items():
        lost = replaced & record.services.keys()
        if lost and position not in spoilt:
            names = ", ".join(f"`{name}`" for name in sorted(lost))
            kept = {name: config for name, config in record.services.items() if name not in lost}
            spoilt[position] = replace(
                record, stale=f"replacing service {names} failed", stale_by=failing, services=kept
            )
    return spoilt


def forecast(
    candidates: Sequence[Candidate], alignment: Alignment, records: Mapping[int, Record]
) -> tuple[Decision, ...]:
    """What will run, as far as can be said before anything did: every changed artifact counts as changed content."""
    known = dict(records)
    decisions = []
    for candidate, slot in zip(candidates, alignment.slots, strict=True):
        if slot is not None and not slot.record.stale:
            slot = replace(slot, record=known[slot.position])
        decision = decide(candidate, slot, None)
        decisions.append(decision)
        if slot is not None and decision.action is not Action.SKIP:
            known |= made_stale(slot, candidate, known, candidate.footprint.artifacts)
    return tuple(decisions)
