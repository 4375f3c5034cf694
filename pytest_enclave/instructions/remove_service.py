"""`plan.remove_service(name)`: remove a service; its name is free afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_action import ServiceAction
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Value
from pytest_enclave.plan.world import World

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft


class RemoveService(ServiceAction):
    """Removes a service, whether it runs or not."""

    name = "remove_service"

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """Nothing; the script cannot ask for the service any more."""
        draft.remove(call.get("name"), call.location)

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist, and does not afterwards."""
        world, found = super().check(call, world)
        return (world, found) if found else (world.without_service(call.get("name"), call.location), found)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Remove it."""
        context.site.act(call.get("name"), Action.REMOVE)
        return Result(f"service `{call.get('name')}` is removed")
