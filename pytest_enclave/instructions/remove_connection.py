"""`plan.remove_connection(subnetworks)`: have the default connection between two subnetworks (behaviour.md §1.14)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.set_connection import PAIR, connection_between, pair_problems
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.world import World


class RemoveConnection(Defaults):
    """Removes an override; where there is none, or one of the subnetworks has no services, it does nothing."""

    name = "remove_connection"
    parameters = (Parameter("subnetworks", PAIR, required=True),)

    def footprint(self, call: Instruction) -> Footprint:
        """Settles the connection."""
        return Footprint(Replay.REPLACE, wiring=Wiring(frozenset(call.get("subnetworks")), None))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """Two subnetworks are meant."""
        return world, pair_problems(call)

    def execute(self, call: Instruction, context: Context) -> Result:
        """It is so already."""
        return Result(f"{connection_between(*call.get('subnetworks'))} is the default one, if both have services")
