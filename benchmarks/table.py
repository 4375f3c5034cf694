"""Rows as an aligned table, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.measurement import Row

HEADER = ("", "median", "min", "ratio", "goal")


def table(rows: Iterable[Row]) -> str:
    """The rows below a header; times in milliseconds."""
    cells = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    return "\n".join(_line(line, widths) for line in cells)


def as_json(row: Row) -> Mapping[str, Any]:
    """A row with all its rounds; times in milliseconds."""
    return {
        "what": row.what,
        "median_ms": _milliseconds(row.timing.median),
        "min_ms": _milliseconds(row.timing.minimum),
        "rounds_ms": [_milliseconds(seconds) for seconds in row.timing.seconds],
        "ratio": None if row.ratio is None else round(row.ratio, 3),
        "compared_with": row.compared_with or None,
        "goals": [{"goal": goal.text, "value": round(goal.value, 4), "met": goal.met} for goal in row.goals],
    }


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} × {row.compared_with}"
    goals = ", ".join(f"{goal.text}: {'met' if goal.met else 'MISSED'}" for goal in row.goals)
    return (row.what, _shown(row.timing.median), _shown(row.timing.minimum), ratio, goals)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    what, median, minimum, ratio, goal = cells
    columns = (
        what.ljust(widths[0]), median.rjust(widths[1]), minimum.rjust(widths[2]), ratio.ljust(widths[3]), goal,
    )  # fmt: skip
    return "  ".join(columns).rstrip()


def _shown(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if abs(milliseconds) >= 100 else f"{milliseconds:.2f} ms"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 4)
