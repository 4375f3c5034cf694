"""How a plan is executed: what is told while it goes, in which order, and what comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.events import (
    Event,
    ImageProgress,
    InstructionStarted,
    PhaseStarted,
    Printed,
    StepFinished,
    Warned,
)
from pytest_enclave.plan.record import Outcome
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory

A = 'plan.add_service("a", ServiceConfig(image = "img"))\n'


def told(lab: Laboratory, kind: type[Event]) -> list[Event]:
    """The events of one kind."""
    return [event for event in lab.events if isinstance(event, kind)]


def test_a_run_goes_through_its_phases_and_tells_each_instruction(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().image("img", local=False))
    lab.ok(A + 'plan.print("hello")')
    shown = [
        (type(event).__name__, getattr(event, "phase", None) or getattr(event, "number", None)) for event in lab.events
    ]
    assert shown == [
        ("PhaseStarted", "interpreting"),
        ("PhaseStarted", "validating"),
        ("ImageProgress", None),
        ("ImageProgress", None),
        ("PhaseStarted", "executing"),
        ("InstructionStarted", 1),
        ("StepFinished", 1),
        ("InstructionStarted", 2),
        ("Printed", None),
        ("StepFinished", 2),
    ]
    assert told(lab, PhaseStarted)[-1].instructions == 2
    assert told(lab, ImageProgress)[-1].done


def test_row_132_what_was_kept_is_not_told_what_is_skipped_is_and_the_rest_runs(lab: Laboratory):
    lab.ok('plan.print("kept")\nplan.print("skipped")')
    lab.events.clear()
    finished = lab.ok('plan.print("skipped")\nplan.print("third")\nplan.print("fourth")')
    assert [str(step.outcome) for step in finished.instructions] == ["skipped", "executed", "executed"]
    assert [event.text for event in told(lab, Printed)] == ["third", "fourth"]
    assert [(event.number, event.total) for event in told(lab, InstructionStarted)] == [(1, 3), (2, 3), (3, 3)]
    assert len(lab.kept) == 4


def test_row_133_after_a_failure_nothing_is_told_of_the_rest(lab: Laboratory):
    error = lab.error('plan.print("one")\nplan.verify("a", "==", "b")\nplan.print("three")')
    assert [event.step.outcome for event in told(lab, StepFinished)] == [Outcome.EXECUTED, Outcome.FAILED]
    assert [event.number for event in told(lab, InstructionStarted)] == [1, 2]
    assert (str(error.location), error.instruction.text) == (
        "<source>:3:16",
        'verify(value="a", assertion="==", target_value="b")',
    )


def test_row_135_what_needs_a_failed_instruction_does_not_run(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("first", ["/bin/sh", ...], ExecResult(3, "")))
    error = lab.error(
        'ran = plan.run_sh(run = "exit 3", name = "first")\n'
        'plan.verify(ran.code, "==", 0)\n'
        'plan.print("nothing to do with it")'
    )
    assert (error.instruction.name, error.code) == ("run_sh", 3)
    assert [event.number for event in told(lab, InstructionStarted)] == [1]


def test_a_skipped_instruction_tells_what_it_told_when_it_ran(lab: Laboratory):
    first = lab.ok(A).instructions[0]
    again = lab.ok(A).instructions[0]
    assert (again.message, again.duration, again.reason) == (first.message, 0.0, "already done")


def test_durations_are_those_of_the_engines_clock(lab: Laboratory):
    finished = lab.ok(A + 'plan.print("x")')
    assert [step.duration for step in finished.instructions] == [pytest.approx(0.35), 0.0]
    assert finished.duration == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        ("None", None),
        ('"plain"', "plain"),
        ("(1, [2.5, True], {'k': None})", [1, [2.5, True], {"k": None}]),
        ("struct(a = struct(b = 1))", {"a": {"b": 1}}),
        ('[code, "code " + code]', [0, "code 0"]),
        ("{code: code}", {"0": 0}),
    ],
)
def test_what_is_returned_is_plain_python_with_all_values_known(lab: Laboratory, returned: str, output: object):
    plan = A + f'code = plan.exec("a", ExecRecipe(command = ["true"]))["code"]\nreturn {returned}'
    assert lab.ok(plan).output == output
    assert lab.ok(plan).output == output, "values of skipped instructions are given back"


def test_a_value_is_given_back_whatever_its_place_among_equal_calls(lab: Laboratory):
    call = 'plan.exec("a", ExecRecipe(command = ["echo", "x"]))["output"]'
    lab.ok(A + f'{call}\n{call}\nplan.print("end")')
    finished = lab.ok(f'second = {call}\nplan.print("end")\nreturn second')
    assert (finished.skipped, finished.output) == (2, "x\n")


def test_row_160_a_deprecated_field_used_twice_is_told_once(lab: Laboratory):
    lab.ok(
        'plan.add_service("a", ServiceConfig(image = "img", cpu_allocation = 100))\n'
        'plan.add_service("b", ServiceConfig(image = "img", cpu_allocation = 200))'
    )
    (warned,) = told(lab, Warned)
    assert warned.problem.message == "`cpu_allocation` of ServiceConfig is deprecated"
    assert (warned.problem.remedy, str(warned.problem.location)) == ("use `max_cpu`", "<source>:2:40")


def test_row_159_no_output_is_cut_off(lab: Laboratory):
    long = "x" * 70_000
    finished = lab.ok(A + f'return plan.exec("a", ExecRecipe(command = ["echo", "{long}"]))["output"]')
    assert finished.output == long + "\n"


def test_a_run_that_takes_too_long_says_how_far_it_came(lab: Laboratory):
    lab.options = Options(timeout=1.0)
    sleep = 'plan.exec("a", ExecRecipe(command = ["sleep", "0.6"]))\n'
    finished = lab.run(A + sleep + sleep)
    assert type(finished.error).__name__ == "RunTimedOut"
    assert finished.error.message.startswith("the run took longer than 1 s")
    assert finished.executed == 2
    assert finished.error.remedy == "`--enclave-timeout` sets how long a whole run may take"
