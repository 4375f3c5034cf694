"""The attempts of a wait, equal ones that follow each other told once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from pytest_enclave.errors import Attempt
from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.source_excerpt import longest
from pytest_enclave.report.text import Line, Segment, line

STILL_CHANGING = 0.75
"""From this part of the timeout on a change means that more time might have helped."""

FIRST_ENTRIES, LAST_ENTRIES = 3, 8


class Entry(msgspec.Struct, frozen=True):
    """Attempts in a row with one outcome: when the first was made (seconds), how many, and the outcome."""

    at: float
    count: int
    outcome: str


def compress(attempts: Sequence[Attempt]) -> list[Entry]:
    """One entry for each row of equal outcomes."""
    entries = []
    for outcome, group in groupby(attempts, key=lambda attempt: attempt.outcome):
        same = list(group)
        entries.append(Entry(same[0].at, len(same), outcome))
    return entries


def call_log(attempts: Sequence[Attempt], timeout: float, look: Look) -> Block | None:
    """The log, `+4.1 s  22 ×  503 …`; None where nothing was tried."""
    entries = compress(attempts)
    if not entries:
        return None
    times = [f"+{entry.at:.1f} s" for entry in entries]
    counts = [f"{entry.count} ×" for entry in entries]
    wide, wider = longest(times), longest(counts)
    moved = len(entries) > 1 and entries[-1].at >= STILL_CHANGING * timeout
    lines: list[Line] = []
    for index, (time, count, entry) in enumerate(zip(times, counts, entries, strict=True)):
        start = f"{look.margin}    {time:>{wide}}  {count:>{wider}}  "
        late = moved and index == len(entries) - 1
        note = "   ← still changing when time ran out" if late else ""
        outcome = look.one_line(entry.outcome)
        shown = look.fit(outcome, len(start) + len(note))
        lines.append(line(start, shown, Segment(note, "help")))
    title = line(Segment(f"{look.margin}= ", "dim"), "call log")
    return Block(_without_middle(lines, look), (title,), "last", "outcome", 0, f"{look.margin}    ")


def _without_middle(lines: list[Line], look: Look) -> tuple[Line, ...]:
    left_out = len(lines) - FIRST_ENTRIES - LAST_ENTRIES
    if look.verbose or left_out <= 1:
        return tuple(lines)
    note = line(Segment(f"{look.margin}    … {left_out} more outcomes (-vv shows all)", "dim"))
    return (*lines[:FIRST_ENTRIES], note, *lines[-LAST_ENTRIES:])
