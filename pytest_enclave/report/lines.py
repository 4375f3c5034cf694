"""What a run tells, as plain lines: for the report section of the test that caused it, or live with `-s`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from pytest_enclave.report.masking import Secrets

INDENT = "  "


class InstructionLog:
    """Collects a run's lines; given as `emit` to the run.

    Each line goes to `write` as soon as it is complete, too. Secrets are those that `hide` has told of; they are found
    when there is a line that may hold some. A row of reused instructions is told in words of our own.
    """

    def __init__(self, width: int = 100, *, write: Callable[[str], None] | None = None) -> None:
        self._width = width
        self._known: Secrets | None = None
        self._hidden: list[Callable[[], Secrets]] = []
        self._masked = False
        self._write = write
        self._lines: list[str] = []
        self._reused: list[StepFinished] = []

    def hide(self, secrets: Callable[[], Secrets]) -> None:
        """Mask these as well, also in what was collected already."""
        self._hidden.append(secrets)

    def text(self) -> str:
        """All lines so far."""
        self._tell_reused()
        text = "\n".join(self._lines)
        return self._secrets().mask(text) if self._masked else text

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Printed():
                self._tell_reused()
                for text in self._shown(event.text).split("\n"):
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
        known = step.outcome is Outcome.FAILED or step.reason in ("", "new")
        why = "" if known else f" ({step.reason})"
        message = f"   {step.message}" if step.message else ""
        self._add(self._one_line(f"{self._start(event)} … {verb} {duration(step.duration)}{why}{message}"))

    def _start(self, event: StepFinished) -> str:
        from pytest_enclave.report.short_call import told

        call = told(event.step.instruction, max(self._width // 2, 24), self._secrets())
        return f"{INDENT}{event.number:>{len(str(event.total))}}/{event.total} {call}"

    def _tell_reused(self) -> None:
        """Reused instructions in a row take one line."""
        reused, self._reused = self._reused, []
        if len(reused) == 1:
            self._add(self._one_line(f"{self._start(reused[0])} … reused"))
        elif reused:
            first, last = reused[0], reused[-1]
            self._tell(f"{INDENT}{first.number}–{last.number}/{last.total} … {len(reused)} reused")

    def _warning(self, event: Warned) -> str:
        problem = event.problem
        where = f"{problem.location}: " if problem.location else ""
        remedy = f" — {problem.remedy}" if problem.remedy else ""
        return " ".join(self._shown(f"warning: {where}{problem.message}{remedy}").split())

    def _one_line(self, text: str) -> str:
        from pytest_enclave.report.text import cut

        start = text[: len(text) - len(text.lstrip())]
        return cut(start + self._shown(text.strip()).replace("\n", " "), self._width)

    def _shown(self, text: str) -> str:
        # Here as above: where all is reused, there is nothing of others to be shown.
        from pytest_enclave.report.text import printable

        return printable(self._secrets().mask(text))

    def _secrets(self) -> Secrets:
        from pytest_enclave.report.masking import Secrets

        known = self._known or Secrets()
        for find in self._hidden:
            known |= find()
        self._known, self._hidden = known, []
        return known

    def _add(self, text: str) -> None:
        self._masked = True
        self._tell(self._secrets().mask(text.rstrip()))

    def _tell(self, text: str) -> None:
        self._lines.append(text)
        if self._write is not None:
            self._write(text)
