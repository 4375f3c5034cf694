"""`plan.get_services()`: all services that this script has added, or that the enclave has (behaviour.md §1.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_object import service_object
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Value

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft


class GetServices(Defaults):
    """Gives a list of `Service`s: those of earlier runs first, each group in the order in which they were added."""

    name = "get_services"

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """The services at this point of the script."""
        return [service_object(name, config) for name, config in draft.services().items()]

    def footprint(self, call: Instruction) -> Footprint:
        """Touches nothing: which services there are was known when the script was interpreted."""
        return Footprint(Replay.COMPARE)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Everything is known already."""
        listed = ", ".join(f"`{name}`" for name in context.services)
        return Result(f"services: {listed}" if listed else "there are no services")
