"""From our errors to pytest's reports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest._io import TerminalWriter

from pytest_enclave.face.session import SESSION, USED

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.errors import EnclaveError
    from pytest_enclave.report.masking import Secrets

LOG_LINES = 60
OTHER_LOG_LINES = 15
"""How many of its last log lines a failing test's report shows of the service involved, and of each other service."""

PAYLOAD = "enclave_failure"
"""The attribute of a report that carries what is shown of it from an xdist worker."""


class FailureRepr(TerminalRepr):
    """An error of this package, as pytest shows it: in colours where there are any; `reprcrash` feeds the summary.

    `lines` are segments of text and style; all of it is plain data, so that it can come from another process.
    """

    def __init__(self, headline: str, lines: Sequence[Sequence[tuple[str, str]]], path: str, line: int) -> None:
        self.lines = lines
        self.reprcrash = ReprFileLocation(path, line, headline)

    def toterminal(self, tw: TerminalWriter) -> None:
        """Write the lines."""
        for segments in self.lines:
            for text, style in segments:
                tw.write(text, **_MARKUP.get(style, {}))
            tw.line()

    def to_plain(self) -> dict[str, Any]:
        """What `FailureRepr(**…)` takes."""
        crash = self.reprcrash
        return {"headline": crash.message, "lines": self.lines, "path": crash.path, "line": crash.lineno}


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
    told = ours is not None and ours.reported_by not in ("", item.nodeid)
    if ours is not None:
        if not _met_by_hand(ours):
            _show(item, ours, report, again=told)
        if report.when == "setup" and isinstance(ours, AssertionError):
            report.when = "call"
    if report.failed:
        if ours is not None and not told:
            ours.reported_by = item.nodeid
        _attach(item, ours, report, again=told)


def _met_by_hand(error: EnclaveError) -> bool:
    """Whether it is about something that a test did to a service: its own line tells more than any package's."""
    from pytest_enclave.errors import ExecutionError

    return isinstance(error, ExecutionError) and error.instruction is None and error.location is None


def restore(report: pytest.TestReport) -> None:
    """Give a report that came from an xdist worker, as text, its colours and its line in the summary back."""
    payload = getattr(report, PAYLOAD, None)
    if payload is not None:
        report.longrepr = FailureRepr(**payload)


def _show(item: pytest.Item, error: EnclaveError, report: pytest.TestReport, *, again: bool) -> None:
    from pytest_enclave.report.failure import render, render_again

    secrets = _secrets(item)
    verbose = item.config.get_verbosity() > 1
    if again:
        text = render_again(error, error.reported_by, secrets=secrets)
    else:
        text = render(error, verbose=verbose, secrets=secrets)
    lines = [[(segment.text, segment.style) for segment in line] for line in text.lines]
    path, line, _ = item.location
    shown = FailureRepr(text.headline, lines, path, (line or 0) + 1)
    report.longrepr = shown
    if hasattr(item.config, "workerinput"):
        setattr(report, PAYLOAD, shown.to_plain())


def _attach(item: pytest.Item, error: EnclaveError | None, report: pytest.TestReport, *, again: bool) -> None:
    """What the services wrote since the test began, and what other plugins add; once per test."""
    own = used = item.stash.get(USED, {})
    item.stash[USED] = {}
    session = item.config.stash[SESSION]
    if used:
        session.failed(used)
    if again:
        return
    if report.when == "call" and "enclave_factory" in getattr(item, "fixturenames", ()):
        # A fixture of a wider scope made them, for an earlier test; which of them this one used is not known.
        used = {enclave: session.began(engine) for enclave, engine in session.handmade.items()} | used
    for enclave, since in used.items():
        if enclave in own or enclave.faults:
            report.sections += _broken(enclave, item)
        report.sections += _logs(enclave, since, getattr(error, "service", None), _secrets(item))
        extra = item.config.hook.pytest_enclave_failure_sections(enclave=enclave, error=error)
        report.sections += [section for sections in extra for section in sections or ()]


def _broken(enclave: Enclave, item: pytest.Item) -> list[tuple[str, str]]:
    """The faults it was with, and the seed."""
    from pytest_enclave.face.faults import sections

    return sections(enclave, item.config.stash[SESSION].settings)


def _secrets(item: pytest.Item) -> Secrets:
    """Those of every plan that ran in this session: any service's log may show them."""
    from pytest_enclave.report.masking import Secrets

    plans = {id(run.plan): run.plan for run in item.config.stash[SESSION].runs}
    return reduce(or_, map(Secrets.of_plan, plans.values()), Secrets())


def _logs(enclave: Enclave, since: float, involved: str | None, secrets: Secrets) -> list[tuple[str, str]]:
    sections = []
    logs = enclave.logs_since(since)
    for service in sorted(logs, key=lambda name: (name != involved, name)):
        lines = [secrets.mask(line.text) for line in logs[service]]
        most = LOG_LINES if involved in (service, None) else OTHER_LOG_LINES
        hidden = len(lines) - most
        shown = [f"… {hidden} earlier lines", *lines[-most:]] if hidden > 0 else lines
        sections.append((f"enclave {enclave.name} · {service} log", "\n".join(shown) + "\n"))
    return sections
