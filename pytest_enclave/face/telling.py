"""Telling a run to users while it goes: live on a terminal or with `-s`, and in the report of the test that needed it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_enclave.plan.events import Event


@contextmanager
def telling(config: pytest.Config, item: pytest.Item | None, phase: str) -> Iterator[Callable[[Event], None]]:
    """A function that is told every event of the runs inside the block."""
    from pytest_enclave.report.lines import InstructionLog

    uncaptured = config.getoption("capture", "fd") == "no"
    reporter = config.pluginmanager.getplugin("terminalreporter")
    log = InstructionLog()
    with ExitStack() as stack:
        listeners: list[Callable[[Event], None]] = []
        if uncaptured and reporter is not None:
            listeners.append(lambda event: _write(reporter, log(event)))
        else:
            listeners.append(log)
            listeners += _live_line(config, reporter, stack)

        def tell(event: Event) -> None:
            for listener in listeners:
                listener(event)

        try:
            yield tell
        finally:
            if item is not None and log.text() and not uncaptured:
                item.add_report_section(phase, "enclave", log.text())


def _write(reporter: pytest.TerminalReporter, lines: list[str]) -> None:
    for line in lines:
        reporter.ensure_newline()
        reporter.write_line(line)


def _live_line(
    config: pytest.Config, reporter: pytest.TerminalReporter | None, stack: ExitStack
) -> list[Callable[[Event], None]]:
    """The live line, where somebody sits in front of a terminal; it needs pytest's capturing suspended."""
    capture = config.pluginmanager.getplugin("capturemanager")
    quiet = reporter is None or config.get_verbosity() < 0 or hasattr(config, "workerinput")
    if quiet or capture is None or not sys.__stdout__ or not sys.__stdout__.isatty():
        return []
    from pytest_enclave.report.live import LiveLine

    stack.enter_context(capture.global_and_fixture_disabled())
    return [stack.enter_context(LiveLine(sys.stdout))]
