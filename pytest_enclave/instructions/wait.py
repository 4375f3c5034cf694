"""`plan.wait(service_name, recipe, field, assertion, target_value)`: try until it holds (behaviour.md §1.7)."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.instructions.condition import wait_until
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.recipe import describe, result_fields
from pytest_enclave.instructions.recipe_call import WithRecipe
from pytest_enclave.instructions.verify import target_problems
from pytest_enclave.plan import checks
from pytest_enclave.plan.comparison import ASSERTIONS
from pytest_enclave.plan.config_types import RECIPES
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.recipes import Condition, recipe_of
from pytest_enclave.plan.service import seconds
from pytest_enclave.plan.values import Value


class Wait(WithRecipe):
    """Carries out a recipe again and again, with growing pauses, until a field of its result is as it should be."""

    name = "wait"
    parameters = (
        Parameter("service_name", checks.NON_EMPTY_STRING, required=True),
        Parameter("recipe", checks.instance(*RECIPES), required=True),
        Parameter("field", checks.NON_EMPTY_STRING, required=True),
        Parameter("assertion", checks.one_of(ASSERTIONS), required=True),
        Parameter("target_value", checks.COMPARABLE, required=True),
        Parameter("interval", checks.duration(positive=True), default="1s"),
        Parameter("timeout", checks.duration(), default="10s"),
    )

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """The field must be one that the recipe yields, and the target must fit the assertion."""
        found = dict(target_problems(arguments))
        fields = result_fields(recipe_of(arguments["recipe"]))
        if arguments["field"] not in fields:
            found["field"] = f"must be one that the recipe yields: {', '.join(f'`{name}`' for name in fields)}"
        return found

    def execute(self, call: Instruction, context: Context) -> Result:
        """Try until it holds."""
        condition = Condition(
            recipe=recipe_of(call.get("recipe")),
            field=call.get("field"),
            assertion=call.get("assertion"),
            target=call.get("target_value"),
            interval=seconds(call.get("interval", "1s")),
            timeout=seconds(call.get("timeout", "10s")),
        )
        fields, tries = wait_until(context, call.get("service_name"), condition)
        counted = "1 try" if tries == 1 else f"{tries} tries"
        return Result(f"held after {counted}: {describe(fields)}", {call.producer: fields})
