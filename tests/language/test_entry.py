"""What is told of how the main function is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.report.failure import render


@pytest.mark.parametrize("default", ["{'replicas': 3}", "struct(replicas = 3)", "DEFAULTS", "[]", "3"])
@pytest.mark.parametrize("args", [{}, {"replicas": 2}])
def test_a_default_of_all_arguments_is_not_used_in_the_main_file_and_that_is_told(
    plan_of: Callable[..., Any], default: str, args: Mapping[str, Any]
) -> None:
    plan = plan_of(f"DEFAULTS = {{'replicas': 5}}\n\ndef run(plan, args = {default}):\n    return args\n", args)
    assert plan.output == args
    (warning,) = plan.warnings
    assert (warning.subject, warning.severity, str(warning.location)) == ("run", "warning", "<source>:3:22")
    assert warning.message == (
        "the default of `args` is not used where this is the main file: `run(plan, args)` is given all arguments as "
        "one dict, an empty one where there are none"
    )
    assert warning.remedy == ("ask for each with `args.get(name, default)`, or declare a parameter for each argument")


@pytest.mark.parametrize("line", ["plan.print(args['a'])", "fail('no a')", "plan.add_service(1)"])
def test_it_is_told_too_where_there_is_no_plan_for_it(plan_of: Callable[..., Any], line: str) -> None:
    with pytest.raises(InterpretationError) as caught:
        plan_of(f"def run(plan, args = {{'a': 1}}):\n    {line}\n")
    (warning,) = caught.value.warnings
    assert str(warning.location) == "<source>:1:22"
    told = f"= warning: <source>:1:22: {warning.message} — {warning.remedy}\n"
    assert told in str(render(caught.value, verbose=True, width=300))


@pytest.mark.parametrize(
    "declared", ["args", "args = {}", "args={  }", "args = dict()", "args = struct()", "args = None"]
)
def test_a_default_that_says_nothing_is_not_told(plan_of: Callable[..., Any], declared: str) -> None:
    plan = plan_of(f"def run(plan, {declared}):\n    return args\n")
    assert (plan.output, plan.warnings) == ({}, ())


@pytest.mark.parametrize("rest", [", x = 1", ", *, x = 1", ", **rest"])
def test_beside_other_parameters_the_default_is_one_as_any_other(plan_of: Callable[..., Any], rest: str) -> None:
    plan = plan_of(f"def run(plan, args = {{'replicas': 3}}{rest}):\n    return args\n")
    assert (plan.output, plan.warnings) == ({"replicas": 3}, ())


def test_in_another_function_than_run_too(plan_of: Callable[..., Any]) -> None:
    plan = plan_of("def deploy(plan, args = {'replicas': 3}):\n    return args\n", main="deploy")
    assert (plan.output, plan.warnings) == ({"replicas": 3}, ())
