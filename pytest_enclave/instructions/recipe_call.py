"""`plan.exec` and `plan.request`: carry out a recipe once, and look at the code it ends with."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem, UnacceptableCode
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.recipe import carry_out, code_list, describe, describe_recipe, placeholders
from pytest_enclave.instructions.service_checks import recipe_problems
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.recipes import ExecRecipe, recipe_of
from pytest_enclave.plan.values import Value
from pytest_enclave.plan.world import World


class WithRecipe(Defaults):
    """Has the arguments `service_name` and `recipe`, and gives the recipe's result."""

    def returns(self, call: Instruction) -> Value:
        """A dict: the code, the text, and what is extracted; all of them future references."""
        return placeholders(recipe_of(call.get("recipe")), call.producer)

    def footprint(self, call: Instruction) -> Footprint:
        """Works in a running service."""
        return Footprint(Replay.OBSERVE, uses=frozenset({call.get("service_name")}))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist, and have the port."""
        return world, recipe_problems(call, call.get("service_name"), recipe_of(call.get("recipe")), world)


class RecipeCall(WithRecipe):
    """Carries out a recipe on a service; subclasses say which recipes and which codes."""

    acceptable: tuple[int, ...] = ()

    @staticmethod
    def takes(*kinds: str, acceptable: tuple[int, ...]) -> tuple[Parameter, ...]:
        """The parameters, for these kinds of recipe and these codes by default."""
        return (
            Parameter("service_name", checks.NON_EMPTY_STRING, required=True),
            Parameter("recipe", checks.instance(*kinds), required=True),
            Parameter("acceptable_codes", checks.list_of(checks.integer()), default=list(acceptable)),
            Parameter("skip_code_check", checks.BOOL, default=False),
        )

    def execute(self, call: Instruction, context: Context) -> Result:
        """Carry it out, then judge the code."""
        service, recipe = call.get("service_name"), recipe_of(call.get("recipe"))
        fields = carry_out(context, service, recipe, context.deadline)
        acceptable = call.get("acceptable_codes", list(self.acceptable))
        code = fields["code"]
        if not call.get("skip_code_check", False) and code not in acceptable:
            what = "exit code" if isinstance(recipe, ExecRecipe) else "status"
            raise UnacceptableCode(
                f"{describe_recipe(service, recipe)}: {what} {code} is not acceptable ({code_list(acceptable)})",
                service=service,
                code=code,
                acceptable=acceptable,
                output=fields["output"] if isinstance(recipe, ExecRecipe) else fields["body"],
                remedy="`acceptable_codes` or `skip_code_check` allow others" if code not in (126, 127) else "",
            )
        return Result(describe(fields), {call.producer: fields})
