"""What a run tells, as plain lines: for the report section of the test that caused it, or live with `-s`."""

from __future__ import annotations

from collections.abc import Callable

from pytest_enclave.plan.events import (
    BuildProgress,
    Event,
    Forked,
    Frozen,
    ImageProgress,
    Printed,
    StepFinished,
    Warned,
)
from pytest_enclave.plan.record import Outcome
from pytest_enclave.report.amounts import duration, size
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.short_call import told
from pytest_enclave.report.text import cut, printable

INDENT = "  "


class InstructionLog:
    """Collects a run's lines; given as `emit` to the run.

    Each line goes to `write` as soon as it is complete, too. Secrets are those that `hide` has told of.
    """

    def __init__(
        self, width: int = 100, *, secrets: Secrets | None = None, write: Callable[[str], None] | None = None
    ) -> None:
        self._width = width
        self._secrets = secrets or Secrets()
        self._write = write
        self._lines: list[str] = []
        self._reused: list[StepFinished] = []

    def hide(self, secrets: Secrets) -> None:
        """Mask these as well, also in what was collected already."""
        self._secrets |= secrets

    def text(self) -> str:
        """All lines so far."""
        self._tell_reused()
        return self._secrets.mask("\n".join(self._lines))

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Printed():
                self._tell_reused()
                for text in printable(self._secrets.mask(event.text)).split("\n"):
                    self._add(f"{INDENT * 3}{text}")
            case Warned():
                self._tell_reused()
                self._add(INDENT + self._warning(event))
            case ImageProgress(done=True, total=total) if total:
                self._add(self._one_line(f"{INDENT}pulled {event.image} ({size(total)})"))
            case BuildProgress(done=True):
                self._add(self._one_line(f"{INDENT}built {event.image} in {duration(event.duration)}"))
            case Frozen():
                self._tell_reused()
                self._add(f"{INDENT}{event.enclave} frozen in {duration(event.duration)}, for forks to begin from")
            case Forked():
                self._tell_reused()
                self._add(f"{INDENT}{event.enclave} forked from {event.origin} in {duration(event.duration)}")
            case StepFinished() if event.step.outcome is Outcome.SKIPPED:
                self._reused.append(event)
            case StepFinished():
                self._tell_reused()
                self._step(event)
            case _:
                pass

    def _step(self, event: StepFinished) -> None:
        step = event.step
        if step.name == "print" and step.outcome is Outcome.EXECUTED:
            return  # What it printed stands there already.
        verb = "failed after" if step.outcome is Outcome.FAILED else f"{step.outcome} in"
        why = f" ({step.reason})" if step.reason not in ("", "new") else ""
        message = f"   {step.message}" if step.message else ""
        self._add(self._one_line(f"{self._start(event)} … {verb} {duration(step.duration)}{why}{message}"))

    def _start(self, event: StepFinished) -> str:
        call = told(event.step.instruction, max(self._width // 2, 24), self._secrets)
        return f"{INDENT}{event.number:>{len(str(event.total))}}/{event.total} {call}"

    def _tell_reused(self) -> None:
        """Reused instructions in a row take one line."""
        reused, self._reused = self._reused, []
        if len(reused) == 1:
            self._add(self._one_line(f"{self._start(reused[0])} … reused"))
        elif reused:
            first, last = reused[0], reused[-1]
            self._add(f"{INDENT}{first.number}–{last.number}/{last.total} … {len(reused)} reused")

    def _warning(self, event: Warned) -> str:
        problem = event.problem
        where = f"{problem.location}: " if problem.location else ""
        remedy = f" — {problem.remedy}" if problem.remedy else ""
        return " ".join(printable(self._secrets.mask(f"warning: {where}{problem.message}{remedy}")).split())

    def _one_line(self, text: str) -> str:
        start = text[: len(text) - len(text.lstrip())]
        return cut(start + printable(self._secrets.mask(text.strip())).replace("\n", " "), self._width)

    def _add(self, text: str) -> None:
        text = self._secrets.mask(text.rstrip())
        self._lines.append(text)
        if self._write is not None:
            self._write(text)
