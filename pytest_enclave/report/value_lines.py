"""Values in a report: with their types, where they differ, and where they came from."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.plan.futures import find
from pytest_enclave.plan.record import Origin
from pytest_enclave.plan.values import Value, to_repr, type_name
from pytest_enclave.report.amounts import duration
from pytest_enclave.report.facts import note_lines
from pytest_enclave.report.look import Look
from pytest_enclave.report.short_call import short_call
from pytest_enclave.report.source_excerpt import place
from pytest_enclave.report.text import Line, cut, line, plural, written

SHORT = 60
MOST_ORIGINS = 5


def kind_of(value: Value) -> str:
    """The value's Starlark type, and for what has a length that is not seen at once, its length."""
    try:
        kind = type_name(value)
    except KeyError:
        return type(value).__name__
    if kind == "string" and len(value) > SHORT:
        return f"{kind}, {plural(len(value), 'character')}"
    return kind


def shown(value: Value, look: Look) -> str:
    """The value as Starlark writes it, clean."""
    return look.one_line(written(value))


def with_kind(value: Value, look: Look, room: int) -> str:
    """`503 (int)`; of a long value as much as there is room for."""
    kind = f" ({kind_of(value)})"
    return cut(shown(value, look), max(room - len(kind), 12)) + kind


def comparison_facts(value: Value, assertion: str, target: Value, look: Look) -> list[tuple[str, str]]:
    """Value and target, and where two long texts begin to differ."""
    room = look.room(look.gutter + 17 + len(assertion))
    facts = [
        ("value", with_kind(value, look, room)),
        ("expected", f"{assertion} {with_kind(target, look, room)}"),
    ]
    both_texts = isinstance(value, str) and isinstance(target, str)
    if assertion == "==" and both_texts and max(len(value), len(target)) > SHORT:
        facts.append(("difference", _difference(value, target, look)))
    return facts


def _difference(value: str, target: str, look: Look) -> str:
    """The place where two texts part, with what stands there in each. Secrets are masked before anything is cut."""
    ours, theirs = look.clean(value), look.clean(target)
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((index for index, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    around = slice(max(at - 10, 0), at + 20)
    return f"from character {at + 1} on: …{to_repr(ours[around])}… is not …{to_repr(theirs[around])}…"


def origin_lines(origins: Sequence[Origin], look: Look) -> list[Line]:
    """Where each value came from: the field, the instruction that produced it, and what that gave."""
    lines: list[Line] = []
    for origin in origins if look.verbose else origins[:MOST_ORIGINS]:
        lines += _origin_lines(origin, look)
    left = len(origins) - MOST_ORIGINS
    if left > 0 and not look.verbose:
        lines += note_lines(f"… and {plural(left, 'more value')} (-vv shows all)", look)
    return lines


def _origin_lines(origin: Origin, look: Look) -> list[Line]:
    step = origin.step
    took = f" in {duration(step.duration)}" if step.duration else ""
    call = look.clean(short_call(step.instruction, SHORT + 20, look.secrets))
    first, _, rest = look.clean(step.message).partition(" ")
    value = look.clean(origin.value if isinstance(origin.value, str) else written(origin.value))
    # A result's message begins with its code: the rest is a body, and stands better on a line of its own.
    told = first if first.isdecimal() else look.clean(step.message)
    if not told:
        told = cut(value.replace("\n", " "), SHORT)
    lines = note_lines(
        f"`{look.clean(origin.field)}` was produced at {place(step.location)} by plan.{call}: {told}{took}", look
    )
    body = rest if first.isdecimal() else ""
    if body.strip():
        indent = look.margin + "    "
        lines.append(line(indent, look.fit(body.replace("\n", " "), len(indent))))
    return lines


def name_of(expression: Value) -> str:
    """The field's name where the value is one future reference and nothing else, else empty."""
    references = list(find(expression)) if isinstance(expression, str) else []
    return references[0].field if len(references) == 1 and str(references[0]) == expression else ""
