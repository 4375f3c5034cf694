"""The live line: what it says, when it appears, and that it leaves nothing behind."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pytest

from pytest_enclave.plan.events import (
    BuildProgress,
    ImageProgress,
    InstructionStarted,
    PhaseStarted,
    StepFinished,
    Waiting,
)
from pytest_enclave.plan.record import Outcome, Step
from pytest_enclave.report.live import LiveLine, is_interactive
from pytest_enclave.source import Location
from tests.report.samples import call
from tests.report.screen import Screen

ADD = call("add_service", Location("main.star", 1, 1), name="db")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def live(**more: float) -> LiveLine:
    return LiveLine(Terminal(), lambda: 4.2, environment={}, **more)


def test_the_line_says_what_is_pulled_started_and_waited_for() -> None:
    line = live()
    line(PhaseStarted("validating", 7))
    assert line.text() == "enclave 4.2 s  validating"
    line(ImageProgress("postgres:16", 41_000_000, 0))
    assert line.text() == "enclave 4.2 s  validating · pulling postgres:16, 41 MB so far"
    line(ImageProgress("postgres:16", 41_000_000, 138_000_000))
    line(ImageProgress("redis:7", 1_000_000, 12_000_000))
    assert line.text() == "enclave 4.2 s  validating · pulling 2 images, 42 MB of 150 MB"
    line(ImageProgress("postgres:16", 138_000_000, 138_000_000, done=True))
    line(ImageProgress("redis:7", 12_000_000, 12_000_000, done=True))
    line(PhaseStarted("executing", 7))
    line(InstructionStarted(ADD, 3, 7))
    line(Waiting("db: port sql (5432/TCP) to open"))
    assert line.text() == 'enclave 4.2 s  3/7 add_service("db") · waiting for db: port sql (5432/TCP) to open'
    line(StepFinished(Step(ADD, Outcome.EXECUTED, 1.0), 3, 7))
    assert line.text() == "enclave 4.2 s  executing"


def test_the_line_says_what_is_built() -> None:
    line = live()
    line(PhaseStarted("validating", 7))
    line(BuildProgress("shop/api", 0, 0))
    assert line.text() == "enclave 4.2 s  validating · building shop/api"
    line(BuildProgress("shop/api", 3, 9))
    assert line.text() == "enclave 4.2 s  validating · building shop/api, step 3 of 9"
    line(BuildProgress("shop/db", 1, 2))
    line(ImageProgress("redis:7", 1_000_000, 12_000_000))
    assert line.text() == "enclave 4.2 s  validating · pulling redis:7, 1.0 MB of 12 MB · building 2 images"
    line(BuildProgress("shop/api", 9, 9, done=True, duration=3.0))
    line(BuildProgress("shop/db", 2, 2, done=True, duration=3.0))
    line(ImageProgress("redis:7", 12_000_000, 12_000_000, done=True))
    assert line.text() == "enclave 4.2 s  validating"


def test_the_line_shows_no_secrets() -> None:
    line = live()
    task = call("run_sh", Location("m.star"), run="login sesame-open", env_vars={"TOKEN": "sesame-open"})
    line(InstructionStarted(task, 1, 1))
    assert line.text() == "enclave 4.2 s  1/1 run_sh($ login ••••)"


@pytest.mark.parametrize("bottom", [False, True])
def test_the_screen_is_afterwards_as_it_was(bottom: bool) -> None:
    terminal, screen = Terminal(), Screen()
    before = "one\ntwo\nthree\nfour\nfive\ntests/test_a.py ." if bottom else "tests/test_a.py ."
    screen.write(before)
    with LiveLine(terminal, environment={}, patience=0.0) as line:
        line(InstructionStarted(ADD, 1, 1))
        wait_for(lambda: "add_service" in terminal.getvalue())
        shown = Screen()
        shown.write(before + terminal.getvalue())
        assert any("add_service" in row for row in shown.rows)
    screen.write(terminal.getvalue() + ".")
    assert [row for row in screen.rows if row][-1] == "tests/test_a.py .."
    assert not any("enclave" in row for row in screen.rows)


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_quick_run_shows_nothing_and_does_not_import_rich() -> None:
    code = """
import io, sys
from pytest_enclave.report.live import LiveLine
class Terminal(io.StringIO):
    def isatty(self): return True
terminal = Terminal()
with LiveLine(terminal, environment={}): pass
assert terminal.getvalue() == "" and "rich" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_dumb_terminal_gets_nothing(environment: Mapping[str, str]) -> None:
    assert not is_interactive(Terminal(), environment)
    terminal = Terminal()
    with LiveLine(terminal, environment=environment, patience=0.0) as line:
        line(InstructionStarted(ADD, 1, 1))
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_a_pipe_or_a_closed_stream_is_not_interactive() -> None:
    closed = io.StringIO()
    closed.close()
    assert not is_interactive(io.StringIO(), {"TERM": "xterm"})
    assert not is_interactive(closed, {"TERM": "xterm"})
