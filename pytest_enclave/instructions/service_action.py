"""What `plan.start_service`, `plan.stop_service` and `plan.remove_service` share (behaviour.md §1.12)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Defaults
from pytest_enclave.instructions.service_checks import unknown_service
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.world import World


class ServiceAction(Defaults):
    """Acts on one existing service, by name."""

    parameters = (Parameter("name", checks.NON_EMPTY_STRING, required=True),)

    def footprint(self, call: Instruction) -> Footprint:
        """Acts on the service."""
        return Footprint(Replay.ACT, acts_on=frozenset({call.get("name")}))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist."""
        missing = unknown_service(call, call.get("name"), world)
        return world, [missing] if missing else []
