"""What is known about a failure, one `= name: text` each, the texts aligned."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.source_excerpt import longest
from pytest_enclave.report.text import Line, Segment, cells, cut, line

LONGEST_OUTPUT = 20
"""Lines of output or log shown of one source, unless the report is verbose."""

LONGEST_FACT = 6
"""Lines that one fact may take, unless the report is verbose."""


def fact_lines(facts: Sequence[tuple[str, str]], look: Look, style: str = "") -> list[Line]:
    """The facts, in the order given; texts that are too long go on below where they began."""
    names = [f"{look.one_line(name)}:" for name, _ in facts]
    column = longest(names)
    indent = look.gutter + 3 + column + 1
    shown: list[Line] = []
    for name, (_, text) in zip(names, facts, strict=True):
        texts = [part for raw in look.lines(text) for part in look.wrap(raw, indent)]
        if len(texts) > LONGEST_FACT and not look.verbose:
            texts = [*texts[: LONGEST_FACT - 1], "…"]
        padded = name + " " * (column - cells(name))
        shown.append(line(Segment(f"{look.margin}= ", "dim"), Segment(f"{padded} ", style), texts[0]))
        shown += [line(" " * indent, more) for more in texts[1:]]
    return shown


def note_lines(text: str, look: Look) -> list[Line]:
    """A fact that is a sentence: `= sentence`."""
    indent = look.gutter + 3
    first, *rest = look.wrap(look.one_line(text), indent)
    return [line(Segment(f"{look.margin}= ", "dim"), first), *(line(" " * (indent + 2), more) for more in rest)]


def help_lines(text: str, look: Look) -> list[Line]:
    """`= help: what to do about it`."""
    return fact_lines([("help", text)], look, style="help")


def output_block(title: str, text: str, look: Look, what: str = "line") -> Block | None:
    """The last lines of a text, indented below a title; None where there is nothing to show."""
    return last_lines(title, look.clean(text).strip("\n").split("\n"), look, what) if text.strip() else None


def last_lines(title: str, texts: Sequence[str], look: Look, what: str = "line") -> Block:
    """The last of these lines, indented below a title."""
    indent = look.margin + "    "
    kept = list(texts) if look.verbose else list(texts)[-LONGEST_OUTPUT:]
    lines = tuple(line(indent, _one_line(text, look, len(indent))) for text in kept)
    dropped = len(texts) - len(kept)
    return Block(lines, (_title(title, look),), "last", what, dropped, indent)


def _title(text: str, look: Look) -> Line:
    return line(Segment(f"{look.margin}= ", "dim"), look.fit(look.one_line(text), look.gutter + 3))


def _one_line(text: str, look: Look, indent: int) -> str:
    shown = look.one_line(text).rstrip()
    return shown if look.verbose else cut(shown, max(look.room(indent), 10))
