"""Telling runs to users: live on a terminal or with `-s`, and in the report of the test that needed them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_enclave.plan.events import Event
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.report.lines import InstructionLog
    from pytest_enclave.report.live import LiveLine
    from pytest_enclave.report.masking import Secrets


class Telling:
    """What all runs of a session tell; it is called with every event.

    With `-s` lines go to the terminal at once, otherwise they are collected for the report of the phase they belong to.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._log: InstructionLog | None = None
        self._line: LiveLine | None = None
        self._hidden: tuple[Plan, Secrets] | None = None

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        self._current_log()(event)
        if self._line is not None:
            self._line(event)

    def hide(self, plan: Plan) -> None:
        """Mask the secrets of a plan from now on."""
        self._current_log().hide(lambda: self._secrets_of(plan))

    def collect(self) -> str:
        """What was told since it was last asked, for a report; nothing where it has been shown already."""
        log, self._log = self._log, None
        text = log.text() if log is not None else ""
        return "" if self._printer() else text

    @contextmanager
    def live(self) -> Iterator[None]:
        """While a test waits for its enclave: a live line, where somebody sits in front of a terminal.

        It needs pytest's capturing suspended.
        """
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if self._printer() or self._quiet() or capture is None or not self._watched():
            yield
            return
        from pytest_enclave.report.live import LiveLine

        with capture.global_and_fixture_disabled(), LiveLine(sys.stdout) as self._line:
            try:
                yield
            finally:
                self._line = None

    def _secrets_of(self, plan: Plan) -> Secrets:
        from pytest_enclave.report.masking import Secrets

        # Test after test it is the same plan.
        if self._hidden is None or self._hidden[0] is not plan:
            self._hidden = plan, Secrets.of_plan(plan)
        return self._hidden[1]

    def _current_log(self) -> InstructionLog:
        if self._log is None:
            from pytest_enclave.report.lines import InstructionLog

            self._log = InstructionLog(write=self._printer())
        return self._log

    def _printer(self) -> Callable[[str], None] | None:
        """What shows a line at once; None where output is captured, or nobody reports to a terminal."""
        captured = self._config.pluginmanager.hasplugin("capturemanager") and self._config.getoption("capture") != "no"
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
        if captured or reporter is None:
            return None

        def write(line: str) -> None:
            reporter.ensure_newline()
            reporter.write_line(line)

        return write

    def _quiet(self) -> bool:
        return not self._config.pluginmanager.hasplugin("terminalreporter") or self._config.get_verbosity() < 0

    def _watched(self) -> bool:
        """Whether pytest writes to a terminal; standard output itself may be captured at this moment."""
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.getplugin("terminalreporter")
        return reporter is not None and bool(reporter.isatty)
