"""What a run tells, as lines."""

from __future__ import annotations

from textwrap import dedent

from pytest_enclave.errors import Problem
from pytest_enclave.plan.events import (
    BuildProgress,
    Forked,
    Frozen,
    ImageProgress,
    PhaseStarted,
    Printed,
    StepFinished,
    Warned,
)
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Outcome, Step
from pytest_enclave.report.lines import InstructionLog
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.text import cells
from pytest_enclave.source import Location
from tests.report.samples import call, request

HERE = Location("main.star", 3, 5)
ADD = call("add_service", HERE, name="db")
PRINT = call("print", HERE, msg="hello")


def finish(
    log: InstructionLog, instruction: Instruction, number: int, outcome: Outcome, message: str = "", reason: str = ""
) -> None:
    log(StepFinished(Step(instruction, outcome, 0.41, message, reason), number, 12))


def test_each_instruction_takes_a_line_and_reused_ones_share_one() -> None:
    log = InstructionLog()
    log(PhaseStarted("validating"))
    log(Warned(Problem("`cpu_allocation` is deprecated", HERE, remedy="use `max_cpu`")))
    log(ImageProgress("postgres:16", 138_000_000, 138_000_000, done=True))
    log(BuildProgress("shop/api", 3, 9))
    log(BuildProgress("shop/api", 9, 9, done=True, duration=41.0))
    for number in range(1, 8):
        finish(log, ADD, number, Outcome.SKIPPED, "up", "already done")
    finish(log, ADD, 8, Outcome.UPDATED, "service `db` is up at 172.18.0.2", "it changed")
    finish(log, ADD, 9, Outcome.SKIPPED)
    finish(log, request(), 10, Outcome.EXECUTED, "200 ok", "new")
    log(Printed("hello\nworld"))
    log(StepFinished(Step(PRINT, Outcome.EXECUTED, 0.0, "hello\nworld"), 11, 12))
    finish(log, request(), 12, Outcome.FAILED, "status 503\nis not acceptable")
    expected = """\
          warning: main.star:3:5: `cpu_allocation` is deprecated — use `max_cpu`
          pulled postgres:16 (138 MB)
          built shop/api in 41 s
          1–7/12 … 7 reused
           8/12 add_service("db") … updated in 0.41 s (it changed)   service `db` is up at 172.18.0.2
           9/12 add_service("db") … reused
          10/12 request("api", GET /health) … executed in 0.41 s   200 ok
              hello
              world
          12/12 request("api", GET /health) … failed after 0.41 s   status 503 is not acceptable"""
    assert dedent(log.text()) == dedent(expected)
    assert log.text().startswith("  warning")


def test_lines_are_written_at_once_and_fit_the_width() -> None:
    written: list[str] = []
    log = InstructionLog(60, write=written.append)
    finish(log, call("run_sh", HERE, run="echo " + "long " * 30), 1, Outcome.EXECUTED, "0 " + "long " * 30)
    assert len(written) == 1
    assert cells(written[0]) <= 60
    assert "executed in 0.41 s" in written[0]


def test_secrets_are_masked_from_the_moment_they_are_known() -> None:
    log = InstructionLog()
    log(Printed("early tell-nobody"))
    task = call("run_sh", HERE, run="login sesame-open", env_vars={"TOKEN": "sesame-open"})
    log.hide(lambda: Secrets.of_instructions([task]))
    finish(log, task, 1, Outcome.EXECUTED, "0 sesame-open")
    log.hide(lambda: Secrets(frozenset({"tell-nobody"})))
    assert log.text() == ("      early ••••\n   1/12 run_sh($ login ••••) … executed in 0.41 s   0 ••••")


def test_a_fork_is_told_with_its_origin() -> None:
    log = InstructionLog()
    finish(log, ADD, 1, Outcome.SKIPPED)
    log(Frozen("shop-1a2b3c", 0.31))
    log(Forked("shop-fork-ab12cd", "shop-1a2b3c", 0.18))
    expected = """\
           1/12 add_service("db") … reused
          shop-1a2b3c frozen in 0.31 s, for forks to begin from
          shop-fork-ab12cd forked from shop-1a2b3c in 0.18 s"""
    assert dedent(log.text()) == dedent(expected)
