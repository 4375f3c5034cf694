"""Why instructions of a run were not reused: what is not as it was recorded, and what was the first cause of it.

What was recorded is read off canonical texts. Secrets are masked, those that only the record knows as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from pytest_enclave.plan.canonical_text import ABSENT, Change, at_path, first_change, parse_canonical
from pytest_enclave.plan.futures import Future, find, producer_of_service
from pytest_enclave.plan.image_sources import BUILT
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Before, Outcome, Parting, Record, Step
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.report.look import Look
from pytest_enclave.report.masking import MASK, Secrets, is_secret_name
from pytest_enclave.report.short_call import readable, short_call
from pytest_enclave.report.source_excerpt import place
from pytest_enclave.report.text import cut, plural, written
from pytest_enclave.run.outcome import Run

CALL, VALUE, DIGEST = 60, 48, 12
"""How many characters are shown of a call, of a value, and of a digest."""

_LEAD = 12
_VARIABLE = re.compile(r'\b(?:env_vars|build_args)\["([^"]*)"\]')


class Explanation(msgspec.Struct, frozen=True):
    """Why a run was not reuse alone: a headline, and paragraphs, each with its indent. Nothing secret is in it."""

    headline: str
    paragraphs: tuple[tuple[int, str], ...] = ()


def explain(run: Run, enclave: str, earlier: Run | None = None) -> Explanation | None:
    """Why what ran in that enclave did; None where nothing did. `earlier` is the run before, where that is known."""
    ran = [step for step in run.instructions if step.outcome is not Outcome.SKIPPED]
    if not ran:
        return None
    if not run.recorded:
        return Explanation(f"first run in enclave {enclave}: everything runs")
    known = _Known(run.instructions, Look(secrets=_secrets(run)))
    if run.parting is not None:
        headline = f"enclave {enclave} reused nothing, for it had run another plan: {_count(ran, run)} ran"
        return Explanation(headline, tuple((1, text) for text in _parting(run.parting, known)))
    again = [step for step in ran if step.before is not None]
    failed = (
        {step.instruction.text for step in earlier.instructions if step.outcome is Outcome.FAILED} if earlier else ()
    )
    new = [step for step in ran if step.before is None]
    headline = f"enclave {enclave}: {_count(ran, run)} ran"
    paragraphs = [paragraph for step in again for paragraph in _again(step, known)]
    if new and new[0].instruction.text in failed:
        paragraphs += [(1, known.told(new[0])), (2, "it failed when it last ran")]
        new = new[1:]
    return Explanation(headline, (*paragraphs, *((1, text) for text in _new(new, known))))


def _count(ran: list[Step], run: Run) -> str:
    return f"{len(ran)} of {plural(len(run.plan.instructions), 'instruction')}"


def _secrets(run: Run) -> Secrets:
    """Secrets of the plan, of what it came to be, and of what was recorded."""
    texts = {step.resolved for step in run.instructions}
    befores = [step.before for step in run.instructions if step.before is not None]
    records = [record for before in befores for record in (before.record, before.by)]
    for record in (*records, run.parting.record if run.parting else None):
        texts |= {record.text, record.resolved} if record is not None else set()
    recorded = [call for text in texts if text and (call := _call(text)) is not None]
    return Secrets.of_plan(run.plan) | Secrets.of_instructions(recorded)


def _call(text: str, record: Record | None = None) -> Instruction | None:
    """The call that has this canonical text; None where the text cannot be read."""
    try:
        call = parse_canonical(text)
    except ValueError:
        return None
    if not isinstance(call, Struct):
        return None
    location, producer = (record.location, record.producer) if record is not None else (None, "")
    return Instruction(call.kind, call.fields, location, text, producer)  # type: ignore[arg-type]


@dataclass(slots=True)
class _Known:
    """The steps of the run, by the position that they have in the enclave plan and by what they produce."""

    steps: Iterable[Step]
    look: Look
    by_position: dict[int, Step] = field(default_factory=dict)
    by_producer: dict[str, Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            self.by_producer[step.instruction.producer] = step
            if step.before is not None:
                self.by_position[step.before.position] = step
                services = step.before.record.footprint.services
                self.by_producer.update((producer_of_service(name), step) for name in services)

    def told(self, step: Step) -> str:
        """`add_service("db") at main.star:12, updated`."""
        before = step.before
        here = place(step.location)
        there = place(before.record.location) if before is not None else here
        elsewhere = f" (recorded at {there})" if there != here else ""
        return f"{self._call(step)} at {here}{elsewhere}, {step.outcome}"

    def did(self, step: Step) -> str:
        """`add_service("db") at main.star:12 was updated`."""
        return f"{self._call(step)} at {place(step.location)} was {step.outcome}"

    def _call(self, step: Step) -> str:
        return self.look.one_line(short_call(step.instruction, CALL, self.look.secrets))

    def told_record(self, record: Record) -> str:
        """The same of an instruction of an earlier run."""
        call = _call(record.text, record)
        words = record.name if call is None else short_call(call, CALL, self.look.secrets)
        return f"{self.look.one_line(words)} at {place(record.location)}"

    def causes(self, step: Step) -> Iterator[Step]:
        """What made the step run, what made that run, and so on to the first cause."""
        while (cause := self._cause(step)) is not None:
            yield cause
            step = cause

    def _cause(self, step: Step) -> Step | None:
        before = step.before
        if before is None:
            return None
        if before.record.stale:
            return self.by_position.get(before.record.stale_by)
        change = _change_of_value(step, before)
        return None if change is None else next((one for _, one in self.origins(step, change)), None)

    def origins(self, step: Step, change: Change) -> Iterator[tuple[Future, Step]]:
        """The steps that ran and have produced what is at the path of a change."""
        for future in _futures_at(step, change.path):
            origin = self.by_producer.get(future.producer)
            if origin is not None and origin is not step and origin.outcome is not Outcome.SKIPPED:
                yield future, origin


def _again(step: Step, known: _Known) -> Iterator[tuple[int, str]]:
    """An instruction that was recorded and ran again, and below it why."""
    before = step.before
    assert before is not None
    yield 1, known.told(step)
    reasons = [*_stale(step, before, known), *_changed(step.instruction, before, known.look)]
    if not reasons:
        reasons = [*_other_value(step, before, known)]
    yield from ((2, reason) for reason in reasons or [known.look.one_line(step.reason)])


def _stale(step: Step, before: Before, known: _Known) -> Iterator[str]:
    record = before.record
    if not record.stale:
        return
    why, causes = known.look.one_line(record.stale), list(known.causes(step))
    if causes:
        yield f"{why}: {known.did(causes[0])}" + (_why(causes[0], known) if len(causes) == 1 else "")
        if len(causes) > 1:
            yield _first_cause(causes[-1], known)
    elif before.by is not None:
        yield f"{why}: {known.told_record(before.by)}, in an earlier run"
    else:
        yield why


def _first_cause(cause: Step, known: _Known) -> str:
    return f"first cause: {known.did(cause)}{_why(cause, known)}"


def _why(step: Step, known: _Known) -> str:
    return f", because {known.look.one_line(step.reason)}" if step.before is not None and step.reason else ""


def _changed(call: Instruction, before: Before, look: Look) -> Iterator[str]:
    """Which argument is another one, and what is behind the names of files and images in them."""
    record = before.record
    if record.text != call.text:
        yield _changed_argument(record.text, call.text, look)
    old, new = _digests(record.text, record.key), _digests(call.text, before.key)
    for name in old.keys() & call.files.keys():
        if old[name] != new.get(name):
            told = look.one_line(str(call.get(name)))
            yield f"the content of `{told}` changed: {_short(old[name])} → {_short(new.get(name, ''))}"
    for name in sorted(new.keys() - call.files.keys()):
        yield from _changed_image(name, old, new, look)


def _changed_image(name: str, old: Mapping[str, str], new: Mapping[str, str], look: Look) -> Iterator[str]:
    if name in old:
        was, now = old[name], new[name]
        if was != now:
            told = "it was not here any more" if now == "None" else f"{_short(was)} → {_short(now)}"
            yield f"image `{look.one_line(name)}` is another one now: {told}"
        return
    title, _, build = name.rpartition(":")
    for other in old:
        if name.startswith(f"{BUILT}/") and other not in new and other.rpartition(":")[0] == title:
            was = other.rpartition(":")[2]
            told = look.one_line(title.removeprefix(f"{BUILT}/"))
            yield f"what image `{told}` is built from changed: {_short(was)} → {_short(build)}"


def _changed_argument(old: str, new: str, look: Look) -> str:
    change = first_change(old, new)
    return "its arguments are written otherwise" if change is None else _told(change, look)


def _told(change: Change, look: Look, *, hidden: bool = False) -> str:
    """`config.image: "db:1" → "db:2"`. What is not the same before and after may look the same."""
    path = look.one_line(change.path)
    variable = _VARIABLE.search(change.path)
    if hidden or (variable is not None and is_secret_name(variable[1])):
        sides = [written(side) if side is ABSENT else MASK for side in (change.old, change.new)]
        return f"{path}: {sides[0]} → {sides[1]} (a secret)"
    old, new = (look.one_line(readable(written(side))) for side in (change.old, change.new))
    if old == new:
        return f"{path}: {cut(old, VALUE)} → {cut(new, VALUE)} ({'a secret' if MASK in new else 'of another call'})"
    old, new = _around(old, new)
    return f"{path}: {old} → {new}"


def _around(old: str, new: str) -> tuple[str, str]:
    """Two texts, the long ones cut to where they begin to differ."""
    pairs = enumerate(zip(old, new, strict=False))
    at = next((index for index, (a, b) in pairs if a != b), min(len(old), len(new)))
    if at + _LEAD <= VALUE or max(len(old), len(new)) <= VALUE:
        return cut(old, VALUE), cut(new, VALUE)
    start = at - _LEAD
    return "…" + cut(old[start:], VALUE - 1), "…" + cut(new[start:], VALUE - 1)


def _digests(text: str, key: str) -> dict[str, str]:
    """The digests in a key: of files by the argument that names them, of images by their reference."""
    lines = key[len(text) + 1 :].split("\n") if key.startswith(f"{text}\n") else []
    return {name: digest for name, _, digest in (line.rpartition("=") for line in lines)}


def _short(digest: str) -> str:
    return digest.rpartition(":")[2][:DIGEST] or "unknown"


def _change_of_value(step: Step, before: Before) -> Change | None:
    """The first resolved argument that has another value than recorded, where that is why the step ran."""
    record = before.record
    if record.stale or record.key != before.key or not step.resolved:
        return None
    return first_change(record.resolved, step.resolved)


def _other_value(step: Step, before: Before, known: _Known) -> Iterator[str]:
    """Which value is another one, and where it comes from."""
    change = _change_of_value(step, before)
    if change is None:
        return
    futures = _futures_at(step, change.path)
    secrets = known.look.secrets
    yield _told(change, known.look, hidden=any(one in secrets.futures or is_secret_name(one.field) for one in futures))
    for future, origin in known.origins(step, change):
        name = known.look.one_line(future.field)
        yield f"‹{name}› comes from {known.told(origin)}{_why(origin, known)}"
    causes = list(known.causes(step))
    if len(causes) > 1:
        yield _first_cause(causes[-1], known)


def _futures_at(step: Step, path: str) -> list[Future]:
    call: Value = Struct(step.name, step.instruction.arguments)
    return list(dict.fromkeys(find(at_path(call, path))))


def _parting(parting: Parting, known: _Known) -> Iterator[str]:
    """Where two plans differ, and how to keep them apart."""
    record, call = parting.record, parting.instruction
    if call is None:
        yield f"{known.told_record(record)}, which ran since, has changed what this plan asks for"
    else:
        told = known.look.one_line(short_call(call, CALL, known.look.secrets))
        yield f"this plan has {told} at {place(call.location)}"
        yield f"where the enclave's had {known.told_record(record)}"
        if call.name == record.name:
            yield _changed_argument(record.text, call.text, known.look)
    yield "isolate=True, or another share=NAME, gives the test an enclave of its own"


def _new(steps: list[Step], known: _Known) -> Iterator[str]:
    """Instructions beyond the end of the enclave plan."""
    if len(steps) == 1:
        yield f"{known.told(steps[0])}: new, what ran here before ends there"
    elif steps:
        yield f"{known.told(steps[0])}, and {len(steps) - 1} more after it: new, what ran here before ends there"
