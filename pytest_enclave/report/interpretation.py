"""What reports tell of a package whose Starlark does not yield a plan."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from pytest_enclave.errors import ExpectationFailed, InterpretationError, PackageError
from pytest_enclave.plan.values import Value
from pytest_enclave.report.differences import MISSING, first_difference
from pytest_enclave.report.facts import fact_lines, note_lines
from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.problem_table import problem_table
from pytest_enclave.report.source_excerpt import excerpt_at, gutter_of, place, source_line
from pytest_enclave.report.story import Story
from pytest_enclave.report.text import plural
from pytest_enclave.report.value_lines import comparison_facts, with_kind
from pytest_enclave.source import Frame

MOST_FRAMES = 6


def package_story(error: PackageError, look: Look) -> Story:
    """Where the package is wrong; nothing more is known."""
    excerpt = excerpt_at(error.sources, error.location)
    return Story(error.message, error.location, excerpt, (), error.remedy)


def interpretation_story(error: InterpretationError, look: Look) -> Story:
    """The expression, the calls that led to it, and every problem where there are several."""
    excerpt = excerpt_at(error.sources, error.location, context=True)
    look = replace(look, gutter=gutter_of(excerpt))
    blocks = []
    if isinstance(error, ExpectationFailed) and error.comparison is not None:
        blocks.append(Block(tuple(fact_lines(_compared(*error.comparison, look), look))))
    if len(error.problems) > 1:
        blocks.append(problem_table(error.problems, look))
    if frames := _callers(error):
        blocks.append(_frames_block(frames, error.sources, look))
    for warning in error.warnings:
        told = f"warning: {warning.location}: {warning.message} — {warning.remedy}"
        blocks.append(Block(tuple(note_lines(told, look))))
    blocks.append(Block(tuple(note_lines(f"phase: {_phase(error)}", look))))
    remedy = error.remedy or (error.problems[0].remedy if len(error.problems) == 1 else "")
    return Story(error.message, error.location, excerpt, tuple(blocks), remedy)


def _phase(error: InterpretationError) -> str:
    phase = error.phase if isinstance(error, ExpectationFailed) else "interpretation"
    return phase if phase == "execution" else f"{phase}; nothing was started"


def _compared(value: Value, sign: str, target: Value, look: Look) -> list[tuple[str, str]]:
    """Both values, and of large ones that ought to be equal the place where they begin to differ."""
    facts = comparison_facts(value, sign, target, look)
    found = first_difference(value, target) if sign == "==" else None
    if found is not None:
        path, here, there = found
        room = look.room(look.gutter + 30 + len(path)) // 2
        facts.append(("difference", f"at {path}: {_parting(here, there, look, room)}"))
    return facts


def _parting(here: Value, there: Value, look: Look, room: int) -> str:
    if here is MISSING:
        return f"there is none, but {with_kind(there, look, room)} is expected"
    if there is MISSING:
        return f"{with_kind(here, look, room)}, but none is expected"
    return f"{with_kind(here, look, room)}, not {with_kind(there, look, room)}"


def _callers(error: InterpretationError) -> list[Frame]:
    """The calls on the way, the nearest first, without the place that the report points at already."""
    here = error.location
    frames = [frame for frame in error.frames if frame.location.line]
    if here and frames and (frames[-1].location.file, frames[-1].location.line) == (here.file, here.line):
        frames.pop()
    return frames[::-1]


def _frames_block(frames: list[Frame], sources: Mapping[str, str], look: Look) -> Block:
    shown = frames if look.verbose else frames[:MOST_FRAMES]
    lines = []
    for frame in shown:
        code = source_line(sources, frame.location)
        told = f"called from {place(frame.location)}" + (f"  {code}" if code else f" in {frame.function}")
        lines.append(note_lines(look.fit(look.one_line(told), look.gutter + 3), look)[0])
    if len(shown) < len(frames):
        lines += note_lines(f"… {plural(len(frames) - len(shown), 'more call')} (-vv shows all)", look)
    return Block(tuple(lines))
