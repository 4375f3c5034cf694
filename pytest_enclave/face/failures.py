"""From our errors to pytest's reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest._io import TerminalWriter

from pytest_enclave.face.session import STARTED, USED

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.report.failure import FailureText

LOG_LINES = 60
OTHER_LOG_LINES = 15
"""How many of its last log lines a failing test's report shows of the service involved, and of each other service."""


class FailureRepr(TerminalRepr):
    """An error of this package, as pytest shows it: in colours where there are any; `reprcrash` feeds the summary."""

    def __init__(self, text: FailureText, path: str, line: int) -> None:
        self._text = text
        self.reprcrash = ReprFileLocation(path, line, text.headline)

    def toterminal(self, tw: TerminalWriter) -> None:
        """Write the lines."""
        for styled in self._text.lines:
            for segment in styled:
                tw.write(segment.text, **_MARKUP.get(segment.style, {}))
            tw.line()


_MARKUP: dict[str, dict[str, bool]] = {
    "error": {"red": True, "bold": True},
    "location": {"blue": True},
    "caret": {"red": True, "bold": True},
    "value": {"bold": True},
    "dim": {"light": True},
    "help": {"green": True},
}


def explain(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Put our own text in the place of a traceback, and a failed check of a fixture into the call phase (design §3)."""
    from pytest_enclave.errors import EnclaveError

    error = call.excinfo.value if call.excinfo is not None else None
    ours = error if isinstance(error, EnclaveError) else None
    if ours is not None and report.outcome != "skipped":
        report.longrepr = _represent(item, ours)  # type: ignore[assignment]
        if report.when == "setup" and isinstance(ours, AssertionError):
            report.when = "call"
    if report.failed:
        _attach(item, ours, report)


def _represent(item: pytest.Item, error: Any) -> FailureRepr:
    from pytest_enclave.report.failure import render, render_again

    verbose = item.config.get_verbosity() > 1
    again = error.reported_by and error.reported_by != item.nodeid
    text = render_again(error, error.reported_by) if again else render(error, verbose=verbose)
    path, line, _ = item.location
    return FailureRepr(text, path, (line or 0) + 1)


def _attach(item: pytest.Item, error: Any, report: pytest.TestReport) -> None:
    """What the services wrote since the test began, and what other plugins add; once per test."""
    used, item.stash[USED] = item.stash.get(USED, []), []
    if error is not None and error.reported_by:
        return
    for enclave in used:
        involved = getattr(error, "service", None)
        report.sections += _logs(enclave, item.stash.get(STARTED, 0.0), involved)
        extra = item.config.hook.pytest_enclave_failure_sections(enclave=enclave, error=error)
        report.sections += [section for sections in extra for section in sections or ()]


def _logs(enclave: Enclave, since: float, involved: str | None) -> list[tuple[str, str]]:
    from pytest_enclave.report.masking import Secrets

    sections = []
    logs = enclave.logs_since(since)
    secrets = Secrets.of_plan(enclave.last_run.plan) if enclave.last_run else Secrets()
    for service in sorted(logs, key=lambda name: (name != involved, name)):
        lines = [secrets.mask(line.text) for line in logs[service]]
        most = LOG_LINES if involved in (service, None) else OTHER_LOG_LINES
        hidden = len(lines) - most
        shown = [f"… {hidden} earlier lines", *lines[-most:]] if hidden > 0 else lines
        sections.append((f"enclave {enclave.name} · {service} log", "\n".join(shown) + "\n"))
    return sections
