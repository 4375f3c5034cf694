"""The end of a session: what was executed and reused, and what went wrong when enclaves were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_enclave.report.summary import kept_lines, leak_lines, leak_title, summary_line

if TYPE_CHECKING:
    from pytest_enclave.face.session import EnclaveSession


def summarise(reporter: pytest.TerminalReporter, session: EnclaveSession) -> None:
    """Sections where something went wrong, or that were asked for; one line otherwise, and none with `-q`."""
    if session.settings.explain:
        from pytest_enclave.face.explaining import show

        show(
            reporter,
            session.explained.lines(session.config.get_terminal_writer().fullwidth, no_cache=session.settings.no_cache),
        )
    if session.complaints:
        reporter.section("enclave: teardown failed", red=True)
        _write(reporter, session.complaints)
    if session.notes:
        reporter.section("enclave: not as expected", yellow=True)
        _write(reporter, session.notes)
    if session.leaks:
        reporter.section(leak_title(session.leaks), red=True)
        _write(reporter, leak_lines(session.leaks))
    for worker, lines in sorted(session.workers.items()):
        if len(lines) > 1:
            reporter.section(f"enclave: trouble in {worker}", red=True)
        if len(lines) > 1 or reporter.config.get_verbosity() >= 0:
            _write(reporter, [f"{worker}: {line}" for line in lines])
    _write(reporter, kept_lines(session.kept))
    line = summary_line(session.runs, session.forks, session.taken_over)
    if line and reporter.config.get_verbosity() >= 0:
        reporter.write_line(line)


def closing_lines(session: EnclaveSession) -> list[str]:
    """The same of an xdist worker, for its controller: more than one line only where something went wrong."""
    told = [*session.complaints, *session.notes]
    troubles = [*told, *([leak_title(session.leaks)] if session.leaks else [])]
    return [*troubles, *leak_lines(session.leaks), summary_line(session.runs, session.forks, session.taken_over)]


def _write(reporter: pytest.TerminalReporter, lines: list[str]) -> None:
    for line in lines:
        reporter.write_line(line)
