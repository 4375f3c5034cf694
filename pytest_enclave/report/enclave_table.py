"""Enclaves in a table as wide as the terminal. Below each a line on what it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pytest_enclave.report.look import Look
from pytest_enclave.report.source_excerpt import longest
from pytest_enclave.report.text import cells, cut, cut_start

HEAD = ("NAME", "ENGINE", "PACKAGE", "SERVICES", "AGE", "STATE")
ENGINE, PACKAGE, SERVICES = map(HEAD.index, ("ENGINE", "PACKAGE", "SERVICES"))
GAP = 2

NARROWEST = {ENGINE: 10, PACKAGE: 10, SERVICES: 12}
"""Columns that may give way, first the first, and what is left of them."""


class Row(msgspec.Struct, frozen=True):
    """An enclave. `age` in seconds; `services` None where they are not known; `troubles` tell what is wrong.

    `kind` says what the enclave is to tests, `args` is text without secrets; both may be empty.
    """

    name: str
    engine: str
    package: str
    services: tuple[str, ...] | None
    troubles: tuple[str, ...]
    age: float
    standing: str
    kind: str = ""
    args: str = ""


def enclave_table(rows: Sequence[Row], look: Look) -> list[str]:
    """A line each, below a head. To fit, endpoints are cut, then beginnings of packages, then services."""
    table = [HEAD, *(_texts(row, look) for row in rows)]
    widths = [longest([texts[column] for texts in table]) for column in range(len(HEAD))]
    for column, least in NARROWEST.items():
        excess = sum(widths) + GAP * (len(widths) - 1) - look.room(0)
        widths[column] -= max(0, min(excess, widths[column] - least))
    lines = [_line(table[0], widths)]
    for row, texts in zip(rows, table[1:], strict=True):
        lines.append(_line(texts, widths))
        if told := ", ".join(filter(None, (row.kind, row.args and f"args {row.args}"))):
            lines.append(f"  {cut(look.one_line(told), look.room(2))}")
        for trouble in row.troubles:
            lines += [f"  {part}" for part in look.wrap(look.one_line(trouble), 2)]
    return lines


def age_text(seconds: float) -> str:
    """How long ago something was, in its greatest unit: `41 s`, `5 min`, `3 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{int(seconds)} s"


def _texts(row: Row, look: Look) -> tuple[str, ...]:
    services = "?" if row.services is None else ", ".join(row.services) or "none"
    texts = (row.name, row.engine, row.package or "-", services, age_text(row.age), row.standing)
    return tuple(map(look.one_line, texts))


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    shown = [(cut_start if column == PACKAGE else cut)(text, widths[column]) for column, text in enumerate(texts)]
    padded = [text + " " * (width - cells(text)) for text, width in zip(shown, widths, strict=True)]
    return (" " * GAP).join(padded).rstrip()
