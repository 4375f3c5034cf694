"""`plan.assert(value, assertion, target_value)`, later named `plan.verify` (behaviour.md §1.4)."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.errors import VerifyFailed
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.plan import checks
from pytest_enclave.plan.comparison import ASSERTIONS, MEMBERSHIPS, ComparisonError, holds
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.values import Value, to_short_repr, type_name

TARGET = Parameter("target_value", checks.COMPARABLE, required=True, substitution=Substitution.TYPED)


def target_problems(arguments: Mapping[str, Value]) -> Mapping[str, str]:
    """IN and NOT_IN need something to look in."""
    assertion, target = arguments["assertion"], arguments["target_value"]
    if assertion in MEMBERSHIPS and not isinstance(target, (list, tuple, dict)):
        return {"target_value": f"must be a list for `{assertion}`, not {to_short_repr(target)} ({type_name(target)})"}
    return {}


class Verify(Defaults):
    """Compares a value with a target; types are compared too."""

    name = "verify"
    aliases = ("assert",)
    parameters = (
        Parameter("value", checks.STRING, required=True, substitution=Substitution.TYPED),
        Parameter("assertion", checks.one_of(ASSERTIONS), required=True),
        TARGET,
    )

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """The target must fit the assertion."""
        return target_problems(arguments)

    def footprint(self, call: Instruction) -> Footprint:
        """Depends on its resolved arguments alone."""
        return Footprint(Replay.COMPARE)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Compare."""
        value, assertion, target = (call.get(name) for name in ("value", "assertion", "target_value"))
        claim = f"{to_short_repr(value)} {assertion} {to_short_repr(target)}"
        try:
            met = holds(value, assertion, target)
        except ComparisonError as error:
            raise VerifyFailed(f"verify failed: {error}", value=value, assertion=assertion, target=target) from None
        if not met:
            raise VerifyFailed(f"verify failed: {claim} does not hold", value=value, assertion=assertion, target=target)
        return Result(f"{claim} holds")
