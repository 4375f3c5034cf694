"""The last lines of a session: what was done and reused, and what could not be removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from pytest_enclave.engine.protocol import Leak
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.plan.record import Outcome
from pytest_enclave.report.text import cells, plural, printable
from pytest_enclave.run.outcome import Run


def summary_line(runs: Iterable[Run], forks: int = 0, taken_over: Iterable[str] = ()) -> str:
    """`enclave: 41 instructions, 3 executed, 38 reused, 2 forks`; empty where no instruction was met.

    With `, in shop-3f2a12 of an earlier session` where enclaves were taken over: what its tests did is still in them.
    """
    steps = [step for run in runs for step in run.instructions]
    if not steps:
        return ""
    words = (
        (Outcome.EXECUTED, "executed", True),
        (Outcome.UPDATED, "updated", False),
        (Outcome.SKIPPED, "reused", True),
        (Outcome.FAILED, "failed", False),
    )
    counts = [(sum(step.outcome is outcome for step in steps), word, always) for outcome, word, always in words]
    told = [f"{count} {word}" for count, word, always in counts if count or always]
    forked = [plural(forks, "fork")] if forks else []
    earlier = [f"in {', '.join(names)} of an earlier session"] if (names := sorted(taken_over)) else []
    return f"enclave: {', '.join([plural(len(steps), 'instruction'), *told, *forked, *earlier])}"


def leak_title(leaks: Sequence[Leak]) -> str:
    """The title of the section that tells of leaks."""
    return f"enclave: {plural(len(leaks), 'leaked resource')}"


def leak_lines(leaks: Sequence[Leak]) -> list[str]:
    """A row for each leak, aligned, and then the commands that remove them, each once."""
    if not leaks:
        return []
    # Nearly always there are none.
    from pytest_enclave.report.source_excerpt import longest

    rows = [[" ".join(printable(text).split()) for text in (leak.kind, leak.name, leak.reason)] for leak in leaks]
    widths = [longest([row[column] for row in rows]) for column in (0, 1)]
    lines = [
        "  ".join([*(text + " " * (width - cells(text)) for text, width in zip(row, widths, strict=False)), row[2]])
        for row in rows
    ]
    commands = list(dict.fromkeys(leak.command for leak in leaks if leak.command))
    labels = ["remove with:  ", *[" " * 14] * (len(commands) - 1)]
    return [line.rstrip() for line in lines] + [
        label + printable(command) for label, command in zip(labels, commands, strict=False)
    ]


def kept_lines(kept: Sequence[Entry]) -> list[str]:
    """What stays after the session, until when, and how it is removed."""
    return [
        f"enclave: {entry.name} ({entry.package}) is kept until {moment(entry.kept_until)}; "
        f"remove it with `pytest --enclave-clean={entry.name}`"
        for entry in kept
        if entry.kept_until is not None
    ]


def moment(seconds: float) -> str:
    """A point in time (seconds since the epoch) as users write it: `22 Nov 18:11`."""
    return time.strftime("%d %b %H:%M", time.localtime(seconds))
