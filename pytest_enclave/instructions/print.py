"""`plan.print(msg)`: say something while the plan executes (behaviour.md §1.8)."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.plan import checks
from pytest_enclave.plan.events import Printed
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.futures import Values, substitute_deep
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.values import Value, to_text


class Print(Defaults):
    """Prints a string raw, any other value as Starlark writes it."""

    name = "print"
    parameters = (Parameter("msg", checks.PRINTABLE, required=True, substitution=Substitution.TEXT),)

    def footprint(self, call: Instruction) -> Footprint:
        """Depends on its resolved message alone."""
        return Footprint(Replay.COMPARE)

    def resolve(self, call: Instruction, values: Values) -> Mapping[str, Value]:
        """References are replaced anywhere in the message, in the keys of its dicts as well."""
        return {**call.arguments, "msg": substitute_deep(call.get("msg"), values, keys=True)}

    def execute(self, call: Instruction, context: Context) -> Result:
        """Say it."""
        text = to_text(call.get("msg"))
        context.emit(Printed(text))
        return Result(text)
