"""`plan.get_cluster_type()`: what runs the services, in the words that packages expect (behaviour.md §1.15)."""

from __future__ import annotations

from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Value

CLUSTER_TYPE = "docker"
"""What packages ask for is whether they may rely on Kubernetes; no engine here has any of it."""


class GetClusterType(Defaults):
    """Gives `docker`, whatever the engine."""

    name = "get_cluster_type"

    def returns(self, call: Instruction) -> Value:
        """A plain string."""
        return CLUSTER_TYPE

    def footprint(self, call: Instruction) -> Footprint:
        """Touches nothing."""
        return Footprint(Replay.COMPARE)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Everything is known already."""
        return Result(CLUSTER_TYPE)
