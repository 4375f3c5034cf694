"""`plan.update_service(name, config)`: move a service to another subnetwork, live (behaviour.md §1.14)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_checks import unknown_service
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.world import World


class UpdateService(Defaults):
    """Changes what can be changed of a service without restarting it: the subnetwork it is in."""

    name = "update_service"
    parameters = (
        Parameter("name", checks.NON_EMPTY_STRING, required=True),
        Parameter("config", checks.instance("UpdateServiceConfig"), required=True),
    )

    def footprint(self, call: Instruction) -> Footprint:
        """Puts the service into the subnetwork."""
        name = call.get("name")
        return Footprint(Replay.REPLACE, uses=frozenset({name}), joins={name: call.get("config").fields["subnetwork"]})

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist."""
        missing = unknown_service(call, call.get("name"), world)
        return world, [missing] if missing else []

    def execute(self, call: Instruction, context: Context) -> Result:
        """It is there already."""
        return Result(f"service `{call.get('name')}` is in subnetwork `{call.get('config').fields['subnetwork']}`")
