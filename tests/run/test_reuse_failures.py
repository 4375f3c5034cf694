"""After a run that failed: what succeeded is not done again, and what failed is relied on by nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.script import Script
from tests.laboratory import Laboratory

SAY = 'plan.print("first")\n'
EXEC = 'plan.exec("a", ExecRecipe(command = ["true"]))\n'


def a(version: int, port: str = "http") -> str:
    """A plan that adds a service whose port `never` does not open."""
    port_spec = f'ports = {{"{port}": PortSpec(number = 80, wait = "1s")}}'
    return f'plan.add_service("a", ServiceConfig(image = "img", {port_spec}, env_vars = {{"V": "{version}"}}))\n'


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """A service whose port `never` does not open, and whose command `flaky` fails the first time."""
    script = Script().service("a", opens_after={"never": None})
    return laboratory(script.on_exec("a", ["flaky"], [ExecResult(1, ""), ExecResult(0, "")]))


def reasons(lab: Laboratory, plan: str) -> list[tuple[str, str]]:
    """Outcome and reason of every instruction."""
    return [(str(step.outcome), step.reason) for step in lab.run(plan).instructions]


def test_row_133_a_failing_instruction_ends_the_run_and_only_its_predecessors_are_kept(lab: Laboratory):
    finished = lab.run(SAY + 'plan.verify("a", "==", "b")\n' + 'plan.print("never")')
    assert [str(step) for step in finished.instructions] == [
        "executed print at <source>:2:15",
        "failed verify at <source>:3:16",
    ]
    assert str(finished.error) == '<source>:3:16: verify failed: "a" == "b" does not hold'
    assert finished.error.instruction == finished.plan.instructions[1]
    assert lab.kept == ["print"]


def test_the_next_run_goes_on_where_the_last_one_failed(lab: Laboratory):
    plan = SAY + a(1) + EXEC.replace("true", "flaky") + 'plan.print("last")'
    assert [outcome for outcome, _ in reasons(lab, plan)] == ["executed", "executed", "failed"]
    assert [outcome for outcome, _ in reasons(lab, plan)] == ["skipped", "skipped", "executed", "executed"]


def test_a_failed_update_leaves_its_predecessors_done_and_is_tried_again(lab: Laboratory):
    lab.ok(SAY + a(1) + EXEC)
    broken = SAY + a(2, "never") + EXEC
    assert reasons(lab, broken) == [("skipped", "already done"), ("failed", 'config.ports["never"] changed')]
    assert reasons(lab, broken) == [("skipped", "already done"), ("failed", "it failed when it last ran")]
    assert reasons(lab, SAY + a(1) + EXEC) == [
        ("skipped", "already done"),
        ("updated", "it failed when it last ran"),
        ("executed", "service `a` was replaced"),
    ]
    assert lab.ok(SAY + a(1) + EXEC).executed == 0


def test_a_service_that_another_plan_failed_to_replace_is_not_relied_on(lab: Laboratory):
    lab.ok(a(1) + SAY)
    lab.error('plan.print("another plan")\n' + a(2, "never"))
    assert reasons(lab, a(1) + SAY) == [
        ("updated", "replacing service `a` failed"),
        ("skipped", "already done"),
    ]
    assert lab.state.configs()["a"].env_vars == {"V": "1"}


def test_a_service_that_could_not_be_replaced_is_no_service_of_the_enclave(lab: Laboratory):
    lab.ok(a(1))
    lab.error(a(2, "never"))
    assert "a" not in lab.enclave().services


@pytest.mark.parametrize("invalid", ['plan.exec("b", ExecRecipe(command = ["true"]))', "fail()", "nonsense"])
def test_a_run_that_never_began_changes_nothing(lab: Laboratory, invalid: str):
    lab.ok(a(1) + SAY)
    asked = [call for call in lab.engine.sites["lab-0"].calls if call.method != "observe"]
    lab.error(a(2) + invalid)
    assert [call for call in lab.engine.sites["lab-0"].calls if call.method != "observe"] == asked
    assert lab.ok(a(1) + SAY).executed == 0


def test_a_command_that_fails_when_it_is_run_again_is_the_only_one_to_be_tried_next(
    laboratory: Callable[..., Laboratory],
):
    lab = laboratory(Script().on_exec("a", ["flaky"], [ExecResult(code, "") for code in (0, 1, 0)]))
    rest = EXEC.replace("true", "flaky") + SAY
    lab.ok(a(1) + rest)
    assert [outcome for outcome, _ in reasons(lab, a(2) + rest)] == ["updated", "failed"]
    assert reasons(lab, a(2) + rest) == [
        ("skipped", "already done"),
        ("executed", "it failed when it last ran"),
        ("skipped", "already done"),
    ]
