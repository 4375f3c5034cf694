"""Many problems in one table: numbered, grouped by file, in the order of their lines."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.source_excerpt import longest, place
from pytest_enclave.report.text import Line, Segment, cells, cut, line

WIDEST_SUBJECT = 32
NARROWEST_MESSAGE = 36

MOST_OUTPUT = 6
"""Lines of a program's output that are shown of each problem."""


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Files in the order of their first problem, lines ascending; what has no place comes last."""
    files = list(dict.fromkeys(problem.location.file for problem in problems if problem.location))

    def key(problem: Problem) -> tuple[int, int, int]:
        at = problem.location
        return (files.index(at.file), at.line, at.column) if at else (len(files), 0, 0)

    return sorted(problems, key=key)


def problem_table(problems: Sequence[Problem], look: Look) -> Block:
    """One row each: number, place, subject, message and what to do; long messages go on below their beginning."""
    ordered = in_order(problems)
    places = [look.clean(place(problem.location)) for problem in ordered]
    subjects = [cut(" ".join(look.clean(problem.subject).split()), WIDEST_SUBJECT) for problem in ordered]
    number_width, place_width, subject_width = len(str(len(ordered))), longest(places), longest(subjects)
    rows: list[Line] = []
    for number, (problem, where, about) in enumerate(zip(ordered, places, subjects, strict=True), 1):
        start: Line = (
            Segment(f" {number:>{number_width}}  ", "dim"),
            Segment(_padded(where, place_width), "location"),
            Segment(_padded(about, subject_width)),
        )
        rows += _row(start, _told(problem, look), look)
        rows += _output(problem, look)
    return Block(tuple(rows), (), "first", "line", 0, " ")


def _told(problem: Problem, look: Look) -> str:
    remedy = f" — {problem.remedy}" if problem.remedy else ""
    return " ".join(look.clean(problem.message + remedy).split())


def _row(start: Line, told: str, look: Look) -> list[Line]:
    indent = sum(cells(segment.text) for segment in start)
    if look.room(indent) >= NARROWEST_MESSAGE:
        first, *rest = look.wrap(told, indent)
        return [line(*start, first), *(line(" " * indent, more) for more in rest)]
    # Too narrow for a column of its own: the message goes below.
    return [line(*start), *(line(" " * 6, more) for more in look.wrap(told, 6))]


def _output(problem: Problem, look: Look) -> list[Line]:
    """The last lines that a program wrote, below what came of it."""
    texts = look.lines(problem.output.strip("\n")) if problem.output.strip() else []
    kept = texts if look.verbose else texts[-MOST_OUTPUT:]
    return [line(" " * 6, Segment(look.fit(text.rstrip(), 6), "dim")) for text in kept]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text) + 3) if width else ""
