"""`force_update`: a service that is replaced in each run, even where nothing has changed."""

from __future__ import annotations

import pytest

from tests.laboratory import Laboratory

A = 'plan.add_service("a", ServiceConfig(image = "img"){})\n'
BATCH = 'plan.add_services({{"a": ServiceConfig(image = "img"), "b": ServiceConfig(image = "img")}}{})\n'
FORCED = ", force_update = True"


def started(lab: Laboratory) -> list[list[str]]:
    """The names of the services of every start."""
    return [[spec.name for spec in call["specs"]] for call in lab.engine.sites["lab-0"].asked("start")]


def test_a_service_is_replaced_in_each_run_and_says_why(lab: Laboratory):
    steps = [lab.ok(A.format(FORCED)).instructions[0] for _ in range(3)]
    assert [(str(step.outcome), step.reason) for step in steps] == [
        ("executed", "new"),
        ("updated", "`force_update` is set"),
        ("updated", "`force_update` is set"),
    ]
    assert started(lab) == [["a"]] * 3
    assert lab.kept == ["add_service"]


def test_all_services_of_a_batch_are_replaced(lab: Laboratory):
    lab.ok(BATCH.format(""))
    assert lab.outcomes(BATCH.format("")) == ["skipped"]
    assert lab.outcomes(BATCH.format(FORCED)) == ["updated"]
    assert started(lab) == [["a", "b"]] * 2


@pytest.mark.parametrize("plan", [A, BATCH])
def test_without_it_or_with_false_nothing_is_replaced(lab: Laboratory, plan: str):
    lab.ok(plan.format(FORCED))
    assert lab.outcomes(plan.format(", force_update = False")) == ["skipped"]
    assert lab.outcomes(plan.format("")) == ["skipped"]
    assert lab.outcomes(plan.format(", False")) == ["skipped"]


def test_the_service_keeps_its_address(lab: Laboratory):
    plan = A.format(FORCED) + 'return plan.get_service("a").ip_address'
    assert lab.ok(plan).output == lab.ok(plan).output == "10.99.0.2"


@pytest.mark.parametrize("name", ["add_service", "add_services"])
def test_it_is_a_bool(lab: Laboratory, name: str):
    plan = {"add_service": A, "add_services": BATCH}[name]
    error = lab.error(plan.format(", force_update = 1"))
    assert error.message == f"{name}: `force_update` must be a bool, not 1 (int)"


def test_a_real_service_is_another_process_at_the_same_address(real: Laboratory):
    plan = (
        'plan.add_service("a", ServiceConfig(image = "enclave-test/busybox:local", cmd = ["sleep", "1000000"])'
        ", force_update = True)\n"
        'plan.exec("a", ExecRecipe(command = ["touch", "/mark"]))'
    )
    look = 'return plan.exec("a", ExecRecipe(command = ["ls", "/"]))["output"]'
    real.ok(plan)
    before = real.state.site.observe()["a"].ip_address
    assert real.outcomes(plan) == ["updated", "executed"]
    assert real.outcomes(plan.partition("\n")[0]) == ["updated"]
    assert "mark" not in real.ok(look).output
    assert real.state.site.observe()["a"].ip_address == before
